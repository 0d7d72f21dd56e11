# -*- test-case-name: tests.kernel.test_delayed_calls -*-
"""
Delayed calls in the order of their times: what a clock of ours consists of, but for what wakes it.

The calls are Twisted's `DelayedCall`, so whoever made one may cancel it, put it off or move it up. A clock
says what the time is, is told when the first call may be another one, and runs what is due.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Final

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from portfwd.kernel.failures import log_failure

#: Cancelled calls that are kept until their time comes, before the list is cleared of them: as Twisted has
#: it.
MOST_CANCELLED: Final = 50


class DelayedCalls:
    """See the module."""

    def __init__(self, seconds: Callable[[], float], changed: Callable[[], None]) -> None:
        """
        :param changed: told when the time of the first call may have changed, but while calls are made only
            when that is through.
        """
        self._seconds = seconds
        self._changed = changed
        # Those of one time in the order in which they were made; tuples, since they compare fastest.
        self._calls: list[tuple[float, int, DelayedCall]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._running = False
        self._log = Logger()

    def __len__(self) -> int:
        return len(self._calls) - self._cancelled

    def add(
        self, delay: float, function: Callable[..., object], args: tuple[Any, ...], kw: dict[str, Any]
    ) -> DelayedCall:
        """See `twisted.internet.interfaces.IReactorTime.callLater`."""
        if delay < 0:
            raise ValueError(f"{delay} seconds from now is in the past")
        call = DelayedCall(
            self._seconds() + delay, function, args, kw, self._was_cancelled, self._moved_up, self._seconds
        )
        heappush(self._calls, (call.time, next(self._numbers), call))
        if self._calls[0][2] is call:
            self._tell()
        return call

    def active(self) -> list[DelayedCall]:
        """Those that are to be made."""
        return [call for _, _, call in self._calls if call.active()]

    @property
    def next_due(self) -> float | None:
        """When the first one is due, or was before it was cancelled or put off; None: there is none."""
        return self._calls[0][0] if len(self) else None

    def _tell(self) -> None:
        if not self._running:
            self._changed()

    def _was_cancelled(self, call: DelayedCall) -> None:
        self._cancelled += 1
        if self._cancelled > MOST_CANCELLED and self._cancelled > len(self._calls) // 2:
            self._calls = [one for one in self._calls if one[2] is not call and not one[2].cancelled]
            heapify(self._calls)
            self._cancelled = 0
        self._clear_if_done()
        if not self._calls:
            self._tell()

    def _moved_up(self, call: DelayedCall) -> None:
        self._calls = [(one.time, number, one) for _, number, one in self._calls]
        heapify(self._calls)
        self._tell()

    def run_due(self, most: float = math.inf, within: float = math.inf) -> None:
        """
        Make the calls whose time has come, the first ones first; those that they add wait for the next time.

        :param most: so many at most.
        :param within: seconds after which no other one is begun.
        """
        now, end = self._seconds(), next(self._numbers)
        self._running = True
        try:
            while self._calls and most > 0 and self._calls[0][0] <= now and self._calls[0][1] < end:
                _, number, call = heappop(self._calls)
                if call.cancelled:
                    self._cancelled -= 1
                elif call.delayed_time > 0.0:
                    call.activate_delay()
                    heappush(self._calls, (call.time, number, call))
                else:
                    most -= 1
                    call.called = 1
                    try:
                        call.func(*call.args, **call.kw)
                    except BaseException:
                        log_failure(self._log, "while handling timed call {call!r}", call=call)
                    if self._seconds() - now >= within:
                        break
        finally:
            self._running = False
            self._clear_if_done()
            self._changed()

    def _clear_if_done(self) -> None:
        """
        Remove the cancelled calls if no other is left.

        A later call would otherwise come after a cancelled one, and `changed` would not be called for it.
        """
        if not len(self):
            self._calls.clear()
            self._cancelled = 0


@implementer(IReactorTime)
class DelayedCallsClock:
    """What clocks of `DelayedCalls` have in common; what wakes one is its own."""

    def __init__(self, seconds: Callable[[], float], changed: Callable[[], None]) -> None:
        """:param changed: see `DelayedCalls`."""
        self.seconds = seconds
        self._calls = DelayedCalls(seconds, changed)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._calls)} calls>"

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 - the interface's name
        *args: object,
        **kw: object,
    ) -> DelayedCall:
        """See `IReactorTime.callLater`."""
        return self._calls.add(delay, callable, args, kw)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """See `IReactorTime.getDelayedCalls`."""
        return self._calls.active()
