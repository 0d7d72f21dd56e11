# -*- test-case-name: tests.limits.test_occupancy -*-
"""
How many are in, and who waits at the door.

One count for everything that has one: a rule, a target, all rules together. It
outlives the rule that made it while anybody still holds it, so that a reload
does not forget who is in. What the limit is, whoever asks knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class Occupancy:
    """
    A count, and those who are to be woken when it falls.

    One is woken for one that left, the one who has waited longest: thousands of listeners
    may wait for one place. Who is woken and has no use for it passes it on.

    :ivar taken: how many are in.
    :ivar full_at: when the bucket of its rate is full (`portfwd.limits.rates`).
    """

    __slots__ = ("__weakref__", "_waiting", "full_at", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self.full_at = 0.0
        self._waiting: dict[Callable[[], None], None] = {}

    def __repr__(self) -> str:
        return f"<Occupancy {self.taken} in, {len(self._waiting)} waiting>"

    def give_back(self) -> None:
        """One has left; whoever has waited longest may look whether it is his turn."""
        self.taken -= 1
        if self._waiting:
            self.wake_one()

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` once when there may be room."""
        self._waiting[wake] = None

    def forget(self, wake: Callable[[], None]) -> None:
        """`wake` is not to be called any more."""
        self._waiting.pop(wake, None)

    def wake_one(self) -> None:
        """Wake who has waited longest, if anybody waits."""
        if self._waiting:
            wake = next(iter(self._waiting))
            del self._waiting[wake]
            wake()


class RuleOccupancy(Occupancy):
    """
    A rule's.

    :ivar refused: how often each of the limits that bind it was reached.
    :ivar total: sessions that there have been.
    :ivar filter_failures: how often a filter raised.
    :ivar pauses: how often its listeners that are closed paused, by cause.
    :ivar dropped: datagrams that those dropped, by cause.
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
    A target's.

    :ivar dials: how often it was dialled.
    :ivar failures: how often it could not be reached.
    :ivar watchers: called with 1 or -1 after `taken` has changed.
    """

    __slots__ = ("dials", "failures", "watchers")

    def __init__(self) -> None:
        super().__init__()
        self.dials = 0
        self.failures = 0
        self.watchers: list[Callable[[int], None]] = []

    def take(self) -> None:
        """One is in more."""
        self.taken += 1
        for watch in self.watchers:
            watch(1)

    def give_back(self) -> None:
        """See `Occupancy`."""
        super().give_back()
        for watch in self.watchers:
            watch(-1)
