"""Filters that break the process they are in, as a bug in compiled code might."""

from __future__ import annotations

import contextlib
import os
import threading

from twisted.logger import Logger

from portfwd.filters import Direction, Filter, Verdict

_log = Logger()


class LosesEvents(Filter):
    """Closes whatever the process is told of events by."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if "eventpoll" in os.readlink(f"/proc/self/fd/{name}"):
                    os.close(int(name))
        return None


class NeverReturns(Filter):
    """Does something that never ends."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        _log.info("never")
        while True:
            pass


class OccupiesThread(Filter):
    """Leaves a call in the reactor's thread pool that never returns."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        from twisted.internet import reactor

        reactor.callInThread(threading.Event().wait)  # type: ignore[attr-defined]
        _log.info("never")
        return None


class Talkative(Filter):
    """Logs a line that is larger than a pipe takes."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        _log.info("x" * 200_000)
        return None
