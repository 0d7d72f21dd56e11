"""Tests for the reactor that waits on the poller's set: events, timers, threads, and ends."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorCore, IReactorFDSet, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from portfwd.kernel.event_loop import MOST, PollerReactor
from portfwd.kernel.poller import EVENTS, Poller
from portfwd.kernel.reactor import WaitingReactor
from tests.kernel.test_poller import Watcher
from tests.streams.far_ends import unix_sockets

#: Seconds that nothing here takes.
LONG = 3600.0


class LoopCase(SynchronousTestCase):
    """A reactor, and a poller that it waits on, unless the test says otherwise."""

    def setUp(self) -> None:
        self.reactor: Any = PollerReactor()
        self.addCleanup(self._close)
        self.failures: list[Failure] = []
        self.lost: Callable[[Failure], object] = self.failures.append
        self.poller = Poller(self.reactor, lambda failure: self.lost(failure))
        self.poller.start()

    def _close(self) -> None:
        self.poller.stop()
        for one in (*self.reactor.removeAll(), self.reactor.waker):
            one.connectionLost(None)
        own = [value for value in vars(self.reactor).values() if isinstance(value, select.epoll)]
        own[0].close()

    def watched(self, watcher: Watcher) -> tuple[socket.socket, socket.socket]:
        """A connected pair, of which the first is watched."""
        near, far = unix_sockets()
        for sock in (near, far):
            self.addCleanup(sock.close)
        self.poller.watch(near.fileno(), select.EPOLLIN, watcher)
        return near, far

    def run_until_stopped(self) -> None:
        """The reactor's loop, as a program runs it."""
        self.reactor.run(installSignalHandlers=False)


class LoopTests(LoopCase):
    """The loop."""

    def test_interfaces(self) -> None:
        """It is a reactor like others, and one that can wait on a poller's set."""
        for interface in (IReactorCore, IReactorTime, IReactorFDSet, WaitingReactor):
            verifyObject(interface, self.reactor)
        self.assertFalse(self.reactor.getReaders()[1:], "the poller is not among its descriptors")

    def test_its_clock(self) -> None:
        """Seconds are those of the monotonic clock."""
        before = time.monotonic()
        self.assertTrue(before <= self.reactor.seconds() <= time.monotonic())

    def test_events_without_a_turn_of_the_loop(self) -> None:
        """Events that follow from each other are all delivered before the reactor looks at its timers."""
        looks: list[int] = []
        timeout = self.reactor.timeout
        self.reactor.timeout = lambda: (looks.append(len(watcher.events)), timeout())[1]

        def again() -> None:
            near.recv(9)
            if len(watcher.events) < 5:
                far.send(b"x")
            else:
                self.reactor.stop()

        watcher = Watcher(again)
        near, far = self.watched(watcher)
        far.send(b"x")
        self.run_until_stopped()
        self.assertEqual(looks[:2], [0, 5])

    def test_turns(self) -> None:
        """Turns run without a timer of the reactor, also one that is asked for outside a batch."""
        turn = Watcher(lambda: self.poller.take_turn(turn) if len(turn.events) < 40 else self.reactor.stop())
        self.poller.take_turn(turn)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.run_until_stopped()
        self.assertEqual(len(turn.events), 40)

    def test_its_own_descriptors(self) -> None:
        """Twisted's transports work as ever, while ours are served."""
        told: list[bytes] = []

        class Echo(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(data)  # type: ignore[union-attr]

        port = self.reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        sock = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(sock.close)
        sock.setblocking(False)

        def answered() -> None:
            if not told:
                told.append(sock.recv(9))
                self.reactor.stop()

        self.poller.watch(sock.fileno(), EVENTS, Watcher(lambda: None))
        self.poller.watch(sock.fileno(), select.EPOLLIN, Watcher(answered))
        sock.send(b"hello")
        self.run_until_stopped()
        self.assertEqual(told, [b"hello"])

    def test_crowd_of_its_own_descriptors(self) -> None:
        """Twisted's transports that are all ready at once do not come before an event of ours."""
        count = 100
        read: list[int] = []

        class Reader(Protocol):
            def dataReceived(self, data: bytes) -> None:
                read.append(1)
                canary.send(b"x")

        factory = Factory.forProtocol(Reader)
        for _ in range(count):
            near, far = unix_sockets()
            self.addCleanup(far.close)
            self.reactor.adoptStreamConnection(near.fileno(), socket.AF_UNIX, factory)
            near.close()
            far.send(b"x")
        before: list[int] = []
        watcher = Watcher(lambda: before or (before.append(len(read)), self.reactor.stop()))
        _, canary = self.watched(watcher)
        self.run_until_stopped()
        self.assertTrue(0 < before[0] <= 2 * MOST, before)

    def test_iterate(self) -> None:
        """One iteration is one batch of events, and does not last as long as it may wait."""
        watcher = Watcher()
        _, far = self.watched(watcher)
        far.send(b"1")
        self.reactor.iterate(LONG)
        self.assertEqual(len(watcher.events), 1)
        self.reactor.callLater(0, watcher.events.append, 0)
        self.reactor.iterate(0)
        self.assertEqual(len(watcher.events), 2)

    def test_one_poller(self) -> None:
        """A second poller is one of the reactor's descriptors; when the first stops, the loop goes on."""
        second = Poller(self.reactor)
        second.start()
        self.assertIn(second, self.reactor.getReaders())
        second.stop()
        self.poller.stop()
        self.reactor.callLater(0, self.reactor.stop)
        self.run_until_stopped()

    def test_stopped_by_an_event(self) -> None:
        """
        An event that stops the poller is delivered from the set that is closed; the reactor then uses its
        own.
        """
        _, far = self.watched(Watcher(self.poller.stop))
        far.send(b"1")
        self.reactor.callLater(0, lambda: self.reactor.callLater(0, self.reactor.stop))
        self.run_until_stopped()
        self.assertEqual(repr(self.poller), "<Poller stopped>")
        self.assertEqual(self.failures, [])

    def test_no_set_of_its_own(self) -> None:
        """Where Twisted's set is not found, the poller's is nested in the reactor as under any other."""
        own = next(value for value in vars(self.reactor).values() if isinstance(value, select.epoll))
        another: Any = type("Another", (PollerReactor,), {"extra": None})()
        self.addCleanup(another.waker.connectionLost, None)
        for name, value in vars(another).items():
            if name.endswith("__own") and value is not None:
                setattr(another, name, None)
        self.assertIsNotNone(own)
        poller = Poller(another)
        poller.start()
        self.addCleanup(poller.stop)
        self.assertIn(poller, another.getReaders())


class TimeTests(LoopCase):
    """What the loop leaves its set for."""

    def test_due(self) -> None:
        """A delayed call is made when it is due, though nothing else happens, and though much does."""
        for busy in (False, True):
            with self.subTest(busy=busy):
                called: list[float] = []
                watcher = Watcher()
                near, far = self.watched(watcher)
                if busy:
                    watcher.do = lambda near=near, far=far: (near.recv(9), far.send(b"x"))  # type: ignore[misc]
                    far.send(b"x")
                begun = time.monotonic()
                self.reactor.callLater(0.02, lambda called=called: called.append(time.monotonic()))
                while self.reactor.getDelayedCalls():
                    self.reactor.doIteration(self.reactor.timeout())
                    self.reactor.runUntilCurrent()
                self.assertGreaterEqual(called[0] - begun, 0.02)
                self.poller.forget(near)

    def test_made_by_an_event(self) -> None:
        """A call that an event makes, or moves up, does not wait as long as the loop had to wait."""
        far_off = self.reactor.callLater(LONG, self.reactor.stop)
        for do in (lambda: self.reactor.callLater(0, far_off.reset, 0), lambda: far_off.reset(0)):
            _, far = self.watched(Watcher(do))
            far.send(b"x")
        self.run_until_stopped()
        self.assertFalse(far_off.active())

    def test_delayed_and_moved_up(self) -> None:
        """The same for one whose delay is taken back."""
        call = self.reactor.callLater(LONG, self.reactor.stop)
        _, far = self.watched(Watcher(lambda: call.delay(-LONG)))
        far.send(b"x")
        self.run_until_stopped()

    def test_threads(self) -> None:
        """A call from a thread is made, whether the loop sleeps or not."""
        thread = threading.Thread(target=lambda: self.reactor.callFromThread(self.reactor.stop))
        self.reactor.callWhenRunning(thread.start)
        self.run_until_stopped()
        thread.join()

    def test_crash(self) -> None:
        """A loop that is told to leave at once by an event does."""
        _, far = self.watched(Watcher(self.reactor.crash))
        far.send(b"x")
        self.run_until_stopped()
        self.assertFalse(self.reactor.running)


class LostTests(LoopCase):
    """If the loop is lost, the poller's owner is told, once."""

    def test_set_closed(self) -> None:
        """By whomever the set is closed: nothing would be delivered any more."""
        descriptor = self.poller.fileno()
        _, far = self.watched(Watcher(lambda: os.close(descriptor)))
        far.send(b"x")
        self.reactor.callLater(LONG, self.fail)
        self.lost = lambda failure: (self.failures.append(failure), self.reactor.stop())
        self.run_until_stopped()
        self.assertEqual([failure.type for failure in self.failures], [OSError])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        # Its object would close somebody else's descriptor of that number.
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), descriptor)

    def test_the_reactor_fails(self) -> None:
        """An exception of Twisted's own loop counts as well: its descriptors are not served any more."""

        def fail(timeout: float) -> None:
            raise ZeroDivisionError

        base = PollerReactor.__mro__[1]
        self.patch(base, "doPoll", lambda reactor, timeout: fail(timeout))
        self.reactor.wakeUp()
        self.reactor.doIteration(0)
        self.assertEqual([failure.type for failure in self.failures], [ZeroDivisionError])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
