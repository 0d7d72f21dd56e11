"""Tests of `portfwd.rules.queries.explain`: which rule, which entry, which targets."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Location
from portfwd.rules.access import Decision
from portfwd.rules.model import (
    AclEntry,
    Balance,
    Kind,
    ListenOptions,
    ListenSpec,
    Options,
    PortRange,
    RouteSpec,
    Rule,
    Ruleset,
    TargetSpec,
)
from portfwd.rules.queries.explain import Choice, RouteChoice, explain


def at(line: int) -> Location:
    """A place in the file."""
    return Location("rules.conf", line)


def listen(
    host: str, first: int, last: int = 0, kind: Kind = Kind.TCP, v6only: bool | None = None
) -> ListenSpec:
    """Make a listener with ports."""
    return ListenSpec(kind, host, PortRange(first, last or first), options=ListenOptions(v6only=v6only))


def target(host: str, port: int, last: int = 0, line: int = 1, kind: Kind = Kind.TCP) -> TargetSpec:
    """Make a target with ports."""
    return TargetSpec(kind, host, PortRange(port, last or port), where=at(line))


def rule(name: str, spec: ListenSpec, line: int = 1, **more: object) -> Rule:
    """Make a rule with one target."""
    more.setdefault("targets", (target("10.0.0.5", 80, line=line),))
    return Rule(name, spec, where=at(line), **more)  # type: ignore[arg-type]


class FindTests(SynchronousTestCase):
    """Which rule takes the connection."""

    def found(self, rules: list[Rule], asked: str, client: str = "192.0.2.1") -> str | None:
        """Name the rule that is found."""
        explanation = explain(Ruleset(tuple(rules)), client, asked)
        return explanation.rule.name if explanation.rule else None

    def test_name(self) -> None:
        """A rule's name finds it, before an address is looked for."""
        rules = [rule("web", listen("", 8080)), rule("odd:8080", listen("", 1))]
        self.assertEqual(self.found(rules, "web"), "web")
        self.assertEqual(self.found(rules, "odd:8080"), "odd:8080")

    def test_port(self) -> None:
        """A port finds the rule whose range holds it, if the client's family can reach it."""
        rules = [
            rule("four", listen("0.0.0.0", 80)),
            rule("six", listen("::", 80)),
            rule("range", listen("", 90, 99)),
        ]
        self.assertEqual(self.found(rules, ":80"), "four")
        self.assertEqual(self.found(rules, ":80", "2001:db8::1"), "six")
        self.assertEqual(self.found(rules, ":80", "::ffff:192.0.2.1"), "four")
        self.assertEqual(self.found(rules, "*:95"), "range")
        self.assertIsNone(self.found(rules, ":100"))
        self.assertIsNone(self.found([rules[1]], ":80"))

    def test_most_exact(self) -> None:
        """The address itself beats the family's wildcard, which beats the dual-stack one."""
        rules = [
            rule("both", listen("", 80)),
            rule("four", listen("0.0.0.0", 80)),
            rule("one", listen("10.0.0.1", 80)),
        ]
        self.assertEqual(self.found(rules, "10.0.0.1:80"), "one")
        self.assertEqual(self.found(rules, "[::ffff:10.0.0.1]:80"), "one")
        self.assertEqual(self.found(rules, "10.0.0.2:80"), "four")
        self.assertEqual(self.found(rules, "[2001:db8::1]:80"), "both")
        self.assertEqual(self.found(rules, ":80"), "both")
        self.assertEqual(self.found(rules[1:], ":80"), "four")
        self.assertEqual(self.found(rules[2:], ":80"), "one")
        self.assertIsNone(self.found(rules[2:], ":80", "2001:db8::1"))
        self.assertIsNone(self.found(rules[2:], "10.0.0.2:80"))

    def test_v6only(self) -> None:
        """``v6only=`` opens and closes an IPv6 wildcard for IPv4 clients."""
        self.assertIsNone(self.found([rule("r", listen("", 80, v6only=True))], "10.0.0.1:80"))
        self.assertEqual(self.found([rule("r", listen("", 80, v6only=True))], ":80", "2001:db8::1"), "r")
        self.assertEqual(self.found([rule("r", listen("::", 80, v6only=False))], "10.0.0.1:80"), "r")

    def test_names_of_hosts(self) -> None:
        """A listener on a host name is found by the name, or by the port alone."""
        rules = [rule("r", listen("gate.example", 80))]
        self.assertEqual(self.found(rules, "Gate.Example:80"), "r")
        self.assertEqual(self.found(rules, ":80"), "r")
        self.assertIsNone(self.found(rules, "10.0.0.1:80"))

    def test_protocols(self) -> None:
        """TCP is looked for before UDP; a suffix or prefix says which is meant."""
        rules = [
            rule("udp", listen("", 53, kind=Kind.UDP)), rule("tcp", listen("", 53)),
            rule("tls", listen("", 443, kind=Kind.TLS)),
        ]  # fmt: skip
        self.assertEqual(self.found(rules, ":53"), "tcp")
        self.assertEqual(self.found(rules, ":53/tcp"), "tcp")
        self.assertEqual(self.found(rules, ":53/udp"), "udp")
        self.assertEqual(self.found(rules, "udp::53"), "udp")
        self.assertEqual(self.found(rules[:1], ":53"), "udp")
        self.assertEqual(self.found(rules, ":443"), "tls")
        self.assertIsNone(self.found(rules, "tcp::443"))

    def test_others(self) -> None:
        """Rules on the same port that do not take the connection are named."""
        rules = (rule("both", listen("", 80)), rule("one", listen("10.0.0.1", 80)), rule("x", listen("", 81)))
        explanation = explain(Ruleset(rules), "192.0.2.1", "10.0.0.1:80")
        self.assertEqual(explanation.others, rules[:1])

    def test_paths(self) -> None:
        """Unix sockets, systemd's and endpoints are found by what they name."""
        rules = [
            rule("u", ListenSpec(Kind.UNIX, path="/run/x")),
            rule("s", ListenSpec(Kind.SYSTEMD, path="web")),
            rule("e", ListenSpec(Kind.ENDPOINT, path="tcp:80")),
        ]
        self.assertEqual(self.found(rules, "unix:/run/x", "unix"), "u")
        self.assertEqual(self.found(rules, "unix:/run/./x", "unix"), "u")
        self.assertEqual(self.found(rules, "systemd:web"), "s")
        self.assertEqual(self.found(rules, 'endpoint:"tcp:80"'), "e")
        self.assertIsNone(self.found(rules, "unix:/run/y"))

    def test_unreadable(self) -> None:
        """What is no address is refused with a message that shows how to write one."""
        ruleset = Ruleset((rule("web", listen("", 80)),))
        for client, asked, part in (
            ("example.com", ":80", "is no address"),
            ("10.0.0.1", "wbe", "no rule's name"),
            ("10.0.0.1", ":65536", "no listen address"),
            ("10.0.0.1", ":http", "no listen address"),
            ("unix", ":80", "has an address"),
        ):
            error = self.assertRaises(ValueError, explain, ruleset, client, asked)
            self.assertIn(part, str(error))


class AnswerTests(SynchronousTestCase):
    """What is said about access and targets."""

    allowed = AclEntry(allow=True, pattern="192.168.1.*", where=at(3))
    denied = AclEntry(allow=False, pattern="192.168.1.66", where=at(4))

    def test_refused(self) -> None:
        """A refused client is told step and entry, and no target is tried."""
        ruleset = Ruleset((rule("web", listen("", 80), access=(self.allowed, self.denied)),))
        explanation = explain(ruleset, "::ffff:192.168.1.66", ":80")
        self.assertEqual(explanation.decision, Decision(allowed=False, step=4, entry=self.denied))
        self.assertEqual((explanation.client, explanation.targets), ("192.168.1.66", ()))
        assert explanation.decision is not None
        assert explanation.decision.entry is not None
        self.assertEqual(explanation.decision.entry.where, at(4))

    def test_none_matched(self) -> None:
        """Where no allow matched, those that were asked are named, of the level that refused."""
        other = AclEntry(allow=True, pattern="10.0.0.0/8", where=at(1))
        own = explain(
            Ruleset((rule("web", listen("", 80), access=(self.allowed, self.denied)),)), "9.9.9.9", ":80"
        )
        self.assertEqual(own.asked, (self.allowed,))
        both = Ruleset((rule("web", listen("", 80), access=(self.allowed,)),), access=(other,))
        self.assertEqual(explain(both, "9.9.9.9", ":80").asked, (other,))

    def test_targets(self) -> None:
        """Every target is named with its place and the port that belongs to the listener's."""
        ranged = rule(
            "lab", listen("", 8000, 8010), options=Options(balance=Balance.RANDOM),
            targets=(target("10.0.0.7", 9000, 9010, line=5), target("2001:db8::7", 9100, 9110, line=6)),
        )  # fmt: skip
        explanation = explain(Ruleset((ranged,)), "10.0.0.1", ":8003")
        self.assertEqual(
            explanation.targets, (Choice("10.0.0.7:9003", at(5)), Choice("[2001:db8::7]:9103", at(6)))
        )
        self.assertEqual(explanation.balance, Balance.RANDOM)
        self.assertEqual(explain(Ruleset((ranged,)), "10.0.0.1", "lab").targets[0].address, "10.0.0.7:9000")

    def test_routes(self) -> None:
        """Routes are named with what they lead to: a spec, a named target, or close."""
        routed = rule(
            "tls", listen("", 443),
            named_targets=(TargetSpec(Kind.TCP, "10.0.0.6", PortRange(443, 443), name="git", where=at(9)),),
            routes=(
                RouteSpec(("a", "b"), target("10.0.0.5", 443, line=6), at(6)),
                RouteSpec(("git",), "git", at(7)),
                RouteSpec(("*",), None, at(8)),
            ),
        )  # fmt: skip
        self.assertEqual(
            explain(Ruleset((routed,)), "10.0.0.1", ":443").route_choices,
            (
                RouteChoice(("a", "b"), Choice("10.0.0.5:443", at(6)), at(6)),
                RouteChoice(("git",), Choice("10.0.0.6:443", at(9)), at(7)),
                RouteChoice(("*",), None, at(8)),
            ),
        )

    def test_unix(self) -> None:
        """On a unix socket entries that do not name it do not hold, whoever is asked about."""
        ruleset = Ruleset((rule("db", ListenSpec(Kind.UNIX, path="@db"), access=(self.allowed,)),))
        for client in ("unix", "9.9.9.9"):
            explanation = explain(ruleset, client, "unix:@db")
            assert explanation.decision is not None
            self.assertTrue(explanation.decision.allowed)
            self.assertEqual(len(explanation.targets), 1)

    def test_named_unix(self) -> None:
        """Entries that name ``unix`` hold there, and for a client without an address of any listener."""
        denied = AclEntry(False, "unix", at(9))
        unix, socket = ListenSpec(Kind.UNIX, path="@db"), ListenSpec(Kind.SYSTEMD, path="web")
        ruleset = Ruleset((rule("db", unix, access=(denied,)), rule("web", socket, access=(denied,))))
        for client, name, allowed in (
            ("unix", "db", False),
            ("9.9.9.9", "db", False),
            ("unix", "web", False),
            ("9.9.9.9", "web", True),
        ):
            explanation = explain(ruleset, client, name)
            assert explanation.decision is not None
            self.assertEqual(explanation.decision.allowed, allowed, (client, name))
            self.assertEqual(explanation.decision.entry, None if allowed else denied)

    def test_single_port(self) -> None:
        """A target without a range keeps its port whatever the listener's is."""
        ranged = rule("lab", listen("", 8000, 8010))
        self.assertEqual(explain(Ruleset((ranged,)), "10.0.0.1", ":8003").targets[0].address, "10.0.0.5:80")
