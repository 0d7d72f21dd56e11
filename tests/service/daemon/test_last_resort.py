"""Tests for the end of a process that cannot end by itself."""

from __future__ import annotations

import signal
from unittest import mock

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.daemon.last_resort import CUT_OFF, FORCED_EXIT_DELAY, LOST, LastResort


class LastResortTests(SynchronousTestCase):
    """What is done, and with which status the process ends."""

    def setUp(self) -> None:
        self.done: list[object] = []
        self.last = LastResort(lambda: self.done.append("last lines"), self.done.append)
        self.addCleanup(signal.signal, signal.SIGALRM, signal.getsignal(signal.SIGALRM))

    def test_lost(self) -> None:
        """A lost event loop is an internal error: the last lines are written, and the process ends."""
        self.last.lost(Failure(OSError("bad")))
        self.assertEqual(self.done, ["last lines", LOST])

    def test_the_last_lines_fail(self) -> None:
        """The process ends, whatever happens to them."""
        last = LastResort(lambda: 1 / 0, self.done.append)  # type: ignore[arg-type, return-value]
        self.assertRaises(ZeroDivisionError, last.lost, Failure(OSError("bad")))
        self.assertEqual(self.done, [LOST])

    def test_hurry(self) -> None:
        """The process is given some seconds; the kernel's timer then ends it."""
        with mock.patch.object(signal, "setitimer") as timer:
            self.last.force_exit()
        timer.assert_called_once_with(signal.ITIMER_REAL, FORCED_EXIT_DELAY)
        self.assertEqual(self.done, [])
        with mock.patch.object(signal, "setitimer") as timer:
            signal.raise_signal(signal.SIGALRM)
        self.assertEqual(self.done, ["last lines", CUT_OFF])
        # And should that hang, the kernel does it.
        timer.assert_called_once_with(signal.ITIMER_REAL, FORCED_EXIT_DELAY)
        self.assertEqual(signal.getsignal(signal.SIGALRM), signal.SIG_DFL)
