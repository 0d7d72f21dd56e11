"""Tests of `portfwd.relay.slots`: what sessions take up of the limits of their rule, and give back."""

from __future__ import annotations

from typing import Any

from portfwd.errors import TargetsFull
from portfwd.limits.admission import AdmissionRegistry, Bounds
from portfwd.relay.destination import Destination
from portfwd.relay.live import LiveRule
from portfwd.relay.slots import SessionSlots
from portfwd.rules.model import AclEntry, OnDeny
from portfwd.values import CloseReason, InetAddress, Side, UnixAddress
from tests.relay.fakes import CLIENT, UPSTREAM, FakeStream, dialled_by
from tests.relay.test_session import SessionCase

ELSEWHERE = InetAddress("198.51.100.99", 4711)


class SlotsTests(SessionCase):
    """Slots by themselves."""

    def setUp(self) -> None:
        super().setUp()
        keeper = AdmissionRegistry()
        limits = keeper.rule("web", Bounds(max_conns=1, max_conns_per_source=1))
        assert limits is not None
        self.limits = limits
        self.slots = SessionSlots(limits)

    def test_give_back_once(self) -> None:
        """However often they are given back, they are given back once."""
        self.assertEqual((self.slots.come_from(CLIENT, 0.0), self.slots.enter(0.0)), ("", ""))
        self.assertEqual(repr(self.slots), "<SessionSlots in from 192.0.2.7>")
        for _ in range(2):
            self.slots.leave(0.0)
        self.assertEqual(repr(self.slots), "<SessionSlots not in from ->")
        other = SessionSlots(self.limits)
        self.assertEqual((other.come_from(CLIENT, 0.0), other.enter(0.0)), ("", ""))

    def test_refused(self) -> None:
        """Where a limit is reached nothing is taken, and nothing is given back."""
        other = SessionSlots(self.limits)
        other.enter(0.0)
        self.assertEqual(self.slots.enter(0.0), "max-conns=1")
        self.slots.leave(0.0)
        self.assertEqual(repr(self.limits), "<Admission web 1 in>")

    def test_comes_from_elsewhere(self) -> None:
        """A client that turns out to be another is that one's, and no longer the first one's."""
        self.slots.come_from(CLIENT, 0.0)
        self.slots.come_from(ELSEWHERE, 0.0)
        other = SessionSlots(self.limits)
        self.assertEqual(other.come_from(CLIENT, 0.0), "")
        self.assertEqual(SessionSlots(self.limits).come_from(ELSEWHERE, 0.0), "max-conns-per-source=1")

    def test_other_limits(self) -> None:
        """A session that is counted for other limits gives back what it had of the first ones."""
        keeper = AdmissionRegistry(shared={"a": Bounds(max_conns_per_source=1)})
        first, second = keeper.rule("one", Bounds(), "a"), keeper.rule("two", Bounds(max_conns=1))
        assert first is not None and second is not None
        slots = SessionSlots(first)
        slots.come_from(CLIENT, 0.0)
        slots.enter(0.0)
        for _ in range(2):
            slots.count(second, CLIENT, 0.0)
            self.assertEqual((repr(first), repr(second)), ("<Admission one 0 in>", "<Admission two 1 in>"))
        self.assertEqual(SessionSlots(first).come_from(CLIENT, 0.0), "")
        slots.leave(0.0)
        self.assertEqual(repr(second), "<Admission two 0 in>")

    def test_from_nowhere(self) -> None:
        """Limits of sources do not bind who comes from no address."""
        for _ in range(3):
            self.assertEqual(SessionSlots(self.limits).come_from(UnixAddress(""), 0.0), "")


class SessionTests(SessionCase):
    """Sessions with limits."""

    def another(self, address: Any = CLIENT) -> FakeStream:
        """One more client of the same rule."""
        stream = FakeStream(self.clock, address)
        self.accept(stream)
        return stream

    def refused(self, stream: FakeStream, detail: str) -> None:
        """`stream` was refused in order, with ``LC``."""
        self.assertEqual(stream.calls, ["own", "end", "discard"])
        stream.ends()
        self.assertEqual((self.lines.last.reason, self.lines.last.detail), (CloseReason.LIMIT, detail))

    def test_source(self) -> None:
        """So many of one address; another one, and a unix socket's client, come in."""
        self.dialling(max_conns_per_source=1)
        self.refused(self.another(), "max-conns-per-source=1")
        self.another(ELSEWHERE)
        self.another(UnixAddress(""))
        self.another(UnixAddress(""))
        self.assertEqual(len(self.dials), 4)
        self.client.resets()
        self.another()
        self.assertEqual(len(self.dials), 5)

    def test_rate(self) -> None:
        """So many a second."""
        self.dialling(rate=1.0)
        self.refused(self.another(), "rate=1/s")
        self.wait(1.0)
        self.another()
        self.assertEqual(len(self.dials), 2)

    def test_source_refused_takes_no_token(self) -> None:
        """One source that comes too fast does not use up the rate of the rule."""
        self.dialling(rate=2.0, rate_per_source=1.0)
        for _ in range(5):
            self.refused(self.another(), "rate-per-source=1/s")
        self.another(ELSEWHERE)
        self.assertEqual(len(self.dials), 2)

    def test_rule_refused_takes_no_source(self) -> None:
        """Who is refused by the rule's limit has no session of his source."""
        self.dialling(max_conns=1, max_conns_per_source=2)
        for _ in range(5):
            self.refused(self.another(), "max-conns=1")
        self.client.resets()
        self.another()
        self.assertEqual(len(self.dials), 2)

    def test_denied(self) -> None:
        """The access list judges first: who is denied costs nothing."""
        self.dialling(access=(AclEntry(False, CLIENT.host),), rate=1.0)
        self.client.ends()
        self.another(ELSEWHERE)
        self.assertEqual(len(self.dials), 1)

    def test_denied_unix(self) -> None:
        """A client of a unix socket is judged by a list that names ``unix``, and by no other."""
        self.dialling(access=(AclEntry(True, CLIENT.host), AclEntry(False, ELSEWHERE.host)))
        self.another(UnixAddress(""))
        self.assertEqual(len(self.dials), 2)
        self.dialling(access=(AclEntry(True, CLIENT.host), AclEntry(False, "unix")))
        count = len(self.dials)
        refused = self.another(UnixAddress("/run/x"))
        self.assertEqual((len(self.dials), refused.calls), (count, ["own", "end", "discard"]))
        refused.ends()
        self.assertEqual(self.lines.last.reason, CloseReason.ACCESS)

    def test_reset(self) -> None:
        """``on-deny=rst`` holds for limits too."""
        self.dialling(max_conns=1, on_deny=OnDeny.RST)
        self.assertEqual(self.another().calls, ["own", "abort"])

    def test_targets_full(self) -> None:
        """Where all targets are full the client is refused as by any limit: ``LC``."""
        self.dialling(max_conns_per_target=1)
        self.dials[0].fails(TargetsFull("a:1: max-conns-per-target=1"))
        self.refused(self.client, "a:1: max-conns-per-target=1")

    def test_target_given_back(self) -> None:
        """A session that has reached a target gives its place back when it is closed, once."""
        self.dialling(max_conns_per_target=2)
        (destination,) = self.rule.destinations
        for _ in range(2):
            self.assertTrue(destination.take())  # as dials do
        self.assertFalse(destination.take())
        self.dials[0].succeeds(FakeStream(self.clock, UPSTREAM))
        self.client.resets()
        self.wait(10.0)
        self.assertClosed(CloseReason.CLIENT_RESET, Side.CLIENT)
        self.assertEqual(destination.occupancy.taken, 1)

    def test_same_target(self) -> None:
        """A rule that takes another's slot counts the sessions of the same targets on."""
        self.dialling(max_conns_per_target=5)
        (before,) = self.rule.destinations
        before.take()
        route = object()  # opaque, as what a RouteClause has
        again = LiveRule(
            self.rule.rule, "web", [Destination(before.label, before.options, address=UPSTREAM)],
            self.rule.access, self.rule.context, self.lines, lambda: 0.0, routes={route: before},
        )  # fmt: skip
        self.assertEqual([one.occupancy.taken for one in again.every_destination], [1, 1])
        self.assertEqual(dialled_by(again, route).occupancy.taken, 1)

    def test_chosen_target(self) -> None:
        """A target that a filter chose by its address has the rule's limit, however it was chosen."""
        self.dialling(max_conns_per_target=1)
        self.assertTrue(dialled_by(self.rule, ELSEWHERE).take())
        chosen = dialled_by(self.rule, ELSEWHERE)
        self.assertTrue(chosen.take())  # the first one is held by nobody
        self.assertFalse(dialled_by(self.rule, ELSEWHERE).take())
