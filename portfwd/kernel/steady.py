# -*- test-case-name: tests.kernel.test_steady -*-
"""
A monotonic clock for reactors that count by the wall clock.

Twisted's reactors schedule delayed calls by ``time.time()``. If the wall clock is set one hour forward, every
timeout expires at once; one hour back stops them for an hour. Under such a reactor, `SteadyClock` keeps the
delayed calls of portfwd by the monotonic clock, and a thread wakes the reactor when the next one is due.
`steady` wraps a reactor: `IReactorTime` comes from the clock, everything else from the reactor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, cast

from twisted.python.runtime import seconds as wall_clock
from zope.interface import alsoProvides, providedBy

from portfwd.kernel.delayed_calls import DelayedCallsClock
from portfwd.kernel.reactor import Reactor

#: Seconds without a delayed call after which the thread ends.
IDLE: Final = 10.0


class SteadyClock(DelayedCallsClock):
    """Delayed calls by the monotonic clock. They run on the reactor's thread."""

    def __init__(
        self, call_from_thread: Callable[..., object], seconds: Callable[[], float] = monotonic
    ) -> None:
        """:param call_from_thread: calls a function on the reactor's thread, from any thread."""
        super().__init__(seconds, self._set_alarm)
        self._call_from_thread = call_from_thread
        # Guarded by the condition's lock: when the thread must wake the reactor.
        self._changed = threading.Condition()
        self._due: float | None = None
        self.thread: threading.Thread | None = None

    def _set_alarm(self) -> None:
        """Tell the thread when the first call is due."""
        due = self._calls.next_due
        if due is None:
            return
        with self._changed:
            if self._due is not None and self._due <= due:
                return
            self._due = due
            if self.thread is None:
                self.thread = threading.Thread(target=self._watch, name="portfwd-clock", daemon=True)
                self.thread.start()
            else:
                self._changed.notify()

    def _watch(self) -> None:
        """Body of the thread: sleep until a call is due, wake the reactor, wait for the next time."""
        while True:
            with self._changed:
                while self._due is None or (left := self._due - self.seconds()) > 0:
                    if not self._changed.wait(IDLE if self._due is None else left) and self._due is None:
                        self.thread = None
                        return
                self._due = None
            self._call_from_thread(self.run_due)

    def run_due(self) -> None:
        """Make the calls whose time has come."""
        self._calls.run_due()


class SteadyReactor:
    """A reactor whose clock is a `SteadyClock`."""

    def __init__(self, reactor: Any) -> None:
        clock = SteadyClock(reactor.callFromThread)
        self._reactor = reactor
        self.seconds = clock.seconds
        self.callLater = clock.callLater
        self.getDelayedCalls = clock.getDelayedCalls
        alsoProvides(self, *providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def __repr__(self) -> str:
        return f"<SteadyReactor over {self._reactor!r}>"


def steady(reactor: Any) -> Reactor:
    """`reactor` itself if its clock is monotonic, else `reactor` with a `SteadyClock`."""
    counts_by_wall_clock = getattr(reactor, "seconds", None) is wall_clock
    return cast(Reactor, SteadyReactor(reactor) if counts_by_wall_clock else reactor)
