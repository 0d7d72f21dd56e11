"""Tests of `portfwd.rules.advice`: valid, but perhaps not meant."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Location, Problem, Severity
from portfwd.rules.advice import advise
from portfwd.rules.model import (
    AclEntry,
    Framing,
    Kind,
    ListenSpec,
    Options,
    PortRange,
    RouteSpec,
    Rule,
    Ruleset,
    TargetSpec,
)

PLAIN = TargetSpec(Kind.TCP, "10.0.0.5", PortRange(80, 80))
LISTEN = ListenSpec(Kind.TCP, "", PortRange(80, 80))


def at(line: int) -> Location:
    """A place in the file."""
    return Location("rules.conf", line)


def insecure(line: int) -> TargetSpec:
    """A TLS target whose certificate is not checked."""
    return TargetSpec(Kind.TLS, "h", PortRange(443, 443), options=Options(verify=False), where=at(line))


class AdviseTests(SynchronousTestCase):
    """Each warning, and what stays silent."""

    def advice(self, *rules: Rule, directories: tuple[str, ...] = ()) -> tuple[Problem, ...]:
        """Ask about some rules on a machine that has these directories."""
        problems = advise(Ruleset(rules), directories.__contains__)
        for problem in problems:
            self.assertIs(problem.severity, Severity.WARNING)
            self.assertTrue(problem.hint)
        return problems

    def codes(self, *rules: Rule, directories: tuple[str, ...] = ()) -> list[tuple[str, int]]:
        """Code and line of each warning."""
        return [
            (problem.code, problem.location.line) for problem in self.advice(*rules, directories=directories)
        ]

    def test_nothing(self) -> None:
        """A plain rule, a checked certificate and abstract sockets need no advice."""
        checked = TargetSpec(Kind.TLS, "h", PortRange(443, 443))
        self.assertEqual(self.codes(Rule("a", LISTEN, (PLAIN, checked), access=(AclEntry(True, "*"),))), [])
        self.assertEqual(
            self.codes(Rule("a", ListenSpec(Kind.UNIX, path="@a"), (TargetSpec(Kind.UNIX, path="@b"),))), []
        )

    def test_shares(self) -> None:
        """Targets of which none gets new clients, or all are reserves."""

        def targets(*options: Options, name: str = "") -> tuple[TargetSpec, ...]:
            port = PortRange(80, 80)
            return tuple(
                TargetSpec(Kind.TCP, f"10.0.0.{number}", port, name=name, options=one, where=at(7))
                for number, one in enumerate(options, 1)
            )

        none, backup, usual = Options(weight=0), Options(backup=True), Options()
        idle = Options(weight=0, backup=True)
        cases: tuple[tuple[tuple[Options, ...], list[str]], ...] = (
            ((none, none), ["no-weight"]),
            ((none, idle), ["no-weight"]),
            ((idle, idle), ["no-weight"]),
            ((backup, backup), ["backup-without-effect"]),
            ((none, backup), []),
            ((none, usual), []),
            ((usual, backup), []),
            ((none,), []),
        )
        for options, expected in cases:
            found = [(code, 7) for code in expected]
            self.assertEqual(self.codes(Rule("a", LISTEN, targets(*options))), found, options)
            named = targets(*options, name="n")
            self.assertEqual(self.codes(Rule("a", LISTEN, (PLAIN,), named_targets=named)), found, options)

    def test_framing(self) -> None:
        """DNS between datagrams and a stream needs its messages' lengths; other protocols are left alone."""
        udp = ListenSpec(Kind.UDP, "", PortRange(5353, 5353))
        for listen, kind, port, expected in (
            (udp, Kind.TCP, 53, True),
            (udp, Kind.TLS, 853, True),
            (udp, Kind.UDP, 53, False),
            (udp, Kind.TCP, 514, False),
            (ListenSpec(Kind.TCP, "", PortRange(5353, 5353)), Kind.UDP, 53, True),
            (ListenSpec(Kind.TCP, "", PortRange(50, 60)), Kind.UDP, 1053, True),
        ):
            target = TargetSpec(kind, "h", PortRange(port, port))
            rule = Rule("a", listen, (target,), where=at(1))
            self.assertEqual(self.codes(rule), [("no-framing", 1)] if expected else [])
            framed = Rule("a", listen, (target,), options=Options(framing=Framing.LENGTH16), where=at(1))
            self.assertEqual(self.codes(framed), [])

    def test_zone(self) -> None:
        """A link-local address of IPv6 needs its interface, wherever it stands."""
        for host, expected in (("fe80::1", True), ("fe80::1%eth0", False), ("169.254.1.1", False)):
            listen = ListenSpec(Kind.TCP, host, PortRange(80, 80), where=at(1))
            target = TargetSpec(Kind.TCP, host, PortRange(80, 80), where=at(2))
            found = self.codes(Rule("a", listen, (target,)))
            self.assertEqual(found, [("no-zone", 1), ("no-zone", 2)] if expected else [])

    def test_endpoint(self) -> None:
        """A listener of Twisted's own is warned about: it closes clients when descriptors run out."""
        rule = Rule("a", ListenSpec(Kind.ENDPOINT, path="tcp:80", where=at(3)), (PLAIN,))
        self.assertEqual(self.codes(rule), [("endpoint-descriptors", 3)])

    def test_access_unused(self) -> None:
        """Entries beneath a unix listener hold for nobody."""
        listen = ListenSpec(Kind.UNIX, path="@a")
        rule = Rule("a", listen, (PLAIN,), access=(AclEntry(True, "*", at(4)), AclEntry(False, "*", at(5))))
        self.assertEqual(self.codes(rule), [("access-unused", 4)])
        named = (*rule.access, AclEntry(False, "unix", at(6)))
        self.assertEqual(self.codes(Rule("a", listen, (PLAIN,), access=named)), [])

    def test_source_limit(self) -> None:
        """A limit for one address that cannot be reached, or where clients have none, is warned about."""
        for listen, options, expected in (
            (LISTEN, Options(bandwidth=2000, bandwidth_per_source=2000), 7),
            (
                LISTEN,
                Options(bandwidth=9000, bandwidth_up=2000, bandwidth_down=3000, bandwidth_per_source=3000),
                7,
            ),
            (LISTEN, Options(bandwidth_down=2000, bandwidth_per_source=2000), None),
            (LISTEN, Options(bandwidth=2000, bandwidth_per_source=1999), None),
            (LISTEN, Options(bandwidth_per_source=1999), None),
            (ListenSpec(Kind.UNIX, path="@a"), Options(bandwidth_per_source=1999), 7),
            (ListenSpec(Kind.UNIX, path="@a"), Options(bandwidth=1999), None),
        ):
            rule = Rule(
                "a", listen, (PLAIN,), options, places=(("idle", at(1)), ("bandwidth-per-source", at(7)))
            )
            found = [] if expected is None else [("limit-without-effect", expected)]
            self.assertEqual(self.codes(rule), found, options)

    def test_connection_limit(self) -> None:
        """So is one for a connection that is as large as that of its address, or of all."""
        unix = ListenSpec(Kind.UNIX, path="@a")
        for listen, options, warned in (
            (LISTEN, Options(bandwidth=2000, bandwidth_per_connection=2000), True),
            (LISTEN, Options(bandwidth_down=2000, bandwidth_per_connection=2000), False),
            (LISTEN, Options(bandwidth=2000, bandwidth_per_connection=1999), False),
            (LISTEN, Options(bandwidth_per_source=2000, bandwidth_per_connection=2000), True),
            (LISTEN, Options(bandwidth_per_connection=2000), False),
            (unix, Options(bandwidth_per_connection=2000), False),
        ):
            rule = Rule("a", listen, (PLAIN,), options, places=(("bandwidth-per-connection", at(7)),))
            found = [("limit-without-effect", 7)] if warned else []
            self.assertEqual(self.codes(rule), found, options)

    def test_unverified(self) -> None:
        """An unchecked certificate is warned about wherever the target stands."""
        rule = Rule(
            "a", LISTEN, (PLAIN, insecure(1)), named_targets=(insecure(2),),
            routes=(RouteSpec(("x",), insecure(3)), RouteSpec(("y",), "name"), RouteSpec(("*",), None)),
        )  # fmt: skip
        self.assertEqual(self.codes(rule), [("unverified", 1), ("unverified", 2), ("unverified", 3)])

    def test_directories(self) -> None:
        """Directories of targets' unix sockets are looked for, the working directory too."""
        rule = Rule(
            "a", ListenSpec(Kind.UNIX, path="/run/a/s", where=at(1)),
            tuple(
                TargetSpec(Kind.UNIX, path=path, where=at(line)) for line, path in ((2, "/run/b/s"), (3, "s"))
            ),
        )  # fmt: skip
        self.assertEqual(self.codes(rule), [("no-directory", 2), ("no-directory", 3)])
        self.assertEqual(self.codes(rule, directories=("/run/b", ".")), [])
        self.assertIn("'/run/b'", self.advice(rule)[0].message)
