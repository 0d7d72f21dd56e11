"""Tests for the epoll set: edges, turns, accidents, and numbers that are used again."""

from __future__ import annotations

import os
import select
import socket
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import pollreactor, selectreactor
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial import unittest
from zope.interface import implementer
from zope.interface.verify import verifyObject

from portfwd.kernel import poller as module
from portfwd.kernel.fair_queues import QUOTA
from portfwd.kernel.poller import DEATH, ERROR, EVENTS, FEW, MAX_EVENTS, OUTCOME, STEPS, Poller
from portfwd.kernel.reactor import WaitingReactor
from tests.streams.far_ends import open_descriptors, unix_sockets


class FakeReactor(Clock):
    """A clock that takes readers."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []
        self.running = True
        self.addReader = self.readers.append
        self.removeReader = self.readers.remove


@implementer(WaitingReactor)
class FakeHost(FakeReactor):
    """The same, which waits on the set when the clock is moved."""

    poller: Poller | None = None

    def wait_on(self, poller: Poller | None) -> bool:
        self.poller = poller
        return True

    def advance(self, amount: float) -> None:
        super().advance(amount)
        if self.poller is not None:
            for _ in range(2 * STEPS):
                self.poller.serve(0, once=True)
                if self.poller is None:
                    break


class Watcher:
    """Writes down its events."""

    def __init__(self, do: Callable[[], object] = lambda: None) -> None:
        self.events: list[int] = []
        self.failures: list[Failure] = []
        self.queued = False
        self.do = do

    def ready(self, events: int) -> None:
        self.events.append(events)
        self.do()

    run = property(lambda self: lambda: self.ready(0))

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure)


def fail() -> None:
    """An accident."""
    raise ZeroDivisionError


def raise_(kind: type[BaseException]) -> None:
    """Another one."""
    raise kind


class PollerCase(unittest.SynchronousTestCase):
    """A poller that is run by hand, and sockets."""

    reactor_class: type[FakeReactor] = FakeReactor

    def setUp(self) -> None:
        self.reactor = self.reactor_class()
        reactor: Any = self.reactor
        self.lost: list[Failure] = []
        self.poller = Poller(reactor, self.lost.append)
        self.poller.start()
        self.addCleanup(self.poller.stop)

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        """A connected pair."""
        pair = unix_sockets()
        for sock in pair:
            self.addCleanup(sock.close)
        return pair

    def watched(self, watcher: Watcher) -> tuple[socket.socket, socket.socket]:
        """A connected pair, of which the first is watched for input; nothing is waiting."""
        near, far = self.sockets()
        self.poller.watch(near.fileno(), select.EPOLLIN | select.EPOLLRDHUP, watcher)
        return near, far


class EventTests(PollerCase):
    """Events."""

    def test_bits(self) -> None:
        """The sets of events that are spelled out here are the kernel's."""
        self.assertEqual(EVENTS, select.EPOLLIN | select.EPOLLPRI | select.EPOLLOUT | select.EPOLLRDHUP)
        self.assertEqual(OUTCOME, select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR)
        self.assertEqual(DEATH, select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR)
        self.assertEqual(ERROR, select.EPOLLERR)

    def test_edges(self) -> None:
        """An event is told once: what is not read does not come again, what is new does."""
        watcher = Watcher()
        _, far = self.watched(watcher)
        far.send(b"1")
        self.poller.doRead()
        self.poller.doRead()
        self.assertEqual(watcher.events, [select.EPOLLIN])
        far.send(b"2")
        self.poller.doRead()
        self.assertEqual(len(watcher.events), 2)

    def test_the_dead(self) -> None:
        """A peer that goes is seen although its last bytes are unread."""
        watcher = Watcher()
        near, far = self.sockets()
        self.poller.watch(near.fileno(), DEATH, watcher)
        far.send(b"unread")
        self.poller.doRead()
        self.assertEqual(watcher.events, [])
        near.send(b"unread too")
        far.close()
        self.poller.doRead()
        self.assertEqual(watcher.events, [select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR])

    def test_watched_anew(self) -> None:
        """Who watches what is watched already takes its place, and is told of what is there now."""
        before, after = Watcher(), Watcher()
        near, far = self.watched(before)
        far.send(b"1")
        self.poller.watch(near.fileno(), select.EPOLLIN, after)
        self.poller.doRead()
        self.assertEqual((before.events, after.events), ([], [select.EPOLLIN]))

    def test_a_number_whose_socket_was_closed_elsewhere(self) -> None:
        """A descriptor that was closed without being forgotten can be watched as another socket's."""
        near, _ = self.watched(Watcher())
        fresh, far = self.sockets()
        number = near.fileno()
        near.close()
        again = socket.socket(fileno=os.dup(fresh.fileno()))
        self.addCleanup(again.close)
        self.assertEqual(again.fileno(), number)
        watcher = Watcher()
        self.poller.watch(number, select.EPOLLIN, watcher)
        far.send(b"1")
        self.poller.doRead()
        self.assertEqual(watcher.events, [select.EPOLLIN])

    def test_handed_over(self) -> None:
        """A descriptor can change its watcher without asking the kernel."""
        before, after = Watcher(), Watcher()
        near, far = self.watched(before)
        self.poller.hand_over(near.fileno(), after)
        far.send(b"1")
        self.poller.doRead()
        self.assertEqual((before.events, after.events), ([], [select.EPOLLIN]))

    def test_the_kernel_refuses(self) -> None:
        """What cannot be watched (a file) is an error, and is not remembered."""
        with open(os.devnull, "rb") as file, open("/proc/self/stat", "rb") as regular:
            self.assertRaises(OSError, self.poller.watch, regular.fileno(), EVENTS, Watcher())
            self.assertRaises(OSError, self.poller.watch, file.fileno(), EVENTS, Watcher())
        self.assertEqual(repr(self.poller), "<Poller watching 0>")

    def test_forgotten(self) -> None:
        """A socket that is forgotten is closed, whether it was watched or not; others go on."""
        near, far = self.watched(Watcher())
        watcher = Watcher()
        _, other = self.watched(watcher)
        self.poller.forget(near)
        self.assertEqual((near.fileno(), repr(self.poller)), (-1, "<Poller watching 1>"))
        far.close()
        for inherited in (False, True):
            unknown = socket.socket()
            self.poller.forget(unknown, inherited=inherited)
            self.poller.forget(unknown, inherited=inherited)
            self.assertEqual(unknown.fileno(), -1)
        del watcher.events[:]
        other.send(b"x")
        self.poller.doRead()
        self.assertEqual(len(watcher.events), 1)

    def test_a_socket_that_somebody_else_has_too(self) -> None:
        """
        What another process may hold is taken out of the set: another duplicate with its number can be
        watched.
        """
        ours, far = self.sockets()
        first = ours.dup()
        self.poller.watch(first.fileno(), EVENTS, Watcher())
        number = first.fileno()
        self.poller.forget(first, inherited=True)
        second, watcher = ours.dup(), Watcher()
        self.addCleanup(second.close)
        self.assertEqual(second.fileno(), number)
        self.poller.watch(number, EVENTS, watcher)
        far.send(b"x")
        self.poller.doRead()
        self.assertEqual(len(watcher.events), 1)

    def test_forgotten_within_a_batch(self) -> None:
        """
        An event that was fetched before its socket was forgotten is not told, to nobody.

        The socket's number cannot become another's before the batch is through.
        """
        watchers: list[Watcher] = []
        near: list[socket.socket] = []
        numbers: list[int] = []

        def forget_all() -> None:
            numbers.extend(sock.fileno() for sock in near)
            for sock in near:
                self.poller.forget(sock)
            fresh = self.sockets()[0]
            self.assertNotIn(fresh.fileno(), numbers)
            self.poller.watch(fresh.fileno(), EVENTS, second)

        second = Watcher()
        far = []
        for _ in range(3):
            watchers.append(Watcher(forget_all))
            pair = self.watched(watchers[-1])
            near.append(pair[0])
            far.append(pair[1])
        for sock in far:
            sock.send(b"1")
        self.patch(module, "STEPS", 1)
        self.poller.doRead()
        self.assertEqual(sum(len(watcher.events) for watcher in watchers), 1)
        self.assertEqual(([sock.fileno() for sock in near], second.events), ([-1] * 3, []))


class TurnTests(PollerCase):
    """Turns of those who have more to do."""

    def test_turns_alternate_with_events(self) -> None:
        """Between any two turns the events that came meanwhile are told."""
        order: list[str] = []
        near, far = self.watched(Watcher(lambda: order.append("event")))

        def bulk() -> None:
            order.append("turn")
            far.send(b"1")
            if order.count("turn") < 3:
                self.poller.take_turn(turn)

        turn = Watcher(bulk)
        self.poller.take_turn(turn)
        self.reactor.advance(0)
        self.assertEqual(order, ["turn", "event"] * 3)
        self.assertEqual(near.recv(9), b"111")

    def test_once_in_the_queue(self) -> None:
        """
        Who asks for its turn again and again, before and within its turn, has one where the others have
        one.
        """
        order: list[str] = []

        def turn_of(name: str, asks: int) -> Watcher:
            def run() -> None:
                order.append(name)
                for _ in range(asks):
                    self.poller.take_turn(turn)

            turn = Watcher(run)
            return turn

        greedy, modest = turn_of("greedy", 1000), turn_of("modest", 1)
        for turn in (greedy, greedy, modest, greedy):
            self.poller.take_turn(turn)
        self.assertTrue(greedy.queued)
        self.poller.doRead()
        self.assertEqual(order, ["greedy", "modest"] * (STEPS // 2))

    def test_the_mark_of_those_who_queue(self) -> None:
        """It is there while somebody waits for its turn; not within the turn, nor when all is over."""
        marks: list[bool] = []
        turn = Watcher(lambda: marks.append(turn.queued))
        self.poller.take_turn(turn)
        self.assertTrue(turn.queued)
        self.poller.doRead()
        self.assertEqual((marks, turn.queued), ([False], False))
        self.poller.take_turn(turn)
        self.poller.stop()
        self.assertFalse(turn.queued)

    @settings(suppress_health_check=[HealthCheck.differing_executors])
    @given(st.text("abc.", max_size=20))
    def test_never_twice(self, steps: str) -> None:
        """
        Whatever asks, in whatever order: nobody stands in the queue twice, and everybody who asked has a
        turn.
        """
        reactor: Any = FakeReactor()
        poller = Poller(reactor)
        poller.start()
        ran: list[str] = []
        turns = {name: Watcher() for name in "abc"}
        for name, turn in turns.items():
            turn.do = lambda name=name: ran.append(name)  # type: ignore[misc]
        waiting: list[str] = []
        for name in steps:
            if name != ".":
                poller.take_turn(turns[name])
                if name not in waiting:
                    waiting.append(name)
            else:
                poller.doRead()
                self.assertEqual(ran, waiting)
                waiting, ran[:] = [], []
        self.assertEqual([name for name, turn in turns.items() if turn.queued], sorted(waiting))
        poller.stop()

    def test_a_visit_ends(self) -> None:
        """Who always wants another turn does not keep the reactor: the rest is done in its next turn."""
        turn = Watcher(lambda: self.poller.take_turn(turn))
        self.poller.take_turn(turn)
        self.poller.doRead()
        self.assertEqual(len(turn.events), STEPS)
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.poller.doRead()
        self.assertEqual(len(turn.events), 2 * STEPS)

    def test_time(self) -> None:
        """`now` is of the last batch; who comes from elsewhere brings it up to date first."""
        self.reactor.advance(5)
        self.assertEqual(self.poller.now, 0.0)
        self.poller.look_at_clock()
        self.assertEqual(self.poller.now, 5.0)
        times = []

        def look() -> None:
            self.reactor.rightNow += 1  # type: ignore[attr-defined]
            self.poller.look_at_clock()
            times.append(self.poller.now)

        _, far = self.watched(Watcher(look))
        far.send(b"1")
        self.poller.doRead()
        self.assertEqual(times, [5.0])

    def test_closed_after_the_batch(self) -> None:
        """A socket that is closed within a batch keeps its number until the batch is through."""
        numbers: list[int] = []

        def close() -> None:
            self.poller.forget(near)
            numbers.append(near.fileno())

        near, far = self.watched(Watcher(close))
        far.send(b"1")
        self.poller.doRead()
        self.assertGreater(numbers[0], 0)
        self.assertEqual(near.fileno(), -1)

    def test_closed_in_the_last_turn(self) -> None:
        """What the last turn of a visit closes is closed when the visit ends, not at the next event."""
        near, _ = self.sockets()
        turns = [Watcher() for _ in range(STEPS)]
        turns[-1].do = lambda: self.poller.forget(near)
        for turn in turns:
            self.poller.take_turn(turn)
        self.reactor.advance(0)
        self.assertEqual(near.fileno(), -1)

    def test_closed_behind_a_turn(self) -> None:
        """What a turn closes is closed before the next events are waited for: its peer waits for that."""
        told: list[int] = []
        peer = Watcher()
        _, far = self.watched(peer)
        for do in (lambda: self.poller.forget(far), lambda: told.append(len(peer.events))):
            self.poller.take_turn(Watcher(do))
        before = len(peer.events)
        self.poller.doRead()
        self.reactor.advance(0)
        self.assertEqual((before, told), (0, [1]))

    def test_closed_before_a_turn(self) -> None:
        """What events close is closed before a turn: a listener's turn needs the descriptors."""
        numbers: list[int] = []
        near, far = self.watched(Watcher(lambda: self.poller.forget(near)))
        self.poller.take_turn(Watcher(lambda: numbers.append(near.fileno())))
        far.send(b"1")
        self.poller.doRead()
        self.assertEqual(numbers, [-1])

    def test_closed_while_nothing_runs(self) -> None:
        """Outside a batch there is nothing to wait for."""
        near, _ = self.sockets()
        self.poller.forget(near)
        self.assertEqual(near.fileno(), -1)

    def test_a_visit_within_a_visit(self) -> None:
        """A reactor that is run from an event does not start another batch."""
        watcher = Watcher(self.poller.doRead)
        _, far = self.watched(watcher)
        far.send(b"1")
        self.poller.doRead()
        self.assertEqual(len(watcher.events), 1)


class GroupTests(PollerCase):
    """Crowds of one group beside a single one of another."""

    def crowd(self, count: int, do: Callable[[], object] = lambda: None) -> tuple[list[Watcher], list[Any]]:
        """So many watchers of one group, and the far ends that they are told of."""
        group = self.poller.group("crowd")
        watchers, ends = [Watcher(do) for _ in range(count)], []
        for watcher in watchers:
            near, far = self.sockets()
            group.watch(near.fileno(), select.EPOLLIN, watcher)
            ends.append((near, far))
        return watchers, ends

    def told(self, watchers: list[Watcher]) -> int:
        """How many of them have been told of something."""
        return sum(bool(watcher.events) for watcher in watchers)

    def test_crowd(self) -> None:
        """An event of another group comes behind some of the crowd's, not behind all of them."""
        before: list[int] = []
        for count in (FEW + 1, MAX_EVENTS + 44, 3 * MAX_EVENTS):
            watchers, ends = self.crowd(count)
            canary = Watcher(lambda watchers=watchers: before.append(self.told(watchers)))  # type: ignore[misc]
            near, far = self.sockets()
            self.poller.group("canary").watch(near.fileno(), select.EPOLLIN, canary)
            for _, end in ends:
                end.send(b"x")
            far.send(b"x")
            while self.told(watchers) < count:
                self.poller.doRead()
            self.assertLessEqual(before[-1], QUOTA, count)
            self.assertEqual([len(watcher.events) for watcher in watchers], [1] * count)

    def test_new_events(self) -> None:
        """Nor does one that comes while the crowd's wait have to wait for all of them."""
        once = iter([b"x"])
        watchers, ends = self.crowd(300, lambda: [far.send(byte) for byte in once])
        before: list[int] = []
        canary = Watcher(lambda: before.append(self.told(watchers)))
        near, far = self.sockets()
        self.poller.group("canary").watch(near.fileno(), select.EPOLLIN, canary)
        for _, end in ends:
            end.send(b"x")
        self.poller.doRead()
        self.assertLessEqual(before[0], 2 * QUOTA)

    def test_forgotten_while_it_waits(self) -> None:
        """An event that waits for a socket that is forgotten is told to nobody who gets its number."""
        watchers, ends = self.crowd(200)
        for _, end in ends:
            end.send(b"x")
        self.patch(module, "STEPS", 1)
        self.poller.doRead()
        last = ends[-1][0].fileno()
        self.poller.forget(ends[-1][0])
        fresh, _ = self.sockets()
        self.assertEqual(fresh.fileno(), last)
        another = Watcher()
        self.poller.watch(last, select.EPOLLIN, another)
        while self.told(watchers) < 199:
            self.poller.doRead()
        self.assertEqual((watchers[-1].events, another.events), ([], []))

    def test_handed_over_while_it_waits(self) -> None:
        """Who gets a descriptor gets the event that waits: it does not come again."""
        watchers, ends = self.crowd(200)
        for _, end in ends:
            end.send(b"x")
        self.patch(module, "STEPS", 1)
        self.poller.doRead()
        heir = Watcher()
        self.poller.hand_over(ends[-1][0].fileno(), heir)
        while self.told(watchers) < 199:
            self.poller.doRead()
        self.assertEqual((watchers[-1].events, len(heir.events)), ([], 1))

    def test_stopped_while_events_wait(self) -> None:
        """They are not told."""
        watchers, ends = self.crowd(200)
        for _, end in ends:
            end.send(b"x")
        self.patch(module, "STEPS", 1)
        self.poller.doRead()
        told = self.told(watchers)
        self.poller.stop()
        self.reactor.advance(0)
        self.poller.doRead()
        self.assertEqual(self.told(watchers), told)

    def test_level_triggered(self) -> None:
        """What is told again and again is told once a batch, however many others there are."""
        listener = Watcher()
        _, ends = self.crowd(300)
        near, far = self.sockets()
        self.poller.group("listener").watch(near.fileno(), select.EPOLLIN, listener, edge=0)
        for _, end in (*ends, (near, far)):
            end.send(b"x")
        self.patch(module, "STEPS", 1)
        for number in range(1, 4):
            self.poller.doRead()
            self.assertEqual(len(listener.events), number)

    def test_turns(self) -> None:
        """A turn of another group does not wait for all turns of a crowd."""
        order: list[str] = []
        crowd, canary = self.poller.group("crowd"), self.poller.group("canary")
        for _ in range(100):
            crowd.take_turn(Watcher(lambda: order.append("crowd")))
        canary.take_turn(Watcher(lambda: order.append("canary")))
        while len(order) < 101:
            self.poller.doRead()
        self.assertEqual(order.index("canary"), 1)

    def test_one_group_a_name(self) -> None:
        """All that a rule makes is in one group, whoever asks for it; it is kept as long as it is used."""
        first, second = self.poller.group("web"), self.poller.group("web")
        self.assertEqual(repr(first), repr(second))
        turns: list[int] = []
        for number, group in enumerate((first, second, self.poller.group("other"))):
            group.take_turn(Watcher(lambda number=number: turns.append(number)))  # type: ignore[misc]
        self.poller.doRead()
        self.assertEqual(turns, [0, 2, 1])
        first.look_at_clock()
        self.assertEqual(first.now, self.poller.now)


class AccidentTests(PollerCase):
    """Exceptions never leave `doRead`: the reactor would drop the poller, and every session with it."""

    def test_an_event(self) -> None:
        """The watcher that raised is told of its failure; the others get their events."""
        bad, good = Watcher(fail), Watcher()
        for watcher in (bad, good):
            _, far = self.watched(watcher)
            far.send(b"1")
        self.poller.doRead()
        self.assertEqual([failure.type for failure in bad.failures], [ZeroDivisionError])
        self.assertEqual((len(good.events), self.poller.failures), (1, 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_whatever_it_is(self) -> None:
        """No exception leaves it: not one that ends a process, and not one of the log's observers."""

        def exits() -> None:
            raise SystemExit

        def observe(event: Any) -> None:
            if "failed" in str(event.get("log_format")):
                raise SystemExit

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        bad, good = Watcher(exits), Watcher()
        bad.failed = lambda failure: exits()  # type: ignore[method-assign, assignment]
        for watcher in (bad, good):
            _, far = self.watched(watcher)
            far.send(b"1")
        self.poller.take_turn(bad)
        self.poller.doRead()
        self.reactor.advance(0)
        self.assertEqual((len(good.events), self.poller.failures), (1, 2))
        self.assertEqual(self.lost, [])
        self.flushLoggedErrors(SystemExit)

    def test_a_turn(self) -> None:
        """The same for a turn."""
        bad, good = Watcher(fail), Watcher()
        self.poller.take_turn(bad)
        self.poller.take_turn(good)
        self.reactor.advance(0)
        self.assertEqual((len(bad.failures), len(good.events)), (1, 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_an_end_that_fails_too(self) -> None:
        """And if even the end of the one who raised fails, it is logged, and that is all."""
        bad = Watcher(fail)
        bad.failed = lambda failure: fail()  # type: ignore[method-assign, assignment]
        _, far = self.watched(bad)
        far.send(b"1")
        self.poller.doRead()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_dropped_by_the_reactor(self) -> None:
        """A reactor that gives the poller up is told to its owner, once, unless it is stopping anyhow."""
        self.reactor.running = False
        self.poller.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.lost, [])
        self.reactor.running = True
        for _ in range(2):
            self.poller.connectionLost(Failure(ConnectionLost()))
        self.assertEqual([failure.type for failure in self.lost], [ConnectionLost])
        self.assertEqual(len(self.flushLoggedErrors(ConnectionLost)), 1)
        self.assertEqual((self.reactor.readers, self.poller.logPrefix()), ([], "portfwd"))

    def test_whatever_is_raised(self) -> None:
        """Also what asks a process to exit ends no more than the one who raised it."""
        for kind in (SystemExit, KeyboardInterrupt, GeneratorExit, CancelledError):
            bad = Watcher()
            bad.do = lambda kind=kind: raise_(kind)  # type: ignore[misc]
            _, far = self.watched(bad)
            self.poller.take_turn(bad)
            far.send(b"1")
            self.poller.doRead()
            self.assertEqual([failure.type for failure in bad.failures], [kind, kind])
            self.assertEqual(len(self.flushLoggedErrors(kind)), 2)
        self.assertEqual((self.lost, self.reactor.readers), ([], [self.poller]))

    def test_the_set_is_gone(self) -> None:
        """Where the kernel delivers nothing any more, the owner is told, and the reactor is left alone."""
        os.close(self.poller.fileno())
        for _ in range(2):
            self.poller.doRead()
        self.assertEqual([failure.type for failure in self.lost], [OSError])
        self.assertEqual((self.reactor.readers, len(self.flushLoggedErrors(OSError))), ([], 1))
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), self.poller.fileno())

    def test_a_socket_that_does_not_close(self) -> None:
        """It is logged; the others of the batch are closed all the same."""
        near, far = self.watched(Watcher(lambda: [self.poller.forget(sock) for sock in (other, near)]))
        other = socket.socket()
        os.close(other.fileno())
        far.send(b"1")
        self.poller.doRead()
        self.assertEqual((near.fileno(), self.lost), (-1, []))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


class Hosted:
    """
    The same with a reactor that waits on the set.

    A look is `STEPS` batches at most there too, so the same words say how often a look is needed.
    """

    reactor_class = FakeHost

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        poller: Any = self.poller  # type: ignore[attr-defined]

        def look() -> None:
            for _ in range(module.STEPS):
                poller.serve(0, once=True)

        poller.doRead = look


class HostedEventTests(Hosted, EventTests):
    """Events, for a reactor that waits on the set."""


class HostedGroupTests(Hosted, GroupTests):
    """Crowds, for a reactor that waits on the set."""


class HostedTurnTests(Hosted, TurnTests):
    """Turns, for a reactor that waits on the set."""

    def test_time(self) -> None:
        """`now` is of the last batch."""
        self.reactor.advance(5)
        self.assertEqual(self.poller.now, 5.0)

    def test_a_visit_ends(self) -> None:
        """Who always wants another turn does not keep the reactor from a call that is due."""
        turn = Watcher(lambda: self.poller.take_turn(turn))
        self.poller.take_turn(turn)
        self.poller.serve(0)
        self.assertEqual(len(turn.events), 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_recalled(self) -> None:
        """A reactor that has something else to do is let go after the batch at hand."""

        def recall() -> None:
            self.poller.recalled = True

        watcher = Watcher(recall)
        _, far = self.watched(watcher)
        far.send(b"1")
        self.poller.serve(None)
        self.assertEqual(len(watcher.events), 1)


class HostedAccidentTests(Hosted, AccidentTests):
    """Accidents, for a reactor that waits on the set."""

    def test_dropped_by_the_reactor(self) -> None:
        """It is none of the reactor's descriptors, so it cannot be dropped."""
        self.poller.connectionLost(Failure(ConnectionLost()))
        self.assertEqual((self.reactor.readers, self.lost), ([], []))

    def test_whatever_is_raised(self) -> None:
        """Also what asks a process to exit ends no more than the one who raised it."""
        bad = Watcher(lambda: raise_(SystemExit))
        _, far = self.watched(bad)
        far.send(b"1")
        self.poller.doRead()
        self.assertEqual([failure.type for failure in bad.failures], [SystemExit])
        self.assertEqual((self.lost, len(self.flushLoggedErrors(SystemExit))), ([], 1))


class LifeTests(PollerCase):
    """Starting and stopping."""

    def test_reader(self) -> None:
        """It is one reader of the reactor while it runs, and none after."""
        verifyObject(IReadDescriptor, self.poller)
        self.assertEqual(self.reactor.readers, [self.poller])
        self.assertGreaterEqual(self.poller.fileno(), 0)
        self.poller.stop()
        self.assertEqual((self.reactor.readers, self.poller.fileno()), ([], -1))
        self.assertEqual(repr(self.poller), "<Poller stopped>")
        self.poller.stop()

    def test_stopped(self) -> None:
        """A stopped poller watches nothing, runs nothing, and forgets quietly."""
        near, _ = self.watched(Watcher())
        self.poller.stop()
        self.poller.forget(near, inherited=True)
        self.assertRaises(ValueError, self.poller.watch, 0, EVENTS, Watcher())
        self.poller.take_turn(Watcher())
        self.poller.doRead()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stopped_before_a_turn(self) -> None:
        """A turn that was asked for is forgotten."""
        turn = Watcher()
        self.poller.take_turn(turn)
        self.poller.stop()
        self.assertEqual((self.reactor.getDelayedCalls(), turn.events), ([], []))

    def test_stopped_within_a_batch(self) -> None:
        """An event that stops the poller is the last; what was to be closed is closed."""
        near, _ = self.sockets()

        def stop() -> None:
            self.poller.forget(near)
            self.poller.stop()

        watchers = [Watcher(stop), Watcher(stop)]
        for watcher in watchers:
            _, far = self.watched(watcher)
            far.send(b"1")
        self.poller.doRead()
        self.assertEqual(sum(len(watcher.events) for watcher in watchers), 1)
        self.assertEqual(near.fileno(), -1)

    def test_stopped_within_a_turn(self) -> None:
        """The same for a turn."""
        self.poller.take_turn(Watcher(self.poller.stop))
        after = Watcher()
        self.poller.take_turn(after)
        self.reactor.advance(0)
        self.assertEqual(after.events, [])

    def test_no_descriptor_is_left(self) -> None:
        """Start and stop leave as many descriptors as there were."""
        before = open_descriptors()
        poller = Poller(self.reactor)  # type: ignore[arg-type]
        poller.start()
        self.assertEqual(open_descriptors(), before + 1)
        poller.stop()
        self.assertEqual(open_descriptors(), before)

    def test_under_other_reactors(self) -> None:
        """An epoll set can be watched by select and poll: it is readable when events wait."""
        for kind in (selectreactor.SelectReactor, pollreactor.PollReactor):
            watcher = Watcher()
            near, far = self.sockets()
            reactor: Any = kind()
            self.addCleanup(reactor.removeAll)
            poller = Poller(reactor)
            poller.start()
            poller.watch(near.fileno(), select.EPOLLIN, watcher)
            reactor.doIteration(0)
            self.assertEqual(watcher.events, [])
            far.send(b"1")
            reactor.doIteration(0)
            self.assertEqual(watcher.events, [select.EPOLLIN])
            poller.stop()
            reactor.waker.connectionLost(None)
