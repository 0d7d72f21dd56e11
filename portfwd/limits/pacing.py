# -*- test-case-name: tests.limits.test_pacing -*-
"""
How many bytes a second may pass, and in which order waiters get them.

A `Bucket` fills with `rate` bytes a second, up to a tenth of a second's worth. A `SharedBucket` shares a
bucket among flows. A flow that asks gets a slice at once if the bucket holds one and no other flow waits;
else it waits in a queue, first in, first out. All slices have one size, so flows that always have more to
move get equal shares.

Time is an argument, in seconds of any clock. A clock that is set back adds nothing and takes nothing.
This module does not wait: `SharedBucket.wait` returns how long its caller should.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

#: Seconds' worth of bytes that may pass at once after a silence or after a late timer. The timers of a busy
#: machine are seldom later than this.
BURST_SECONDS: Final = 0.1

#: Seconds' worth of bytes in a slice: each of ten flows gets one twice a second.
SLICE_SECONDS: Final = 0.05

#: Most bytes of a slice: a read of the default buffer, or the sixteen pages that every pipe has room for.
MAX_SLICE: Final = 64 * 1024

#: Least bytes of a slice, about a segment. With smaller slices most of the time is spent in system calls.
MIN_SLICE: Final = 1024

#: A bucket that lacks less than this many bytes counts as full enough, since seconds are floats.
_ENOUGH: Final = 0.5

W = TypeVar("W")


class Bucket:
    """
    Bytes that may pass.

    :ivar rate: bytes a second that are added.
    :ivar burst: most bytes it holds; it is full at first.
    """

    __slots__ = ("_at", "_level", "burst", "rate")

    def __init__(self, rate: int, burst: int, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = float(burst)
        self._at = now

    def __repr__(self) -> str:
        return f"<Bucket {self._level:.0f} of {self.burst}, {self.rate}/s>"

    def level(self, now: float) -> float:
        """Bytes that it holds; below zero after more was taken than it held."""
        if now > self._at:
            self._level = min(float(self.burst), self._level + (now - self._at) * self.rate)
        self._at = now
        return self._level

    def take(self, count: int, now: float) -> None:
        """Take `count` bytes, also more than it holds; a negative count puts bytes back."""
        self._level = min(float(self.burst), self.level(now) - count)

    def seconds_until(self, count: int, now: float) -> float:
        """Seconds until it holds `count` bytes; 0.0 if it does."""
        lacking = count - self.level(now)
        return lacking / self.rate if lacking > _ENOUGH else 0.0


class SharedBucket(Generic[W]):
    """
    A bucket from which waiters take slices in turn; `W` is their type, which must be hashable.

    :ivar slice: bytes of one grant.
    """

    __slots__ = ("_bucket", "_waiting", "slice")

    def __init__(self, rate: int, now: float) -> None:
        """:param rate: bytes a second."""
        self.slice = min(MAX_SLICE, max(MIN_SLICE, int(rate * SLICE_SECONDS)))
        # At a slow rate a slice is larger than a burst; the bytes of a late timer need room besides.
        burst = max(self.slice + int(rate * (BURST_SECONDS - SLICE_SECONDS)), int(rate * BURST_SECONDS))
        self._bucket = Bucket(rate, burst, now)
        self._waiting: dict[W, int] = {}

    def __repr__(self) -> str:
        return f"<SharedBucket {self._bucket.rate}/s, {len(self._waiting)} waiting>"

    @property
    def is_awaited(self) -> bool:
        """Whether there is a waiter."""
        return bool(self._waiting)

    def ask(self, waiter: W, most: int, now: float) -> int:
        """
        Grant a slice, or `most` bytes if these are fewer; 0: `waiter` is now at the end of the queue.

        A waiter that is in the queue already keeps its position.
        """
        count = min(most, self.slice)
        if self._waiting or self._bucket.seconds_until(count, now):
            self._waiting.setdefault(waiter, count)
            return 0
        self._bucket.take(count, now)
        return count

    def pass_at_once(self, size: int, now: float) -> bool:
        """Take `size` bytes if there is no waiter and the bucket holds them or is full; say whether."""
        bucket = self._bucket
        if self._waiting or bucket.seconds_until(min(size, bucket.burst), now):
            return False
        bucket.take(size, now)
        return True

    def level(self, now: float) -> float:
        """Bytes that it holds; below zero: a debt."""
        return self._bucket.level(now)

    def is_open(self, now: float) -> bool:
        """Whether there is no waiter and no debt."""
        return not self._waiting and self._bucket.level(now) >= 0

    def leave(self, waiter: W) -> None:
        """Remove `waiter` from the queue, if it is there."""
        self._waiting.pop(waiter, None)

    def settle(self, granted: int, used: int, now: float) -> None:
        """Put back what was granted and not used, or take what was used beyond the grant."""
        if granted != used:
            self._bucket.take(used - granted, now)

    def next(self, now: float) -> tuple[W, int] | None:
        """Pop the next waiter and its grant in bytes. None if no waiter can be served yet."""
        for waiter, count in self._waiting.items():
            if self._bucket.seconds_until(count, now):
                return None
            del self._waiting[waiter]
            self._bucket.take(count, now)
            return waiter, count
        return None

    def wait(self, now: float) -> float | None:
        """Seconds until the next waiter can be served; None if there is none."""
        for count in self._waiting.values():
            return self._bucket.seconds_until(count, now)
        return None
