"""Tests for names: one look-up at a time, remembered, refreshed in the background, bounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial import unittest

from portfwd.limits.look_ups import Asker, LookUpLimits
from portfwd.upstreams.names import ASK_AGAIN, LOOK_UP_LIMIT, RETRY, Names, interleave

REFRESH = 600.0


class FakeResolver:
    """
    A resolver that answers when a test says so.

    :ivar asked: the names, in order.
    :ivar given_up: the look-ups that were given up, by their number.
    :ivar at_once: what is answered without being told to.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waiting: list[Callable[[Sequence[str]], None]] = []
        self.given_up: list[int] = []
        self.at_once: Sequence[str] | None = None

    def look_up(self, host: str, done: Callable[[Sequence[str]], None]) -> Callable[[], None]:
        number = len(self.asked)
        self.asked.append(host)
        self.waiting.append(done)
        if self.at_once is not None:
            self.answer(*self.at_once)
        return lambda: self.given_up.append(number)

    def answer(self, *hosts: str, look_up: int = -1) -> None:
        """Answer the latest look-up, or another."""
        self.waiting[look_up](hosts)


class Questioner:
    """Somebody who waits for an answer."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, ...]] = []

    def __call__(self, hosts: Sequence[str]) -> None:
        self.answers.append(tuple(hosts))


class NamesCase(unittest.SynchronousTestCase):
    """Names over a resolver that the test answers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.resolver = FakeResolver()
        self.names = self.make()

    def make(self, **options: Any) -> Names:
        """Names over the fake resolver."""
        return Names(self.resolver, self.clock, **options)

    def ask(self, host: str = "db", names: Names | None = None) -> Questioner:
        """Somebody asks."""
        asker = Questioner()
        (names or self.names).ask(host, REFRESH, asker, asker)
        return asker


class NamesTests(NamesCase):
    """`Names`."""

    def test_answer(self) -> None:
        """Both families come out in turn, IPv6 first."""
        asker = self.ask()
        self.assertEqual(asker.answers, [])
        self.resolver.answer("192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.1")
        self.assertEqual(asker.answers, [("2001:db8::1", "192.0.2.1", "192.0.2.2")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

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
        second = Questioner()
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
        """A name that is being looked up keeps its place; if all are, one more is refused, and told why."""
        names = self.make(limit=2)
        waiting = [self.ask("a", names), self.ask("b", names)]
        third = Questioner()
        self.assertEqual(names.ask("c", REFRESH, third, third), "2 names are being looked up")
        self.assertEqual((third.answers, self.resolver.asked), ([], ["a", "b"]))
        self.resolver.answer("192.0.2.1", look_up=1)
        self.ask("c", names)
        self.assertEqual(self.resolver.asked, ["a", "b", "c"])
        self.resolver.answer("192.0.2.1", look_up=0)
        self.assertEqual([len(asker.answers) for asker in waiting], [1, 1])

    def test_a_shorter_refresh_is_obeyed(self) -> None:
        """
        An answer is as old as whoever asks allows, whoever asked for it first, and a lower value holds at
        once.
        """
        self.ask()
        self.resolver.answer("192.0.2.1")
        self.clock.advance(10)
        short = Questioner()
        self.names.ask("db", 30.0, short, short)
        self.assertEqual(self.names.look_ups, 1)
        self.names.ask("db", 10.0, short, short)
        self.assertEqual(self.names.look_ups, 2)

    def test_stop(self) -> None:
        """Every look-up is given up; no timer is left, and nobody is called."""
        asker = self.ask()
        self.names.stop()
        self.assertEqual((self.resolver.given_up, self.clock.getDelayedCalls()), ([0], []))
        self.resolver.answer("192.0.2.1")
        self.assertEqual(asker.answers, [])


class AgainTests(NamesCase):
    """Addresses that could not be reached."""

    def again(self, *failed: str) -> Questioner:
        """Somebody could not reach these."""
        asker = Questioner()
        self.names.ask("db", REFRESH, asker, asker, failed=failed)
        return asker

    def known(self) -> None:
        """The name has an address, for a while already."""
        self.ask()
        self.resolver.answer("192.0.2.1")
        self.clock.advance(ASK_AGAIN)

    def test_asked_at_once(self) -> None:
        """The name is asked for again, however fresh its answer; whoever asks waits for it."""
        self.known()
        asker = self.again("192.0.2.1")
        self.assertEqual((asker.answers, self.names.look_ups), ([], 2))
        self.assertEqual(self.ask().answers, [("192.0.2.1",)])
        self.resolver.answer("192.0.2.9")
        self.assertEqual(asker.answers, [("192.0.2.9",)])

    def test_a_newer_answer_is_there(self) -> None:
        """An answer that came meanwhile is used."""
        self.known()
        self.assertEqual(self.again("192.0.2.7").answers, [("192.0.2.1",)])
        self.assertEqual(self.names.look_ups, 1)

    def test_at_most_once_a_second(self) -> None:
        """An upstream that is down makes one look-up a second; meanwhile nothing is new."""
        self.known()
        self.again("192.0.2.1")
        self.resolver.answer("192.0.2.1")
        for _ in range(100):
            self.assertEqual(self.again("192.0.2.1").answers, [("192.0.2.1",)])
        self.names.doubt("db")
        self.assertEqual(self.names.look_ups, 2)
        self.clock.advance(ASK_AGAIN)
        self.again("192.0.2.1")
        self.assertEqual(self.names.look_ups, 3)

    def test_all_wait_for_one(self) -> None:
        """Sessions that fail together wait for one look-up."""
        self.known()
        askers = [self.again("192.0.2.1") for _ in range(5)]
        self.assertEqual(self.names.look_ups, 2)
        self.resolver.answer("192.0.2.2")
        self.assertEqual([asker.answers for asker in askers], [[("192.0.2.2",)]] * 5)

    def test_a_resolver_that_fails(self) -> None:
        """Without a new answer the old one is given again."""
        self.known()
        asker = self.again("192.0.2.1")
        self.resolver.answer()
        self.assertEqual(asker.answers, [("192.0.2.1",)])

    def test_known(self) -> None:
        """What is known can be had without a question."""
        self.assertEqual(self.names.known("db"), ())
        self.known()
        self.assertEqual((self.names.known("db"), self.names.look_ups), (("192.0.2.1",), 1))

    def test_doubt(self) -> None:
        """The name is looked up though nobody waits; one that is unknown, or asked for already, is not."""
        self.known()
        self.names.doubt("unknown")
        self.names.doubt("db")
        self.names.doubt("db")
        self.assertEqual(self.resolver.asked, ["db", "db"])
        self.resolver.answer("192.0.2.9")
        self.assertEqual(self.ask().answers, [("192.0.2.9",)])


class BoundedTests(unittest.SynchronousTestCase):
    """Names that clients choose."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.resolver = FakeResolver()
        self.bounds = LookUpLimits(total=4, per_rule=3, per_source=2)
        self.names = Names(self.resolver, self.clock, bounds=self.bounds)

    def ask(self, host: str, source: str = "192.0.2.1", rule: str = "proxy") -> tuple[Questioner, str]:
        """A client asks; why it is refused comes back too."""
        asker = Questioner()
        return asker, self.names.ask(host, REFRESH, asker, asker, asker=Asker(rule, source))

    def test_one_client(self) -> None:
        """A client whose names are not answered is refused more of them; another client is not."""
        self.ask("a")
        self.ask("b")
        _, refused = self.ask("c")
        self.assertEqual(refused, "2 look-ups of this client are under way")
        self.assertEqual(self.ask("c", "192.0.2.2")[1], "")
        self.assertEqual(self.resolver.asked, ["a", "b", "c"])
        self.assertIn("<Names 3 known,", repr(self.names))

    def test_given_up(self) -> None:
        """A look-up that nobody waits for any more is given up; its place is free, its name forgotten."""
        first, _ = self.ask("a")
        second, _ = self.ask("a")
        self.names.forget("a", first)
        self.assertEqual(self.resolver.given_up, [])
        self.names.forget("a", second)
        self.assertEqual(self.resolver.given_up, [0])
        self.assertEqual(repr(self.bounds), "<LookUpLimits 0 of 4, of 0 rules and 0 clients>")
        self.assertEqual(
            (repr(self.names), self.clock.getDelayedCalls()), ("<Names 0 known, 1 look-ups, 0 failed>", [])
        )

    def test_out_of_time(self) -> None:
        """At its limit a look-up is given up in the resolver too."""
        asker, _ = self.ask("a")
        self.clock.advance(LOOK_UP_LIMIT)
        self.assertEqual((asker.answers, self.resolver.given_up), ([()], [0]))
        self.assertEqual(repr(self.bounds), "<LookUpLimits 0 of 4, of 0 rules and 0 clients>")

    def test_answered(self) -> None:
        """An answer gives the place back; a name without one is not kept."""
        self.ask("a")
        self.resolver.answer("192.0.2.7")
        self.ask("b")
        self.resolver.answer()
        self.assertEqual(repr(self.names), "<Names 1 known, 2 look-ups, 1 failed>")
        self.assertEqual(repr(self.bounds), "<LookUpLimits 0 of 4, of 0 rules and 0 clients>")


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
