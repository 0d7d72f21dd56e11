# -*- test-case-name: tests.kernel.test_turn_clock -*-
"""
A clock whose calls take turns: many that are due together are made some at a time.

A reactor makes all calls that are due before it looks at any descriptor. Ten thousand sessions that become
silent together take a second to close, and nothing else moves for that second. Here one timer stands for all
calls; when it is over `most` of the calls that are due are made, or what is begun within `SLICE`. The others
wait for the next turn of whatever clock the timer is of.

Clocks are nested. The clock of a process lets one of its rules at a time make calls (`RULES`); the clock of
a rule makes `AT_ONCE` calls of its sessions. So what a turn takes does not depend on how many sessions or
rules there are, and a rule with many calls does not delay those of another.
"""

from __future__ import annotations

from typing import Final
from weakref import WeakMethod

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.kernel.delayed_calls import DelayedCallsClock

#: Calls of a rule's sessions in one turn. To close a session takes 50 to 100 microseconds, so other sessions
#: wait a few milliseconds.
AT_ONCE: Final = 32

#: Seconds after which a turn begins no other call, for slow machines and calls: a fifth of the longest stall
#: that sessions may cause each other.
SLICE: Final = 0.002

#: Rules whose calls are made in one turn.
RULES: Final = 1


class TurnClock(DelayedCallsClock):
    """See the module."""

    def __init__(self, clock: IReactorTime, most: int) -> None:
        """:param clock: has the timer."""
        self._clock = clock
        self._most = most
        set_timer = WeakMethod(self._set_timer)

        def changed() -> None:
            method = set_timer()
            if method is not None:
                method()

        # The calls do not own the clock: the clock of a rule that is gone is freed at once, without a cycle.
        super().__init__(clock.seconds, changed)
        self._timer: IDelayedCall | None = None
        self._timer_due = 0.0

    def _set_timer(self) -> None:
        due = self._calls.next_due
        if self._timer is not None:
            if due is not None and self._timer_due <= due:
                return  # if it is early, there is nothing to be done then
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_due = due
            self._timer = self._clock.callLater(max(0.0, due - self.seconds()), self._run)

    def _run(self) -> None:
        self._timer = None
        self._calls.run_due(self._most, SLICE)
