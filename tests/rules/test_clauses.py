"""Tests of `portfwd.rules.clauses`: what stands beneath a rule."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules import parse
from portfwd.rules.model import FilterSpec, TargetSpec
from tests.rules.grammars.test_native import codes, rule


def access(entries: object) -> list[tuple[bool, str]]:
    """Entries as pairs."""
    return [(entry.allow, entry.pattern) for entry in entries]  # type: ignore[attr-defined]


class AccessTests(SynchronousTestCase):
    """``allow`` and ``deny``."""

    def test_levels(self) -> None:
        """Before the first rule a line is global; after it the last rule read has it, indented or not."""
        found = parse(
            "allow 10.*\n:1 -> a:1\n  deny 1.2.3.4\nallow 2.* 3.*\n0 2 b 2\ndeny ::1\n  allow *", "f"
        )
        self.assertEqual(access(found.access), [(True, "10.*")])
        self.assertEqual(access(found.rules[0].access), [(False, "1.2.3.4"), (True, "2.*"), (True, "3.*")])
        self.assertEqual(access(found.rules[1].access), [(False, "::1"), (True, "*")])

    def test_after_directive(self) -> None:
        """A directive between does not free an access line from its rule, as in rinetd."""
        self.assertEqual(access(rule(":1 -> a:1\nlogcommon\nallow 10.*").access), [(True, "10.*")])

    def test_place(self) -> None:
        """Each pattern has its own place."""
        self.assertEqual(
            [str(e.where) for e in rule(":1 -> a:1\n  allow 1.* 2.*").access], ["f:2:9", "f:2:13"]
        )

    def test_good_beside_bad(self) -> None:
        """Every bad pattern of a line is told."""
        self.assertEqual(codes("allow x.y 10.* 300.300/8"), ["bad-pattern", "bad-pattern"])

    def test_oxidinetd_warning(self) -> None:
        """A file of lines of four words and two only is warned about once; any other line ends that."""
        plain = "0 1 a 1\nallow 10.*\ndeny 10.1.*\n0 2 a 1\nallow *\n"
        self.assertEqual(codes(plain), ["access-is-not-global"])
        for more in ("logfile x\n", ":3 -> a:1\n", "0 3 a 1 [src=10.0.0.1]\n", "allow 1.* 2.*\n"):
            self.assertEqual(codes(plain + more), [], more)
        self.assertEqual(codes("allow 10.*\n0 1 a 1\n"), [])


class FilterTests(SynchronousTestCase):
    """``filter``."""

    def test_uninterpreted(self) -> None:
        """Words and options are kept as text, in order, repeated ones too."""
        found = rule(':1 -> a:1\n  filter python:m.C a b=1 "c=d" b="2 3"\n  filter sni')
        self.assertEqual(
            found.filters,
            (FilterSpec("python:m.C", ("a", "c=d"), (("b", "1"), ("b", "2 3"))), FilterSpec("sni")),
        )
        self.assertEqual(str(found.filters[0].where), "f:2:10")

    def test_places(self) -> None:
        """Each word has its place, and each option one for its key and one for its value."""
        (found,) = rule(':1 -> a:1\n  filter x a b=1 "c d" e="2 3" f=').filters
        self.assertEqual([str(where) for where in found.word_places], ["f:2:12", "f:2:18"])
        self.assertEqual(
            [(str(key), key.length, str(value), value.length) for key, value in found.option_places],
            [("f:2:14", 1, "f:2:16", 1), ("f:2:24", 1, "f:2:26", 5), ("f:2:32", 1, "f:2:34", 1)],
        )

    def test_nameless(self) -> None:
        """A filter has a name."""
        self.assertEqual(codes(":1 -> a:1\n  filter version=2"), ["missing-argument"])
        self.assertEqual(codes(':1 -> a:1\n  filter ""'), ["missing-argument"])


class TargetTests(SynchronousTestCase):
    """``target``."""

    def test_named_and_not(self) -> None:
        """A target with a name is for routes; one without joins the rule's."""
        found = rule(":1 -> a:1\n  filter sni\n  route * -> c\n  target b:1\n  target c=d:1")
        self.assertEqual([t.host for t in found.targets], ["a", "b"])
        self.assertEqual([(t.name, t.host) for t in found.named_targets], [("c", "d")])

    def test_bad_address(self) -> None:
        """A wrong address is told at its place, and makes no second problem of its name."""
        self.assertEqual(codes(":1 -> a:1\n  filter sni\n  target c=d\n  route * -> c"), ["missing-port"])

    def test_close(self) -> None:
        """No target can be called close."""
        self.assertEqual(codes(":1 -> a:1\n  target close=d:1"), ["bad-name"])


class RouteTests(SynchronousTestCase):
    """``route``."""

    def test_kinds(self) -> None:
        """A route leads to an address, a name, or the close."""
        found = rule(
            ':1 -> a:1\n  filter sni\n  route "x y" *.z -> b:1\n'
            "  route q -> n\n  route * -> close\n  target n=c:1"
        )
        first, second, third = found.routes
        assert isinstance(first.target, TargetSpec)
        self.assertEqual((first.patterns, first.target.host), (("x y", "*.z"), "b"))
        self.assertEqual((second.target, third.target), ("n", None))
        self.assertEqual([str(where) for where in first.pattern_places], ["f:3:9", "f:3:15"])

    def test_wrong(self) -> None:
        """Pattern, arrow and target must be there, and the target must be an address or a name."""
        for line, code in (
            ("route", ["missing-argument", "missing-target"]),
            ("route *", ["missing-target"]),
            ("route * ->", ["missing-target"]),
            ("route -> a:1", ["missing-argument", "route-without-filter"]),
            ("route * -> a:1 b", ["route-without-filter", "unexpected-word"]),
            ("route * -> :1", ["missing-host"]),
        ):
            self.assertEqual(codes(f":1 -> a:1\n  {line}"), code, line)


class OwnerTests(SynchronousTestCase):
    """Which rule a clause belongs to."""

    def test_homeless(self) -> None:
        """Without a rule above, after a directive, or not indented, a clause is refused."""
        self.assertEqual(codes("  filter sni"), ["clause-without-rule"])
        self.assertEqual(codes(":1 -> a:1\nlogcommon\n  filter sni"), ["clause-without-rule"])
        self.assertEqual(codes(":1 -> a:1\nfilter sni"), ["clause-not-indented"])

    def test_between(self) -> None:
        """Blank lines, comments and access lines between do not matter; rinetd's rules have clauses too."""
        found = rule("0 1 a 1\n\n# x\nallow *\n   # y\n\tfilter sni")
        self.assertEqual([f.name for f in found.filters], ["sni"])
