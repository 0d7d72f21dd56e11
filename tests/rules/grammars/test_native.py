"""Tests of `portfwd.rules.grammars.native`, `portfwd.rules.settings`: the line of a rule."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import parse
from portfwd.rules.model import Balance, Kind, ListenOptions, Options, PortRange, Rule


def rule(text: str) -> Rule:
    """The one rule of a text."""
    (found,) = parse(text, "f").rules
    return found


def codes(text: str) -> list[str]:
    """What is wrong with a text."""
    try:
        return [problem.code for problem in parse(text, "f").warnings]
    except RulesError as error:
        return [problem.code for problem in error.problems]


class RuleTests(SynchronousTestCase):
    """Good rules."""

    def test_smallest(self) -> None:
        """Listen and target are enough; the name is the listen address."""
        found = rule(":8080 -> 10.0.0.5:80")
        self.assertEqual(
            (found.name, found.listen.host, found.listen.ports), (":8080", "", PortRange(8080, 8080))
        )
        self.assertEqual([(t.host, t.ports) for t in found.targets], [("10.0.0.5", PortRange(80, 80))])
        self.assertEqual((found.options, found.listen.options), (Options(), ListenOptions()))

    def test_name(self) -> None:
        """A name ends with a colon and a blank; it may be the word of a prefix."""
        self.assertEqual(rule("web: :80 -> a:80").name, "web")
        self.assertEqual(rule("tls:  :443 -> a:80").name, "tls")
        self.assertEqual(rule("tls:  :443 -> a:80").listen.kind, Kind.TCP)
        self.assertEqual(rule("unix: unix:/x -> a:80").listen.path, "/x")
        self.assertEqual(rule("_a.b-c9: :80 -> a:80").name, "_a.b-c9")

    def test_commas(self) -> None:
        """Blanks around the commas between targets do not matter."""
        for text in ("a:1,b:2,c:3", "a:1, b:2, c:3", "a:1 ,b:2 , c:3", "a:1 , b:2,c:3"):
            self.assertEqual([t.host for t in rule(f":80 -> {text}").targets], ["a", "b", "c"], text)

    def test_quoted_comma(self) -> None:
        """A comma inside quotes separates nothing."""
        found = rule(':80 -> unix:"/a,b",endpoint:"c,d" , e:5')
        self.assertEqual([t.path or t.host for t in found.targets], ["/a,b", "c,d", "e"])

    def test_sides(self) -> None:
        """Options before the arrow are the listener's, those after it the rule's and its targets'."""
        found = rule("unix:/a mode=0640 backlog=5 -> a:1, b:2 idle=5m balance=random connect-timeout=1s")
        self.assertEqual(found.listen.options, ListenOptions(mode=0o640, backlog=5))
        self.assertEqual(found.options, Options(idle=300.0, balance=Balance.RANDOM, connect_timeout=1.0))
        self.assertEqual([t.options for t in found.targets], [found.options] * 2)

    def test_alpn_on_both_sides(self) -> None:
        """The same key means the listener's before the arrow and the target's after it."""
        found = rule("tls::443 alpn=h2 -> tls:a:443 alpn=http/1.1")
        self.assertEqual((found.listen.options.alpn, found.options.target_alpn), (("h2",), ("http/1.1",)))

    def test_places(self) -> None:
        """Rule, listener, targets and options know their line, column and length."""
        found = rule("# one\n  web: :8080 backlog=5 -> a:1, b:22 idle=5m")
        self.assertEqual([str(found.where), str(found.listen.where)], ["f:2:3", "f:2:8"])
        self.assertEqual([str(t.where) for t in found.targets], ["f:2:27", "f:2:32"])
        self.assertEqual(
            {name: str(where) for name, where in found.places}, {"backlog": "f:2:14", "idle": "f:2:37"}
        )
        self.assertEqual(dict(found.places)["idle"].length, 7)

    def test_written(self) -> None:
        """What rinetd's logs print is what stands in the file."""
        self.assertEqual(rule("[::1]:8080 -> a:80, b:81").written, ("::1", "8080", "a", "80"))
        self.assertEqual(rule(":8080 -> unix:/a").written, ("*", "8080", "unix:/a", ""))

    def test_line_ends(self) -> None:
        """CRLF, no end at the end, and a byte order mark are accepted; a lone CR is not."""
        self.assertEqual(len(parse("\ufeff:80 -> a:1\r\n\r\n:81 -> a:1", "f").rules), 2)
        self.assertEqual(codes(":80 -> a:1\r:81 -> a:1"), ["bad-character"])


class BrokenRuleTests(SynchronousTestCase):
    """Wrong rules; the texts of the problems are in the golden files."""

    def test_all_at_once(self) -> None:
        """Every problem of a line is told, from the listener to the last option."""
        self.assertEqual(
            codes(":99999 backlog=0 ilde=1 -> a, :0 idle=x idle"),
            [
                "bad-port",
                "out-of-bounds",
                "unknown-option",
                "missing-port",
                "port-zero",
                "bad-value",
                "unexpected-word",
            ],
        )

    def test_no_echo(self) -> None:
        """What stands beneath a wrong rule is checked, but not called homeless."""
        self.assertEqual(
            codes(":99999 -> a:1\n    allow nonsense\n    filter\n    route * -> nowhere\n"),
            ["bad-port", "bad-pattern", "missing-argument"],
        )

    def test_own_failure_only(self) -> None:
        """A rule after a wrong one is still taken, and clashes with others."""
        self.assertEqual(codes(":1 -> a\n:2 -> a:1\n:2 -> a:1"), ["missing-port", "listen-clash"])

    def test_word_hints(self) -> None:
        """A word that is no option says how options are written."""
        for text, hint in (
            (":80 -> a:1 idle=5m nodelay", "write nodelay=VALUE"),
            (":80 -> a:1 backup", "write backup=VALUE"),
            (":80 -> a:1 check", "write a line 'check tcp' beneath the rule"),
            (":80 -> a:1, b:2 c:3", "write b:2, c:3"),
            (":80 -> a:1 idle=5m linger =5s", "write linger=5s"),
            (":80 -> a:1 idle=5m linger= 5s", "write linger=5s"),
            (":80 idle = 5m -> a:1", "write idle=5m"),
            (":80 -> a:1 idle=5m x", "options are written KEY=VALUE"),
        ):
            error = self.assertRaises(RulesError, parse, text, "f")
            self.assertIn(hint, [problem.hint for problem in error.problems], text)

    def test_arrow_in_quotes(self) -> None:
        """A quoted arrow is no arrow."""
        self.assertEqual(codes(':80 "->" a:1'), ["bad-rule"])
