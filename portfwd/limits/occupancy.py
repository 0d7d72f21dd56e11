# -*- test-case-name: tests.limits.test_occupancy -*-
"""
Counts of sessions, and the queue of listeners that wait for a free slot.

A rule, a target, and all rules together have a count each. It stays as long as it is referenced, so a reload
does not lose running sessions. The limit itself belongs to the caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class Occupancy:
    """
    A count and its waiters.

    Each session that ends wakes one waiter, the one that has waited longest: thousands of listeners may wait
    for one slot. A waiter that cannot use the slot calls `wake_next`.

    :ivar taken: number of sessions.
    :ivar full_at: time at which the bucket of the rate is full (`portfwd.limits.rates`).
    """

    __slots__ = ("__weakref__", "_waiting", "full_at", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self.full_at = 0.0
        self._waiting: dict[Callable[[], None], None] = {}

    def __repr__(self) -> str:
        return f"<Occupancy {self.taken} in, {len(self._waiting)} waiting>"

    def give_back(self) -> None:
        """A session has ended. Wake the longest waiter."""
        self.taken -= 1
        if self._waiting:
            self.wake_one()

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` once when a slot may be free."""
        self._waiting[wake] = None

    def forget(self, wake: Callable[[], None]) -> None:
        """Do not call `wake` any more."""
        self._waiting.pop(wake, None)

    def wake_one(self) -> None:
        """Wake the longest waiter, if there is one."""
        if self._waiting:
            wake = next(iter(self._waiting))
            del self._waiting[wake]
            wake()


class RuleOccupancy(Occupancy):
    """
    The counts of a rule.

    :ivar refused: number of refusals by limit.
    :ivar total: number of sessions since the start.
    :ivar filter_failures: number of exceptions of filters.
    :ivar pauses: number of pauses of its closed listeners, by cause.
    :ivar dropped: number of datagrams that its closed listeners dropped, by cause.
    """

    __slots__ = ("dropped", "filter_failures", "pauses", "refused", "total")

    def __init__(self) -> None:
        super().__init__()
        self.refused: Counter[str] = Counter()
        self.total = 0
        self.filter_failures = 0
        self.pauses: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()


class TargetOccupancy(Occupancy):
    """
    The counts of a target.

    :ivar dials: number of dials.
    :ivar failures: number of failed dials.
    :ivar watchers: called with 1 or -1 after each change of `taken`.
    """

    __slots__ = ("dials", "failures", "watchers")

    def __init__(self) -> None:
        super().__init__()
        self.dials = 0
        self.failures = 0
        self.watchers: list[Callable[[int], None]] = []

    def take(self) -> None:
        """Count one session more."""
        self.taken += 1
        for watch in self.watchers:
            watch(1)

    def give_back(self) -> None:
        """See `Occupancy`."""
        super().give_back()
        for watch in self.watchers:
            watch(-1)
