# -*- test-case-name: tests.service.daemon.test_last_resort -*-
"""
Ends the process if a regular stop is impossible or does not end.

There are two cases. The event loop is lost: the process cannot serve or stop any more, and its supervisor can
restart it. Or a second SIGTERM or SIGINT has come, and the process still runs `FORCED_EXIT_DELAY` seconds
later.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure

#: Exit status after the loss of the event loop: EX_SOFTWARE of sysexits.h, an internal error.
LOST: Final = 70

#: Exit status after a stop that did not end in time.
CUT_OFF: Final = 1

#: Seconds from the second signal to the forced exit. Sessions are reset at once, and each log has two seconds
#: for its last lines.
FORCED_EXIT_DELAY: Final = 6.0


class LastResort:
    """Writes the last lines of the logs and ends the process."""

    def __init__(self, write_last: Callable[[], None], leave: Callable[[int], object] = os._exit) -> None:
        """
        :param write_last: writes the last lines of the logs within a time limit, and removes the pid file.
        :param leave: ends the process with a status, without running exit handlers.
        """
        self._write_last = write_last
        self._leave = leave
        self._log = Logger()

    def lost(self, failure: Failure) -> None:
        """End the process, because the event loop is lost."""
        self._end(LOST, f"the event loop is lost: {failure.getErrorMessage()}")

    def force_exit(self) -> None:
        """
        End the process in `FORCED_EXIT_DELAY` seconds if it still runs then.

        A signal handler may call it, so it starts no thread.
        """
        if hasattr(signal, "setitimer"):  # not on Windows
            signal.signal(signal.SIGALRM, self._is_late)
            signal.setitimer(signal.ITIMER_REAL, FORCED_EXIT_DELAY)

    def _is_late(self, number: int, frame: FrameType | None) -> None:
        # The code below may wait for a lock of the interrupted code. A second alarm kills the process then.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, FORCED_EXIT_DELAY)
        self._end(CUT_OFF, f"the stop did not end within {FORCED_EXIT_DELAY:g} s")

    def _end(self, status: int, why: str) -> None:
        try:
            self._log.critical("the process ends: {why}", why=why)
            self._write_last()
        finally:
            self._leave(status)
