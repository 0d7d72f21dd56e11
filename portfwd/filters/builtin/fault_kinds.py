# -*- test-case-name: tests.filters.builtin.test_fault_kinds -*-
"""
The faults of `portfwd.filters.builtin.faults` for streams, one filter each.

Each call of a filter reads the state and the options of its `Fault`, because both may change during the
connection. An inactive fault passes all bytes. Each direction has its own random generator, so the directions
do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from portfwd.filters.api import (
    DONE,
    DROP,
    Close,
    Connection,
    Delay,
    Forward,
    Reply,
    Verdict,
    Wake,
)
from portfwd.filters.builtin.fault_clause import Fault
from portfwd.filters.builtin.fault_filter import FaultChange, FaultFilter
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction

#: Seconds of a piece of a paced stream: short enough to look continuous, long enough for one timer each.
TICK: Final = 0.02
#: Most delayed pieces of a direction, and of one verdict. Each takes two timers or a system call.
MAX_PIECES: Final = 64
#: Seconds between two batches of `MAX_PIECES` of a slicer without ``delay=``. Pieces of one byte take a
#: system call each, so other sessions need turns in between.
BREATH: Final = 1e-4
#: Seconds for which a rate of 0 holds bytes, unless it changes, and an end waits for a reset: longer than any
#: test. The timer is not stopped if they are sent before, so it has an end.
HOLD: Final = 30 * 86400.0


class Latency(FaultFilter):
    """Delays every chunk and the end by ``delay``, plus or minus ``jitter``."""

    def _seconds(self, direction: Direction) -> float:
        delay, jitter = self._options.delay or 0.0, self._options.jitter or 0.0
        return max(0.0, self._chances[direction].between(delay - jitter, delay + jitter))

    def spoil(self, direction: Direction, data: bytes) -> Verdict:
        """See `FaultFilter`."""
        return Delay(self._seconds(direction), data)

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        if direction not in self._directions or not self._fault.active:
            return None
        return Delay(self._seconds(direction))


class SlowClose(FaultFilter):
    """Delays the end by ``delay``."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        return None  # DONE would pass the end too

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        if direction not in self._directions or not self._fault.active:
            return None
        return Delay(self._options.delay or 0.0)


class _Pace:
    """
    One direction of a stream that is sent in pieces with pauses.

    A delay counts from now, and a filter has no clock. The filter is therefore woken with each piece: pieces
    without a wake are still to be sent, and on average half of the first one's time has passed.

    :ivar kept: bytes that are not cut yet.
    :ivar last: number of the last piece so far.
    """

    __slots__ = ("_coming", "kept", "last")

    def __init__(self) -> None:
        self._coming: dict[int, float] = {}
        self.kept = b""
        self.last = 0

    def pieces(self, direction: Direction, cut: Iterable[tuple[bytes, float]]) -> Iterator[Verdict]:
        """:param cut: pieces, each with the seconds after the previous one."""
        ahead = sum(self._coming.values())
        if self._coming:
            ahead -= next(iter(self._coming.values())) / 2
        for piece, seconds in cut:
            ahead += seconds
            self.last += 1
            self._coming[self.last] = seconds
            # The wake comes first, so it has arrived when the relay continues to read after the last piece.
            yield Wake(ahead, (direction, self.last))
            yield Delay(ahead, piece)

    def forget(self) -> None:
        """All pieces were sent."""
        self._coming.clear()

    def went(self, number: int) -> None:
        """A piece is sent now, and those before it were sent."""
        while self._coming and next(iter(self._coming)) <= number:
            del self._coming[next(iter(self._coming))]


class PacedFilter(FaultFilter):
    """
    Sends the bytes in pieces with pauses.

    At most `MAX_PIECES` are delayed at a time. The rest is kept here until the last of them is sent. The rest
    is not much larger than one read, because reading stops while bytes are delayed. An end waits for the
    delayed bytes, and the wake for the rest comes before the last of them is sent.
    """

    def __init__(self, fault: Fault, connection: Connection) -> None:
        super().__init__(fault, connection)
        self._paces = {direction: _Pace() for direction in Direction}

    def cut(self, direction: Direction, data: bytes) -> Iterable[tuple[bytes, float]]:
        """The pieces, each with the seconds after the previous one."""
        return ()

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        pace = self._paces[direction]
        if not pace.kept:
            return super().received(direction, data)
        pace.kept += data
        return b""

    def spoil(self, direction: Direction, data: bytes) -> Verdict:
        """See `FaultFilter`."""
        pace = self._paces[direction]
        pieces = list(islice(self.cut(direction, data), MAX_PIECES))
        pace.kept = data[sum(len(piece) for piece, _ in pieces) :]
        return list(pace.pieces(direction, pieces))

    def recover(self) -> Verdict:
        """See `FaultFilter`: send the uncut bytes after the delayed pieces."""
        verdicts: list[Verdict] = [super().recover()]
        # Verdicts of `woken` go to the upstream.
        for direction, send in ((TO_UPSTREAM, Forward), (TO_CLIENT, Reply)):
            pace = self._paces[direction]
            data, pace.kept = pace.kept, b""
            pace.forget()
            if data:
                verdicts.append(send(data))
        return verdicts

    def woken(self, token: object) -> Verdict:
        """See `IFilter`."""
        if not isinstance(token, tuple):
            return super().woken(token)
        direction, number = token
        pace = self._paces[direction]
        pace.went(number)
        if not pace.kept or number != pace.last:
            return None
        data, pace.kept = pace.kept, b""
        return self.spoil(direction, data) if self._fault.active else Forward(data)


class Bandwidth(PacedFilter):
    """
    Limits the stream to ``rate`` bytes a second.

    A rate of 0 holds the bytes of one read, and an end behind them; nothing more is read until the fault has
    another rate or is switched off. Then the held bytes are sent at once.
    """

    _holds = False

    def options_changed(self) -> None:
        """See `FaultFilter`: nothing is read any more that would read the options."""
        if self._holds and self._options.rate:
            self._connection.wake(FaultChange.RATE)

    def woken(self, token: object) -> Verdict:
        """See `IFilter`."""
        return self.recover() if token is FaultChange.RATE else super().woken(token)

    def spoil(self, direction: Direction, data: bytes) -> Verdict:
        """See `FaultFilter`."""
        if self._options.rate:
            return super().spoil(direction, data)
        self._holds = True
        return Delay(HOLD, data)

    def recover(self) -> Verdict:
        """See `FaultFilter`."""
        self._holds = False
        return super().recover()

    def cut(self, direction: Direction, data: bytes) -> Iterator[tuple[bytes, float]]:
        """See `PacedFilter`."""
        rate = self._options.rate or 1
        if self._datagrams:
            yield data, len(data) / rate
            return
        size = max(1, int(rate * TICK))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            yield piece, len(piece) / rate


class Slicer(PacedFilter):
    """
    Sends pieces of ``size`` bytes, plus or minus ``variation``, with ``delay`` between them.

    A size of 0 cuts nothing; toxiproxy 2.12 crashes with it, because its recursion does not end.
    """

    def spoil(self, direction: Direction, data: bytes) -> Verdict:
        """See `FaultFilter`."""
        if not self._options.size:
            return Forward(data)
        if self._options.delay:
            return super().spoil(direction, data)
        pieces = [piece for piece, _ in islice(self.cut(direction, data), MAX_PIECES)]
        rest = data[sum(map(len, pieces)) :]
        if not rest:
            return [Forward(piece) for piece in pieces]
        # The last piece is delayed, so nothing more is read. The wake cuts the rest.
        pace = self._paces[direction]
        pace.kept = rest
        pace.last += 1
        batch: list[Verdict] = [Forward(piece) for piece in pieces[:-1]]
        return [*batch, Wake(BREATH, (direction, pace.last)), Delay(BREATH, pieces[-1])]

    def cut(self, direction: Direction, data: bytes) -> Iterator[tuple[bytes, float]]:
        """See `PacedFilter`."""
        options, chance = self._options, self._chances[direction]
        size, variation = options.size or 1, options.variation or 0
        start = 0
        while start < len(data):
            end = start + max(1, chance.whole(size - variation, size + variation))
            yield data[start:end], options.delay or 0.0
            start = end


class Corrupt(FaultFilter):
    """Flips one bit in a ``fraction`` of the bytes."""

    def __init__(self, fault: Fault, connection: Connection) -> None:
        super().__init__(fault, connection)
        # Number of unchanged bytes before the next changed one. It does not depend on chunks.
        self._whole: dict[Direction, int] = {}

    def spoil(self, direction: Direction, data: bytes) -> Verdict:
        """See `FaultFilter`."""
        chance, fraction = self._chances[direction], self._options.fraction or 0.0
        if not fraction:
            return None
        at = self._whole.get(direction)
        if at is None:
            at = chance.misses(fraction)
        spoilt = None
        while at < len(data):
            spoilt = bytearray(data) if spoilt is None else spoilt
            spoilt[at] ^= 1 << chance.whole(0, 7)
            at += 1 + chance.misses(fraction)
        self._whole[direction] = at - len(data)
        return None if spoilt is None else bytes(spoilt)


class LimitData(FaultFilter):
    """Closes the session after ``size`` bytes of a direction."""

    def __init__(self, fault: Fault, connection: Connection) -> None:
        super().__init__(fault, connection)
        self._passed = dict.fromkeys(Direction, 0)

    def spoil(self, direction: Direction, data: bytes) -> Verdict:
        """See `FaultFilter`."""
        left = max(0, (self._options.size or 0) - self._passed[direction])
        self._passed[direction] += len(data)
        if len(data) < left:
            return None
        return (Forward(data[:left]), self._close()) if left else self._close()


class _Timed(FaultFilter):
    """The common part of faults that happen ``after`` a time, counted from the first call while active."""

    def __init__(self, fault: Fault, connection: Connection) -> None:
        super().__init__(fault, connection)
        self._is_set = False

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        return self._set() if self._fault.active else None

    def changed(self) -> Verdict:
        """See `FaultFilter`: the time counts anew."""
        self._is_set = False
        return self._set() if self._fault.active else None

    def _set(self) -> Verdict:
        after = self._options.after
        if self._is_set or after is None:
            return None
        self._is_set = True
        return Wake(after)

    def spoil(self, direction: Direction, data: bytes) -> Verdict:
        """See `FaultFilter`."""
        return self._set()

    def woken(self, token: object) -> Verdict:
        """See `IFilter`."""
        if token is not None:
            return super().woken(token)
        self._is_set = False
        return self._close() if self._fault.active else None


class LimitTime(_Timed):
    """Closes the session ``after`` a time."""


class Timeout(_Timed):
    """
    Drops all bytes and closes the session ``after`` a time, or never if that is 0.

    If the fault is switched off, a stream that has lost bytes cannot continue, and the session ends.
    """

    _dropped = False

    def _set(self) -> Verdict:
        return super()._set() if self._options.after else None

    def spoil(self, direction: Direction, data: bytes) -> Verdict:
        """See `FaultFilter`."""
        self._dropped = True
        wake = self._set()
        gone: Verdict = DROP if self._datagrams else b""
        return gone if wake is None else (gone, wake)

    def recover(self) -> Verdict:
        """See `FaultFilter`."""
        return None if self._datagrams else self._end_of_what_is_cut()

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """Abort a session that has lost bytes, so it does not seem complete."""
        return self._end_of_what_is_cut()

    def _end_of_what_is_cut(self) -> Verdict:
        return Close(f"fault {self._fault.kind}", abort=True) if self._dropped else None


class Reset(Timeout):
    """
    Drops all bytes and resets the session ``after`` a time, also if that is 0.

    An end waits for the reset. A session whose bytes are to pass until a reset has `LimitTime` instead.
    """

    def _set(self) -> Verdict:
        return _Timed._set(self)

    def _close(self) -> Close:
        return Close(f"fault {self._fault.kind}", abort=True)

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`: the reset comes instead of the end."""
        if direction not in self._directions or not self._fault.active:
            return None
        return (self._set(), Delay(HOLD))

    def recover(self) -> Verdict:
        """See `FaultFilter`."""
        return super().recover() or FaultFilter.recover(self)


class Refuse(FaultFilter):
    """Resets the connection before the dial."""

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        return Close("fault refuse", abort=True) if self._fault.active else None

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        return DONE


#: Every kind, by the word in a rules file.
KINDS: Final[dict[str, Callable[[Fault, Connection], FaultFilter]]] = {
    "latency": Latency,
    "bandwidth": Bandwidth,
    "slow-close": SlowClose,
    "timeout": Timeout,
    "reset": Reset,
    "slicer": Slicer,
    "limit-data": LimitData,
    "limit-time": LimitTime,
    "corrupt": Corrupt,
    "refuse": Refuse,
    "noop": FaultFilter,
}
