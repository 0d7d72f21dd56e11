"""Tests of `portfwd.rules.whole_process`: the directives ``limits`` and ``metrics``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.limits.admission import NO_BOUNDS, Bounds
from portfwd.rules import parse, render
from portfwd.rules.model import Kind, ListenOptions, ListenSpec, PortRange, Ruleset
from portfwd.rules.whole_process import (
    metrics_listener,
    overall_limits,
    rule_bounds,
    shared_limits,
    shared_line,
    wants_figures,
)
from tests.rules.grammars.test_native import codes, rule
from tests.rules.test_include import MemoryFiles


def ruleset(text: str) -> Ruleset:
    """What a file with one rule says."""
    return parse(f"{text}\n:1 -> a:1\n", "f")


class LimitsTests(SynchronousTestCase):
    """``limits``."""

    def test_limits(self) -> None:
        """The limits of all rules together; without the line there are none."""
        self.assertEqual(overall_limits(ruleset("")), NO_BOUNDS)
        line = "limits max-conns=100 max-conns-per-source=5 rate-per-source=30/m on-limit=wait"
        self.assertEqual(overall_limits(ruleset(line)), Bounds(100, 5, None, 0.5, True))
        self.assertEqual(overall_limits(ruleset("limits max-conns=off")), NO_BOUNDS)

    def test_rules(self) -> None:
        """A rule has the same, and a rate."""
        options = rule(
            ":1 -> a:1 max-conns=1 max-conns-per-source=2 rate=3/s rate-per-source=4/s on-limit=wait"
        ).options
        self.assertEqual(rule_bounds(options), Bounds(1, 2, 3.0, 4.0, True))
        self.assertEqual(rule_bounds(rule(":1 -> a:1").options), NO_BOUNDS)

    def test_targets(self) -> None:
        """``max-conns-per-target`` is every target's, and a target may have its own."""
        found = rule(":1 -> a:1 max-conns-per-target=5\n  target b:1 max-conns-per-target=9\n")
        self.assertEqual([one.options.max_conns_per_target for one in found.targets], [5, 9])

    def test_wrong(self) -> None:
        """What no limit of all rules is, is said at its place."""
        for line, code, place in (
            ("limits", "missing-argument", "f:1:1"),
            ("limits 100", "unexpected-word", "f:1:8"),
            ("limits max-cons=5", "unknown-option", "f:1:8"),
            ("limits max-conns=0", "out-of-bounds", "f:1:18"),
            ("limits max-conns=1 max-conns=2", "duplicate-option", "f:1:20"),
            ("limits rate=5", "misplaced-option", "f:1:8"),
            ("limits backlog=5", "unknown-option", "f:1:8"),
        ):
            refusal = self.assertRaises(RulesError, ruleset, line)
            (problem,) = refusal.problems
            self.assertEqual((problem.code, str(problem.location)), (code, place), line)
        self.assertIn(
            "limits NAME rate=", self.assertRaises(RulesError, ruleset, "limits rate=5").problems[0].hint
        )
        self.assertIn(
            "default idle=", self.assertRaises(RulesError, ruleset, "limits idle=5s").problems[0].hint
        )

    def test_shared(self) -> None:
        """Limits with a name are those of the rules that name them; of one name the last line counts."""
        text = (
            "limits a max-conns=1 rate=2/s on-limit=wait\nlimits b max-conns-per-source=3\n"
            "limits max-conns=9\nlimits b max-conns=5\n:1 -> a:1 limit=a\n:2 -> a:1 limit=b\n"
        )
        self.assertEqual(codes(text), ["repeated-directive"])
        found = parse(text, "f")
        self.assertEqual(shared_limits(found), {"a": Bounds(1, None, 2.0, None, True), "b": Bounds(5)})
        self.assertEqual(overall_limits(found), Bounds(9))
        self.assertEqual([one.options.limit for one in found.rules], ["a", "b"])
        self.assertEqual(
            [shared_line(found, one) for one in found.rules], [*map(found.directives.__getitem__, (0, 3))]
        )
        self.assertEqual(parse(render(found), "again").directives, found.directives)

    def test_default(self) -> None:
        """``default limit=`` gives rules a share, ``limit=none`` takes it back."""
        found = parse("limits a max-conns=1\ndefault limit=a\n:1 -> a:1\n:2 -> a:1 limit=none\n", "f")
        self.assertEqual([one.options.limit for one in found.rules], ["a", None])
        self.assertIs(shared_line(found, found.rules[1]), None)

    def test_shared_wrong(self) -> None:
        """What is no name and no limit of several rules is said at its place."""
        rest = "\n:1 -> a:1 limit=a"
        for text, code, place in (
            (f"limits a{rest}", "missing-argument", "f:1:1"),
            (f"limits a max-cons=5{rest}", "unknown-option", "f:1:10"),
            (f"limits a max-conns=0{rest}", "out-of-bounds", "f:1:20"),
            (f"limits a bandwidth=1MiB{rest}", "misplaced-option", "f:1:10"),
            (f"limits a b max-conns=1{rest}", "unexpected-word", "f:1:10"),
            ("limits none max-conns=1\n:1 -> a:1", "bad-name", "f:1:8"),
            ("limits max-conns=1\n:1 -> a:1 limit=a", "unknown-limit", "f:2:11"),
            ("limits a max-conns=1\ndefault limit=b\n:1 -> a:1\n:2 -> a:1 limit=a", "unknown-limit", "f:2:9"),
            ("limits a max-conns=1\n:1 -> a:1 limit=a:b", "bad-name", "f:2:17"),
        ):
            refusal = self.assertRaises(RulesError, parse, text, "f")
            problem = refusal.problems[-1]
            self.assertEqual((problem.code, str(problem.location)), (code, place), text)

    def test_near(self) -> None:
        """A name that is nearly another one's is told."""
        refusal = self.assertRaises(RulesError, parse, "limits backend rate=1\n:1 -> a:1 limit=bakend", "f")
        self.assertEqual(
            [problem.hint for problem in refusal.problems if problem.code == "unknown-limit"],
            ["did you mean 'backend'?"],
        )

    def test_repeated(self) -> None:
        """The last line counts, as a whole, with a warning."""
        text = "limits max-conns=1\nlimits rate-per-source=1/s\n:1 -> a:1"
        self.assertEqual(codes(text), ["repeated-directive"])
        self.assertEqual(overall_limits(parse(text, "f")), Bounds(rate_per_source=1.0))


class MetricsTests(SynchronousTestCase):
    """``metrics``."""

    def test_listener(self) -> None:
        """A TCP port or a unix socket; without the line there is none."""
        self.assertIs(metrics_listener(ruleset("")), None)
        for line, spec in (
            ("metrics 127.0.0.1:9100", ListenSpec(Kind.TCP, "127.0.0.1", PortRange(9100, 9100))),
            ("metrics :9100", ListenSpec(Kind.TCP, "", PortRange(9100, 9100))),
            ("metrics [::1]:9100", ListenSpec(Kind.TCP, "::1", PortRange(9100, 9100))),
            ("metrics unix:/run/m", ListenSpec(Kind.UNIX, path="/run/m")),
            (
                'metrics unix:"/run/a b" mode=0660',
                ListenSpec(Kind.UNIX, path="/run/a b", options=ListenOptions(mode=0o660)),
            ),
        ):
            found = ruleset(line)
            self.assertEqual(metrics_listener(found), spec, line)
            self.assertEqual(metrics_listener(parse(render(found), "again")), spec, line)

    def test_service(self) -> None:
        """A service's name is its port."""
        files = MemoryFiles({})
        files.port_of_service = lambda name, protocol: 80  # type: ignore[method-assign]
        found = parse("metrics 127.0.0.1:http\n:1 -> a:1", "f", files)
        listener = metrics_listener(found)
        assert listener is not None
        self.assertEqual(listener.ports, PortRange(80, 80))

    def test_wrong(self) -> None:
        """What cannot be such a listener is said at its place."""
        for line, code, place in (
            ("metrics", "missing-argument", "f:1:1"),
            ("metrics mode=0600", "missing-argument", "f:1:1"),
            ("metrics 127.0.0.1", "missing-port", "f:1:9"),
            ("metrics 127.0.0.1:9100-9101", "bad-address", "f:1:9"),
            ("metrics udp:127.0.0.1:9100", "bad-address", "f:1:9"),
            ("metrics 127.0.0.1:9100 mode=0600", "option-does-not-fit", "f:1:24"),
            ("metrics 127.0.0.1:9100 path=/x", "unknown-option", "f:1:24"),
            ("metrics 127.0.0.1:9100 127.0.0.2:9100", "unexpected-word", "f:1:24"),
        ):
            refusal = self.assertRaises(RulesError, ruleset, line)
            (problem,) = refusal.problems
            self.assertEqual((problem.code, str(problem.location)), (code, place), line)

    def test_who_asks(self) -> None:
        """Sessions are only counted where somebody can ask."""
        self.assertFalse(wants_figures(ruleset("limits max-conns=1")))
        self.assertTrue(wants_figures(ruleset("metrics 127.0.0.1:9100")))
