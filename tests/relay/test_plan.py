"""Tests of `portfwd.relay.plan`: which relay serves a rule, on which platform, and why."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import Factory, Side
from portfwd.kernel.platform import Platform
from portfwd.relay.plan import plan_relay
from portfwd.rules import parse_rule

LINUX = Platform(own_sockets=True, epoll=True, splice=True)
NOTHING = Platform(own_sockets=False, epoll=False)


class PlanTests(SynchronousTestCase):
    """One rule, one answer."""

    def plan(self, text: str, platform: Platform = LINUX) -> tuple[str, str]:
        """What is planned for a rule without filters."""
        (rule,) = parse_rule(text).rules
        kind, why, filters = plan_relay(rule, platform)
        self.assertEqual(filters, ())
        return kind, why

    def test_ends(self) -> None:
        """The ends of the rule decide, those too that only a filter chooses."""
        for text, kind, why in (
            (":1 -> h:1", "splice", "both ends are plain sockets"),
            ("unix:/a -> unix:/b", "splice", "both ends are plain sockets"),
            (":1 -> tls:h:1", "pair", "a target is TLS"),
            (":1 -> h:1, tls:h:2", "pair", "a target is TLS"),
            ("tls::1 cert=a.pem -> h:1", "pair", "the listener is TLS"),
            ('endpoint:"tcp:1" -> h:1', "pair", "the listener is an endpoint of Twisted's"),
            (':1 -> endpoint:"tcp:h:1"', "pair", "a target is an endpoint of Twisted's"),
            (":1/udp -> h:1/udp", "datagrams", "both sides have datagrams"),
            (":1/udp -> h:1", "pair", "one side has datagrams, the other a stream of bytes"),
            (":1/udp -> h:1 framing=length16", "datagrams", "DNS questions share connections to the target"),
        ):
            self.assertEqual(self.plan(text), (kind, why), text)

    def test_filters(self) -> None:
        """A filter that may start TLS needs the pair; one that sees bytes is named."""
        (rule,) = parse_rule(":1 -> h:1").rules
        quiet, starting = (
            Factory(lambda connection: None, directions=frozenset()),
            Factory(lambda connection: None, starts_tls={Side.CLIENT: {}}),
        )
        for filters, expected in (
            ((("a", quiet),), ("splice", "both ends are plain sockets", ())),
            (
                (("a", quiet), ("b", object()), ("c", Factory(lambda connection: None))),
                (
                    "splice",
                    "both ends are plain sockets; bytes are copied while filters see them: b, c",
                    ("b", "c"),
                ),
            ),
            ((("a", quiet), ("b", starting)), ("pair", "filter b may start TLS", ())),
        ):
            self.assertEqual(tuple(plan_relay(rule, LINUX, filters)), expected)

    def test_summary(self) -> None:
        """A plan says in short whether bytes are spliced from the beginning."""
        (rule,) = parse_rule(":1 -> h:1").rules
        self.assertEqual(plan_relay(rule, LINUX).summary, "splice")
        self.assertEqual(plan_relay(rule, LINUX, (("a", object()),)).summary, "splice after filters")

    def test_asked(self) -> None:
        """``relay=`` decides where the ends allow it."""
        for asked in ("splice", "copy", "pair"):
            self.assertEqual(self.plan(f":1 -> h:1 relay={asked}"), (asked, f"relay={asked}"))

    def test_platform(self) -> None:
        """What the platform lacks decides, whatever was asked; datagrams need none of it."""
        for platform, kind, why in (
            (NOTHING, "pair", "this reactor watches no descriptors of others"),
            (Platform(own_sockets=True, epoll=False), "pair", "this platform has no epoll"),
            (Platform(own_sockets=True, epoll=True), "copy", "this platform has no splice(2)"),
        ):
            for asked in ("auto", "splice"):
                self.assertEqual(self.plan(f":1 -> h:1 relay={asked}", platform), (kind, why))
            self.assertEqual(self.plan(":1/udp -> h:1/udp", platform)[0], "datagrams")
