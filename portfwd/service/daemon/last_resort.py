# -*- test-case-name: tests.service.daemon.test_last_resort -*-
"""
Ends the process where it cannot end by itself.

Two cases. The event loop is lost, so nothing that a stop waits for would ever happen: a process that lives
on deaf is worse than one that its supervisor starts again. And a second SIGTERM or SIGINT has come and the
process is still there after `HURRY`: something that was to stop does not.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure

#: Exit status where the event loop is lost: EX_SOFTWARE of sysexits.h, an internal error.
LOST: Final = 70

#: Exit status where a stop had to be cut off.
CUT_OFF: Final = 1

#: Seconds after the second signal: sessions are reset at once, and the logs get two seconds each for their
#: last lines.
HURRY: Final = 6.0


class LastResort:
    """What remains to be done, and the end."""

    def __init__(self, write_last: Callable[[], None], leave: Callable[[int], object] = os._exit) -> None:
        """
        :param write_last: writes the last lines of the logs, in bounded time, and removes what others would
            take for signs of life.
        :param leave: ends the process with a status, and runs nothing else.
        """
        self._write_last = write_last
        self._leave = leave
        self._log = Logger()

    def lost(self, failure: Failure) -> None:
        """The event loop is lost."""
        self._end(LOST, f"the event loop is lost: {failure.getErrorMessage()}")

    def hurry(self) -> None:
        """
        End the process in `HURRY` seconds, unless it has ended by then.

        Called by a signal's handler, where a thread could not be started safely.
        """
        if hasattr(signal, "setitimer"):  # not on Windows
            signal.signal(signal.SIGALRM, self._is_late)
            signal.setitimer(signal.ITIMER_REAL, HURRY)

    def _is_late(self, number: int, frame: FrameType | None) -> None:
        # What is done here may wait for something that the interrupted code holds: then the kernel ends the
        # process.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, HURRY)
        self._end(CUT_OFF, f"the stop did not end within {HURRY:g} s: cut off")

    def _end(self, status: int, why: str) -> None:
        try:
            self._log.critical("the process ends: {why}", why=why)
            self._write_last()
        finally:
            self._leave(status)
