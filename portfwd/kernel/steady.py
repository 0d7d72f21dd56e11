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
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from time import monotonic
from typing import Any, Final, cast

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.runtime import seconds as wall_clock
from zope.interface import alsoProvides, implementer, providedBy

from portfwd.kernel.failures import log_failure
from portfwd.kernel.reactor import Reactor

#: Cancelled calls that are kept before the list is cleared of them. Twisted's number.
MOST_CANCELLED: Final = 50

#: Seconds without a delayed call after which the thread ends.
IDLE: Final = 10.0


@implementer(IReactorTime)
class SteadyClock:
    """Delayed calls by the monotonic clock. They run on the reactor's thread."""

    def __init__(
        self, call_from_thread: Callable[..., object], seconds: Callable[[], float] = monotonic
    ) -> None:
        """:param call_from_thread: calls a function on the reactor's thread, from any thread."""
        self.seconds = seconds
        self._call_from_thread = call_from_thread
        self._calls: list[DelayedCall] = []
        self._cancelled = 0
        self._running = False
        self._log = Logger()
        # Guarded by the condition's lock: when the thread must wake the reactor.
        self._changed = threading.Condition()
        self._due: float | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<SteadyClock {len(self._calls) - self._cancelled} calls>"

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 - the interface's name
        *args: object,
        **kw: object,
    ) -> DelayedCall:
        """See `IReactorTime.callLater`."""
        if delay < 0:
            raise ValueError(f"{delay} seconds from now is in the past")
        call = DelayedCall(
            self.seconds() + delay, callable, args, kw, self._was_cancelled, self._moved_up, self.seconds
        )
        heappush(self._calls, call)
        self._set_alarm()
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """See `IReactorTime.getDelayedCalls`."""
        return [call for call in self._calls if call.active()]

    def _was_cancelled(self, call: DelayedCall) -> None:
        self._cancelled += 1
        if self._cancelled > MOST_CANCELLED and self._cancelled > len(self._calls) // 2:
            self._calls = [one for one in self._calls if one is not call and not one.cancelled]
            heapify(self._calls)
            self._cancelled = 0

    def _moved_up(self, call: DelayedCall) -> None:
        heapify(self._calls)
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Give the thread the time of the first call. While calls run, this is done after them."""
        if self._running or not self._calls:
            return
        due = self._calls[0].time
        with self._changed:
            if self._due is not None and self._due <= due:
                return
            self._due = due
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="portfwd-clock", daemon=True)
                self._thread.start()
            else:
                self._changed.notify()

    def _watch(self) -> None:
        """Body of the thread: sleep until a call is due, wake the reactor, wait for the next time."""
        while True:
            with self._changed:
                while self._due is None or (left := self._due - self.seconds()) > 0:
                    if not self._changed.wait(IDLE if self._due is None else left) and self._due is None:
                        self._thread = None
                        return
                self._due = None
            self._call_from_thread(self.run_due)

    def run_due(self) -> None:
        """Run the calls that are due."""
        now = self.seconds()
        self._running = True
        try:
            while self._calls and self._calls[0].time <= now:
                call = heappop(self._calls)
                if call.cancelled:
                    self._cancelled -= 1
                elif call.delayed_time > 0.0:
                    call.activate_delay()
                    heappush(self._calls, call)
                else:
                    call.called = 1
                    try:
                        call.func(*call.args, **call.kw)
                    except BaseException:
                        log_failure(self._log, "while handling timed call {call!r}", call=call)
        finally:
            self._running = False
            self._set_alarm()


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
