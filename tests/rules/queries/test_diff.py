"""What is different between two rulesets, as values and as lines for people."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules import parse
from portfwd.rules.queries.diff import Difference, difference, headline

ONE = "a: :80 -> 10.0.0.1:80\n"


def between(before: str, after: str) -> Difference:
    """The difference of two texts."""
    return difference(parse(before, "x.conf"), parse(after, "x.conf"))


def lines(before: str, after: str) -> list[str]:
    """Its lines."""
    return list(between(before, after).lines())


class RuleTests(SynchronousTestCase):
    """Which rule is which."""

    def test_nothing(self) -> None:
        """Equal texts have no difference, and neither have rules that only stand elsewhere."""
        for after in (ONE, f"# a comment\n\n{ONE}", ONE.replace(" ->", "   ->")):
            found = between(ONE, after)
            self.assertFalse(found)
            self.assertEqual((found.unchanged, list(found.lines())), (1, []))
            self.assertEqual(str(found), "rules: 1 unchanged")
        self.assertEqual(str(between("log access=off", "log access=off")), "rules: none")

    def test_added_and_removed(self) -> None:
        """A rule that only one of them has, with its listener and targets; no options."""
        found = between(ONE, "b: :81 -> 10.0.0.1:1, 10.0.0.2:2 idle=1m\n127.0.0.1:82 -> 10.0.0.3:3")
        self.assertTrue(found)
        self.assertEqual(
            list(found.lines()),
            [
                "- a: :80 -> 10.0.0.1:80",
                "+ b: :81 -> 10.0.0.1:1, 10.0.0.2:2",
                "+ 127.0.0.1:82 -> 10.0.0.3:3",
            ],
        )
        self.assertEqual(str(found), "rules: 2 added, 1 removed")

    def test_renamed(self) -> None:
        """The same listener under another name is the same rule."""
        self.assertEqual(lines(ONE, ONE.replace("a:", "web:")), ["~ web: was called a"])
        self.assertEqual(lines(ONE, ":80 -> 10.0.0.1:80"), ["~ :80: was called a"])

    def test_moved(self) -> None:
        """The same name on another listener is the same rule, even where another rule takes the old place."""
        self.assertEqual(
            lines(ONE, "a: :81 -> 10.0.0.1:80\nb: :80 -> 10.0.0.1:80"),
            ["~ a: listener :80 -> :81", "+ b: :80 -> 10.0.0.1:80"],
        )

    def test_swapped(self) -> None:
        """Two rules that swapped their names are told by their names."""
        two = "a: :1 -> 10.0.0.1:1\nb: :2 -> 10.0.0.1:1\n"
        self.assertEqual(
            lines(two, two.replace(":1 ->", ":3 ->").replace(":2 ->", ":1 ->").replace(":3 ->", ":2 ->")),
            ["~ a: listener :1 -> :2", "~ b: listener :2 -> :1"],
        )


class ChangeTests(SynchronousTestCase):
    """What of a rule is not the same: names and values of options, never what filters were told."""

    def changed(self, before: str, after: str) -> list[str]:
        """What is said of the one rule."""
        (change,) = between(before, after).changed
        self.assertTrue(change.what)
        return list(change.what)

    def test_options(self) -> None:
        """Each option with what it was and what it is."""
        self.assertEqual(
            self.changed(
                "a: 127.0.0.1:80 backlog=5 -> 10.0.0.1:80 idle=5m",
                "a: 127.0.0.1:80 -> 10.0.0.1:80 max-conns=7 on-remove=cut",
            ),
            ["backlog 5 -> system", "idle 5m -> off", "max-conns off -> 7", "on-remove stay -> cut"],
        )

    def test_targets(self) -> None:
        """Other targets are told in full; other options of one are only mentioned."""
        self.assertEqual(
            self.changed(ONE, "a: :80 -> 10.0.0.1:80, 10.0.0.2:80"),
            ["targets 10.0.0.1:80 -> 10.0.0.1:80, 10.0.0.2:80"],
        )
        two = ONE + "    target 10.0.0.2:80{}\n"
        self.assertEqual(
            self.changed(two.format(""), two.format(" connect-timeout=1s")), ["options of a target"]
        )

    def test_option_of_the_rule_alone(self) -> None:
        """An option of the rule, which each of its targets inherits, is told once."""
        self.assertEqual(
            self.changed(ONE, "a: :80 -> 10.0.0.1:80 connect-timeout=1s"), ["connect-timeout 5s -> 1s"]
        )

    def test_access(self) -> None:
        """Of access lists, how many entries came and went; of one that is only sorted anew, that it is."""
        before = ONE + "    allow 10.0.0.0/8 192.168.0.0/16\n"
        self.assertEqual(
            self.changed(before, ONE + "    allow 10.0.0.0/8\n    deny 10.1.1.1\n"),
            ["allow and deny: 1 added, 1 removed"],
        )

    def test_filters(self) -> None:
        """Other filters by name; other options of the same ones only by name: they may be secret."""
        self.assertEqual(self.changed(ONE, ONE + "    filter hexdump\n"), ["filters none -> hexdump"])
        said = self.changed(
            ONE + "    filter hexdump max=100\n    filter sniff\n",
            ONE + "    filter hexdump max=200\n    filter sniff\n",
        )
        self.assertEqual(said, ["options of filter hexdump"])

    def test_routes(self) -> None:
        """How many routes are not the same, or that a target behind their names is not."""
        routed = ONE + "    filter sni\n    route a.example -> 10.0.0.2:80\n"
        self.assertEqual(
            self.changed(routed, routed + "    route b.example -> 10.0.0.3:80\n"),
            ["routes: 1 not the same"],
        )
        named = ONE + "    filter sni\n    route a.example -> t\n    target t={}:80\n"
        self.assertEqual(
            self.changed(named.format("10.0.0.2"), named.format("10.0.0.9")), ["targets of routes"]
        )


class SettingTests(SynchronousTestCase):
    """What is no rule's own."""

    def test_log(self) -> None:
        """Form and file."""
        self.assertEqual(
            lines(ONE, f"log access=json file=/var/x.log\n{ONE}"),
            ["* log text on standard output -> json /var/x.log"],
        )

    def test_others(self) -> None:
        """Access for all, pid file, and directives by their names; they stand in the summary too."""
        found = between(ONE, f"deny 10.0.0.1\npidlogfile /run/x\nmetrics 127.0.0.1:1\n{ONE}")
        self.assertEqual(
            list(found.lines()),
            [
                "* allow and deny: 1 added, 0 removed",
                "* pid file none -> /run/x",
                "* the directive 'metrics'",
            ],
        )
        self.assertEqual(found.directives, ("metrics",))
        self.assertEqual(
            str(found),
            "rules: 1 unchanged; changed for all: allow and deny: 1 added, 0 removed, "
            "pid file none -> /run/x, the directive 'metrics'",
        )

    def test_shared_limits(self) -> None:
        """Limits that rules share are told by their names, those of all rules apart from them."""
        before = f"limits max-conns=9\nlimits a rate=1\nlimits b rate=1\n{ONE.strip()} limit=a\n"
        after = f"limits max-conns=9\nlimits a rate=2\nlimits b rate=1\n{ONE.strip()} limit=b\n"
        found = between(before, after)
        self.assertEqual(list(found.lines()), ["* the directive 'limits a'", "~ a: limit a -> b"])
        self.assertEqual(found.directives, ("limits",))

    def test_same_directive(self) -> None:
        """A directive that is the same is not told."""
        self.assertEqual(lines(f"metrics 127.0.0.1:1\n{ONE}", f"metrics 127.0.0.1:1\n{ONE}\n"), [])


NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


class CountTests(SynchronousTestCase):
    """Nothing is counted twice and nothing is left out."""

    @settings(max_examples=60, deadline=None)
    @given(NAMES, NAMES, st.sets(st.sampled_from("abcdefgh")))
    def test_every_rule_is_told_once(self, before: list[str], after: list[str], other: set[str]) -> None:
        """Each rule of the old text is removed, changed or unchanged; the others of the new one are added."""

        def text(names: list[str], idle: set[str]) -> str:
            return "log access=off\n" + "".join(
                f"{name}: :{1000 + ord(name)} -> 10.0.0.1:1{' idle=7s' if name in idle else ''}\n"
                for name in names
            )

        found = between(text(before, set()), text(after, other))
        self.assertEqual([rule.name for rule in found.added], [one for one in after if one not in before])
        self.assertEqual([rule.name for rule in found.removed], [one for one in before if one not in after])
        both = [one for one in after if one in before]
        self.assertEqual([one.after.name for one in found.changed], [one for one in both if one in other])
        self.assertEqual(found.unchanged, len(both) - len(found.changed))

    def test_headline(self) -> None:
        """A rule without a name of its own is called by its listener, once."""
        for text, line in ((ONE, "a: :80 -> 10.0.0.1:80"), (":80 -> 10.0.0.1:80", ":80 -> 10.0.0.1:80")):
            (rule,) = parse(text, "x.conf").rules
            self.assertEqual(headline(rule), line)
