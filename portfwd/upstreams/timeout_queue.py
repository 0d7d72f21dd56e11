# -*- test-case-name: tests.upstreams.test_timeout_queue -*-
"""
Many waits of the same length on one timer.

Every session waits for its dial and, half-closed, for silence; nearly all of these waits end
before their time. A delayed call of the reactor for each costs more than the system calls
it watches over. Waits of one length end in the order in which they began, so a queue and
one timer for its head do the same for next to nothing.

Waits that end together cost as much each as one that ends alone, and `AT_ONCE` of them are called before
others have their turn: ten thousand sessions may have become silent in the same second.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.kernel.turn_clock import AT_ONCE


class TimeoutQueue:
    """
    Calls those who have waited for `seconds`.

    :ivar seconds: the length of every wait.
    """

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self.seconds = seconds
        self._clock = clock
        # Ordered, and not a dict: to find the first of one from whose front others were taken takes longer
        # the more of them there were.
        self._waiting: OrderedDict[object, tuple[float, Callable[[], None]]] = OrderedDict()
        self._timer: IDelayedCall | None = None
        self._calling = False

    def __repr__(self) -> str:
        return f"<TimeoutQueue {self.seconds:g} s, {len(self._waiting)} waiting>"

    def __contains__(self, who: object) -> bool:
        return who in self._waiting

    def wait(self, who: object, over: Callable[[], None]) -> None:
        """Call `over` after `seconds`, unless `who` is forgotten before; a wait of his begins anew."""
        self._waiting.pop(who, None)
        self._waiting[who] = (self._clock.seconds() + self.seconds, over)
        if self._timer is None and not self._calling:
            self._timer = self._clock.callLater(self.seconds, self._due)

    def forget(self, who: object) -> None:
        """`who` waits no more; one who does not wait is fine."""
        if self._waiting.pop(who, None) is not None and not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        now = self._clock.seconds()
        self._timer = None
        self._calling = True
        waiting = self._waiting
        try:
            # Whoever waits again when it is called waits for the next turn, also for no time at all.
            for _ in range(min(AT_ONCE, len(waiting))):
                # One at a time: who is called may forget others, and one that raises leaves the rest.
                if not waiting or next(iter(waiting.values()))[0] > now:
                    break
                _, (_, over) = waiting.popitem(last=False)
                over()
        finally:
            self._calling = False
            if waiting:
                deadline, _ = next(iter(waiting.values()))
                self._timer = self._clock.callLater(max(0.0, deadline - now), self._due)
