# -*- test-case-name: tests.limits.test_pacing -*-
"""
How many bytes a second may pass, and whose turn it is when there are not enough for all.

A `Bucket` fills with `rate` bytes a second up to a tenth of a second's worth. A `SharedBucket` shares
one among flows: who asks gets a slice at once where there are bytes and nobody waits,
else stands in a queue, first come, first served. Slices are of one size, so that of flows
which always have more to move each gets the same.

Time is an argument, seconds of any clock; one that is set back gives nothing and takes
nothing. It refuses to wait: `SharedBucket.wait` says for how long somebody should.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

#: Seconds' worth of bytes that may pass at once after a silence, and that are made up for after
#: a timer that came late: a busy machine's timers seldom are later than this.
BURST_SECONDS: Final = 0.1

#: Seconds' worth of bytes in a slice: with ten flows each has its turn twice a second.
SLICE_SECONDS: Final = 0.05

#: Most bytes of a slice: a read of the default buffer, or the sixteen pages that every pipe has room for.
MAX_SLICE: Final = 64 * 1024

#: Least bytes of a slice: about a segment. With less, system calls are all there is.
MIN_SLICE: Final = 1024

#: A bucket lacks less than this much of a byte: it is full enough. Seconds are floats.
_ENOUGH: Final = 0.5

W = TypeVar("W")


class Bucket:
    """
    Bytes that may pass.

    :ivar rate: bytes a second that flow in.
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
        """How many bytes it holds; below zero where more was taken than there was."""
        if now > self._at:
            self._level = min(float(self.burst), self._level + (now - self._at) * self.rate)
        self._at = now
        return self._level

    def take(self, count: int, now: float) -> None:
        """Take `count` bytes, whether they are there or not; below zero: put some back."""
        self._level = min(float(self.burst), self.level(now) - count)

    def seconds_until(self, count: int, now: float) -> float:
        """How long it takes until it holds `count` bytes; 0.0 if it does."""
        lacking = count - self.level(now)
        return lacking / self.rate if lacking > _ENOUGH else 0.0


class SharedBucket(Generic[W]):
    """
    A bucket that many take from, in turn; `W` is whoever asks, known by its hash.

    :ivar slice: bytes that one gets in a turn.
    """

    __slots__ = ("_bucket", "_waiting", "slice")

    def __init__(self, rate: int, now: float) -> None:
        """:param rate: bytes a second."""
        self.slice = min(MAX_SLICE, max(MIN_SLICE, int(rate * SLICE_SECONDS)))
        # Of a slow rate a slice is more than a burst: what a late timer makes up for needs room besides.
        burst = max(self.slice + int(rate * (BURST_SECONDS - SLICE_SECONDS)), int(rate * BURST_SECONDS))
        self._bucket = Bucket(rate, burst, now)
        self._waiting: dict[W, int] = {}

    def __repr__(self) -> str:
        return f"<SharedBucket {self._bucket.rate}/s, {len(self._waiting)} waiting>"

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def ask(self, who: W, most: int, now: float) -> int:
        """
        A slice, or `most` bytes where they are less; 0: `who` waits for them now, at the end of the queue.

        Who waits already stays where he is.
        """
        count = min(most, self.slice)
        if self._waiting or self._bucket.seconds_until(count, now):
            self._waiting.setdefault(who, count)
            return 0
        self._bucket.take(count, now)
        return count

    def pass_at_once(self, size: int, now: float) -> bool:
        """Whether `size` bytes pass now: the bucket holds them, or is full, and nobody waits."""
        bucket = self._bucket
        if self._waiting or bucket.seconds_until(min(size, bucket.burst), now):
            return False
        bucket.take(size, now)
        return True

    def is_open(self, now: float) -> bool:
        """Whether nobody waits, and nothing is owed."""
        return not self._waiting and self._bucket.level(now) >= 0

    def leave(self, who: W) -> None:
        """`who` waits no more; one who does not wait is fine."""
        self._waiting.pop(who, None)

    def settle(self, granted: int, used: int, now: float) -> None:
        """Of `granted` bytes `used` have passed: the rest is there again, what was too much is owed."""
        if granted != used:
            self._bucket.take(used - granted, now)

    def next(self, now: float) -> tuple[W, int] | None:
        """Whose turn it is, and how many bytes he is granted: he waits no more. None: nobody's yet."""
        for who, count in self._waiting.items():
            if self._bucket.seconds_until(count, now):
                return None
            del self._waiting[who]
            self._bucket.take(count, now)
            return who, count
        return None

    def wait(self, now: float) -> float | None:
        """Seconds until the next one's turn; None: nobody waits."""
        for count in self._waiting.values():
            return self._bucket.seconds_until(count, now)
        return None
