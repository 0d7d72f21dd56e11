# -*- test-case-name: tests.upstreams.test_timeout_queue -*-
"""
Many timeouts of the same length on one timer.

Every session has a timeout for its dial and another one while it is half-closed. Nearly all of them are
cancelled before they expire. A delayed call of the reactor for each would cost more than the system calls of
the dial. Timeouts of one length expire in the order in which they began, so a queue and one timer for its
first entry are sufficient.

At most `AT_ONCE` expired timeouts are processed in one turn of the reactor, because ten thousand sessions may
become silent in the same second.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.kernel.turn_clock import AT_ONCE


class TimeoutQueue:
    """
    Timeouts of `seconds` each.

    :ivar seconds: the length of each timeout.
    """

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self.seconds = seconds
        self._clock = clock
        # Not a dict: finding its first entry takes longer the more entries before it were removed.
        self._waiting: OrderedDict[object, tuple[float, Callable[[], None]]] = OrderedDict()
        self._timer: IDelayedCall | None = None
        self._calling = False

    def __repr__(self) -> str:
        return f"<TimeoutQueue {self.seconds:g} s, {len(self._waiting)} waiting>"

    def __contains__(self, who: object) -> bool:
        return who in self._waiting

    def wait(self, who: object, over: Callable[[], None]) -> None:
        """Call `over` after `seconds` unless `forget` is called; a pending timeout of `who` is restarted."""
        if who in self._waiting:
            del self._waiting[who]  # the new one is the last
        self._waiting[who] = (self._clock.seconds() + self.seconds, over)
        if self._timer is None and not self._calling:
            self._timer = self._clock.callLater(self.seconds, self._due)

    def forget(self, who: object) -> None:
        """Cancel the timeout of `who`, if there is one."""
        if self._waiting.pop(who, None) is not None and not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        now = self._clock.seconds()
        self._timer = None
        self._calling = True
        waiting = self._waiting
        try:
            # A timeout that is added by a callback is not processed in this turn, even with zero seconds.
            for _ in range(min(AT_ONCE, len(waiting))):
                # Remove one at a time: a callback may cancel others, and one that raises must not lose them.
                if not waiting or next(iter(waiting.values()))[0] > now:
                    break
                _, (_, over) = waiting.popitem(last=False)
                over()
        finally:
            self._calling = False
            if waiting:
                deadline, _ = next(iter(waiting.values()))
                self._timer = self._clock.callLater(max(0.0, deadline - now), self._due)
