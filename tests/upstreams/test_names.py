"""Tests for names: one look-up at a time, remembered, refreshed in the background, bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from twisted.internet.task import Clock
from twisted.trial import unittest
from zope.interface import implementer
from zope.interface.verify import verifyObject

from portfwd.upstreams.names import DOUBT_AFTER, LOOK_UP_LIMIT, RETRY, Names, _Collector, interleave

REFRESH = 600.0


@implementer(IHostnameResolver)
class FakeResolver:
    """
    A resolver that answers when a test says so.

    :ivar asked: the names, in order.
    :ivar at_once: what is answered without being told to.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waiting: list[Any] = []
        self.at_once: Sequence[str] | None = None

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        self.asked.append(hostName)
        self.waiting.append(resolutionReceiver)
        resolutionReceiver.resolutionBegan(None)
        if self.at_once is not None:
            self.answer(*self.at_once)
        return resolutionReceiver

    def answer(self, *hosts: str, look_up: int = -1) -> None:
        """Answer the latest look-up, or another."""
        receiver = self.waiting[look_up]
        for host in hosts:
            kind = IPv6Address if ":" in host else IPv4Address
            receiver.addressResolved(kind("TCP", host, 0))
        receiver.resolutionComplete()


class Asker:
    """Somebody who waits for an answer."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, ...]] = []

    def __call__(self, hosts: Sequence[str]) -> None:
        self.answers.append(tuple(hosts))


class NamesTests(unittest.SynchronousTestCase):
    """`Names`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.resolver = FakeResolver()
        self.names = self.make()

    def make(self, **options: Any) -> Names:
        """Names over the fake resolver."""
        return Names(self.resolver, self.clock, **options)

    def ask(self, host: str = "db", names: Names | None = None) -> Asker:
        """Somebody asks."""
        asker = Asker()
        (names or self.names).ask(host, REFRESH, asker, asker)
        return asker

    def test_interfaces(self) -> None:
        """The fake is a resolver, and what gathers its answers is what a resolver expects."""
        verifyObject(IHostnameResolver, self.resolver)
        verifyObject(IResolutionReceiver, _Collector(lambda hosts: None))

    def test_answer(self) -> None:
        """Both families come out in turn, IPv6 first; what is no IP address is left out."""
        asker = self.ask()
        self.assertEqual(asker.answers, [])
        self.resolver.waiting[0].addressResolved(UNIXAddress("/x"))
        self.resolver.answer("192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.1")
        self.assertEqual(asker.answers, [("2001:db8::1", "192.0.2.1", "192.0.2.2")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_doubt(self) -> None:
        """A doubted name is looked up again at the next question; what is known stays in use meanwhile."""
        self.assertEqual(self.names.known("db"), ())
        self.names.doubt("db")
        self.ask()
        self.resolver.answer("192.0.2.1")
        self.names.doubt("db")
        self.ask()
        self.assertEqual(len(self.resolver.asked), 1)
        self.clock.advance(DOUBT_AFTER)
        self.names.doubt("db")
        self.assertEqual(self.names.known("db"), ("192.0.2.1",))
        self.assertEqual(self.ask().answers, [("192.0.2.1",)])
        self.assertEqual(len(self.resolver.asked), 2)
        self.resolver.answer("192.0.2.2")
        self.assertEqual(self.names.known("db"), ("192.0.2.2",))

    def test_one_look_up_at_a_time(self) -> None:
        """However many wait for a name, it is asked for once; each is answered."""
        askers = [self.ask() for _ in range(5)]
        self.assertEqual(self.resolver.asked, ["db"])
        self.resolver.answer("192.0.2.1")
        self.assertEqual([asker.answers for asker in askers], [[("192.0.2.1",)]] * 5)

    def test_names_do_not_wait_for_each_other(self) -> None:
        """Different names are asked for side by side."""
        self.ask("a")
        self.ask("b")
        self.assertEqual(self.resolver.asked, ["a", "b"])

    def test_remembered(self) -> None:
        """A fresh answer is given at once, and nobody is asked."""
        self.ask()
        self.resolver.answer("192.0.2.1")
        self.clock.advance(REFRESH - 1)
        self.assertEqual(self.ask().answers, [("192.0.2.1",)])
        self.assertEqual(self.names.look_ups, 1)

    def test_refreshed_in_the_background(self) -> None:
        """A stale answer is given at once too; the look-up it starts is for those who come later."""
        self.ask()
        self.resolver.answer("192.0.2.1")
        self.clock.advance(REFRESH)
        self.assertEqual(self.ask().answers, [("192.0.2.1",)])
        self.assertEqual(self.ask().answers, [("192.0.2.1",)])
        self.assertEqual(self.names.look_ups, 2)
        self.resolver.answer("192.0.2.9")
        self.assertEqual(self.ask().answers, [("192.0.2.9",)])

    def test_refreshed_at_once(self) -> None:
        """A resolver that answers while it is asked gives the new answer."""
        self.ask()
        self.resolver.answer("192.0.2.1")
        self.clock.advance(REFRESH)
        self.resolver.at_once = ["192.0.2.9"]
        self.assertEqual(self.ask().answers, [("192.0.2.9",)])

    def test_the_last_good_answer_stays(self) -> None:
        """When a later look-up gives nothing the old addresses stay, and the next look-up waits `RETRY`."""
        self.ask()
        self.resolver.answer("192.0.2.1")
        self.clock.advance(REFRESH)
        self.ask()
        self.resolver.answer()
        self.assertEqual(self.ask().answers, [("192.0.2.1",)])
        self.assertEqual((self.names.look_ups, self.names.failures), (2, 1))
        self.clock.advance(RETRY)
        self.assertEqual(self.ask().answers, [("192.0.2.1",)])
        self.assertEqual(self.names.look_ups, 3)
        self.assertEqual(repr(self.names), "<Names 1 known, 3 look-ups, 1 failed>")

    def test_never_a_good_answer(self) -> None:
        """A name without any address is an empty answer, and is asked for again next time."""
        asker = self.ask()
        self.resolver.answer()
        self.assertEqual(asker.answers, [()])
        self.ask()
        self.assertEqual(self.names.look_ups, 2)

    def test_a_dead_resolver(self) -> None:
        """A look-up without an answer is given up after a while; those who wait go on."""
        asker = self.ask()
        self.clock.advance(LOOK_UP_LIMIT)
        self.assertEqual((asker.answers, self.names.failures), ([()], 1))

    def test_a_late_answer(self) -> None:
        """An answer that comes after its look-up was given up is remembered all the same."""
        self.ask()
        self.clock.advance(LOOK_UP_LIMIT)
        self.resolver.answer("192.0.2.1")
        self.assertEqual(self.ask().answers, [("192.0.2.1",)])

    def test_a_late_answer_ends_no_later_look_up(self) -> None:
        """
        What comes late, good or not, belongs to its own look-up.

        Those who wait for a later one wait for that, and its limit is its own.
        """
        self.ask()
        self.clock.advance(LOOK_UP_LIMIT)
        second = self.ask()
        self.resolver.answer(look_up=0)
        self.assertEqual((second.answers, self.names.failures), ([], 1))
        self.resolver.answer("192.0.2.2", look_up=1)
        self.assertEqual(second.answers, [("192.0.2.2",)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_forget(self) -> None:
        """Who does not want the answer any more is not called; forgetting the unknown is fine."""
        gone, there = self.ask(), self.ask()
        self.names.forget("db", gone)
        self.names.forget("db", gone)
        self.names.forget("unknown", gone)
        self.resolver.answer("192.0.2.1")
        self.assertEqual((gone.answers, there.answers), ([], [("192.0.2.1",)]))

    def test_forgotten_by_another(self) -> None:
        """One who is answered may make another's question void."""
        second = Asker()
        self.names.ask("db", REFRESH, self, lambda hosts: self.names.forget("db", second))
        self.names.ask("db", REFRESH, second, second)
        self.resolver.answer("192.0.2.1")
        self.assertEqual(second.answers, [])

    def test_asked_again_from_an_answer(self) -> None:
        """One who got nothing and asks again waits for a new look-up."""
        answers: list[Sequence[str]] = []

        def again(hosts: Sequence[str]) -> None:
            answers.append(hosts)
            if len(answers) == 1:
                self.names.ask("db", REFRESH, self, again)

        self.names.ask("db", REFRESH, self, again)
        self.resolver.answer()
        self.assertEqual((answers, self.names.look_ups), ([()], 2))
        self.resolver.answer("192.0.2.1")
        self.assertEqual(answers, [(), ("192.0.2.1",)])

    def test_an_asker_that_fails(self) -> None:
        """One whose answer raises does not keep the others from theirs."""
        self.names.ask("db", REFRESH, self, lambda hosts: 1 // 0)
        second = self.ask()
        self.resolver.answer("192.0.2.1")
        self.assertEqual(second.answers, [("192.0.2.1",)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_bounded(self) -> None:
        """Beyond the limit the name that was asked for longest ago is forgotten."""
        self.resolver.at_once = ["192.0.2.1"]
        names = self.make(limit=2)
        for host in ("a", "b", "a", "c"):
            self.ask(host, names)
        self.assertEqual(self.resolver.asked, ["a", "b", "c"])
        self.ask("a", names)
        self.assertEqual(self.resolver.asked, ["a", "b", "c"])
        self.ask("b", names)
        self.assertEqual(self.resolver.asked, ["a", "b", "c", "b"])

    def test_every_place_taken(self) -> None:
        """A name that is being looked up keeps its place; if all are, one more has no answer."""
        names = self.make(limit=2)
        waiting = [self.ask("a", names), self.ask("b", names)]
        self.assertEqual(self.ask("c", names).answers, [()])
        self.assertEqual(self.resolver.asked, ["a", "b"])
        self.resolver.answer("192.0.2.1", look_up=1)
        self.ask("c", names)
        self.assertEqual(self.resolver.asked, ["a", "b", "c"])
        self.resolver.answer("192.0.2.1", look_up=0)
        self.assertEqual([len(asker.answers) for asker in waiting], [1, 1])


class InterleaveTests(unittest.SynchronousTestCase):
    """The order of addresses."""

    # A machine that stalls is no reason to fail.
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.sampled_from(["::1", "::2", "::3", "1.1.1.1", "2.2.2.2", "3.3.3.3"])))
    def test_order(self, addresses: list[str]) -> None:
        """RFC 8305 section 4: families in turn, each in its order, none twice, none missing."""
        ordered = interleave(addresses)
        self.assertEqual(sorted(ordered), sorted(set(addresses)))
        families = [":" in host for host in ordered]
        for family in (True, False):
            mine = [host for host in ordered if (":" in host) is family]
            self.assertEqual(mine, [h for h in dict.fromkeys(addresses) if (":" in h) is family])
        turns = 2 * min(families.count(True), families.count(False))
        self.assertEqual(families[:turns], [True, False] * (turns // 2))
