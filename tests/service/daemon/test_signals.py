"""Signals become calls. Each signal is sent to this process, which restores its handlers afterwards."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, cast
from unittest import mock

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.daemon.signals import TAKEN, Signals
from portfwd.values import CloseReason
from tests.events import EventsOf

NUMBERS = {name: getattr(signal, name) for name in TAKEN}


class FakeReactor:
    """Runs when the test says so."""

    def __init__(self) -> None:
        self.starters: list[Callable[[], None]] = []
        self.stops = 0
        self.enders: list[Callable[[], None]] = []

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        self.starters.append(call)

    def callFromThread(self, call: Callable[[], None]) -> None:
        call()

    def stop(self) -> None:
        self.stops += 1

    def addSystemEventTrigger(
        self, phase: str, event: str, call: Callable[..., object], *args: object
    ) -> None:
        assert (phase, event) == ("after", "shutdown")
        self.enders.append(lambda: call(*args))


class SignalTests(SynchronousTestCase):
    """What each signal does."""

    def setUp(self) -> None:
        """Signals that nobody else listens to."""
        self.rotated: list[int] = []

        def rotate(number: int, frame: FrameType | None) -> None:
            self.rotated.append(number)

        for number in NUMBERS.values():
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        signal.signal(signal.SIGUSR1, rotate)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.addCleanup(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
        self.reactor = FakeReactor()
        self.forwarder = mock.Mock(session_count=3)
        self.reopened = 0
        self.reloads = 0
        self.hurries = 0
        self.signals = Signals(cast(Any, self.reactor), self.forwarder, self.reopen, self.reload, self.hurry)
        self.told = EventsOf(self, Signals)
        self.signals.startService()

    def reopen(self) -> None:
        """The access log is opened again."""
        self.reopened += 1

    def reload(self) -> None:
        """The rules are read again."""
        self.reloads += 1

    def hurry(self) -> None:
        """The process ends soon, come what may."""
        self.hurries += 1

    def run_reactor(self) -> None:
        """The reactor runs, with handlers of its own."""
        signal.signal(signal.SIGTERM, lambda *_: self.fail("the reactor's own handler was called"))
        for start in self.reactor.starters:
            start()

    def send(self, name: str) -> None:
        """One signal, to the thread in which twistd is alone when it starts."""
        signal.pthread_kill(threading.main_thread().ident or 0, NUMBERS[name])

    def test_a_signal_when_the_reactor_has_ended(self) -> None:
        """It waits, and does not kill: Twisted has put the old handlers back by then."""
        self.run_reactor()
        for end in self.reactor.enders:
            end()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.send("SIGTERM")
        self.assertIn(signal.SIGTERM, signal.sigpending())
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what waits is dropped

    def test_stop_then_cut(self) -> None:
        """The first SIGTERM or SIGINT stops the reactor, which drains; each further one cuts."""
        self.run_reactor()
        self.send("SIGTERM")
        self.assertEqual(self.reactor.stops, 1)
        self.forwarder.cut.assert_not_called()
        self.assertEqual(self.hurries, 0)
        self.send("SIGINT")
        self.assertEqual(self.reactor.stops, 1)
        self.forwarder.cut.assert_called_once_with(CloseReason.KILLED)
        self.assertEqual(
            self.told.texts(LogLevel.info),
            ["SIGTERM: stopping, 3 sessions open", "SIGINT: stopping at once: 3 sessions reset"],
        )

    def test_a_reactor_that_calls_nothing(self) -> None:
        """The second signal ends the process although the reactor does not do what it is asked."""
        self.run_reactor()
        self.reactor.callFromThread = lambda call: None  # type: ignore[method-assign]
        self.send("SIGTERM")
        self.send("SIGTERM")
        self.send("SIGTERM")
        self.assertEqual((self.reactor.stops, self.hurries), (0, 1))

    def test_something_that_does_not_end(self) -> None:
        """Once the reactor has ended, the process has some seconds to end as well."""
        self.run_reactor()
        for end in self.reactor.enders:
            end()
        self.assertEqual(self.hurries, 1)

    def test_signals_before_the_reactor(self) -> None:
        """A signal between the start and the reactor is not lost, and does not kill."""
        self.send("SIGTERM")
        self.send("SIGHUP")
        self.assertEqual(self.reactor.stops, 0)
        self.run_reactor()
        self.assertEqual(self.reactor.stops, 1)

    def test_hup(self) -> None:
        """Each SIGHUP reads the rules again; one that comes while the process stops does not."""
        self.run_reactor()
        self.send("SIGHUP")
        self.send("SIGHUP")
        self.assertEqual((self.reloads, self.reactor.stops), (2, 0))
        self.send("SIGTERM")
        self.send("SIGHUP")
        self.assertEqual(self.reloads, 2)
        self.assertEqual(
            self.told.texts(), ["SIGTERM: stopping, 3 sessions open", "SIGHUP ignored: stopping"]
        )

    def test_usr1(self) -> None:
        """SIGUSR1 opens the access log again, and twistd's own as it would without us."""
        self.run_reactor()
        self.send("SIGUSR1")
        self.assertEqual((self.reopened, self.rotated), (1, [signal.SIGUSR1]))

    def test_platform_without_them(self) -> None:
        """A platform that lacks a signal goes without."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS.values())
        for name in ("SIGUSR1", "pthread_sigmask"):
            self.patch(signal, name, None)
            delattr(signal, name)
        self.run_reactor()
        self.send("SIGUSR1")
        self.assertEqual((self.reopened, self.rotated), (0, [NUMBERS["SIGUSR1"]]))
        self.send("SIGTERM")
        self.assertEqual(self.reactor.stops, 1)
