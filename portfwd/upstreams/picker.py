# -*- test-case-name: tests.upstreams.test_picker -*-
"""
Choose one of several targets for a new session, by ``balance=``.

A picker has the set of targets that may get sessions (candidates). `Picker.pick` chooses one of them,
`Picker.update` replaces the set, and `Picker.freed` reports the end of a session. A pick from a thousand
candidates takes a few microseconds, because no picker iterates over all of them. `portfwd.upstreams.pool`
decides which targets are candidates.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from bisect import bisect, bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import accumulate
from math import ceil
from typing import Final, Protocol

from portfwd.rules.model import Balance

#: Maximum load of a target as a multiple of the average, for `BySource` (Mirrokni, Thorup and Zadimoghaddam,
#: "Consistent Hashing with Bounded Loads", 2016; HAProxy recommends 125 to 200 % for hash-balance-factor).
BOUND: Final = 1.25
#: Number of sessions below which `BOUND` does not apply. The average of a few sessions is not meaningful, and
#: the second connection of the only client must not go to another target.
FEW_SESSIONS: Final = 10
#: Points on the ring for a target of weight 1. The standard deviation of the shares is 9 %.
POINTS: Final = 128
#: Maximum points of a ring, which is computed in about 50 ms. With more targets or larger weights each target
#: has fewer points.
MOST_POINTS: Final = 1 << 16
#: Maximum rate of new sessions of a target that joins, as a multiple of its share, for `LeastConn`. With two
#: targets it gets three of four sessions.
CATCH_UP: Final = 1.5
#: Maximum draws of `Random` before it iterates over all candidates.
DRAWS: Final = 8

_EIGHT: Final = struct.Struct(">8Q")


class Candidate(Protocol):
    """
    A target as pickers need it.

    :ivar key: its name on the ring: the address, which is the same in all processes.
    """

    @property
    def key(self) -> str:
        """See the class."""

    @property
    def taken(self) -> int:
        """The number of its sessions and pending dials."""

    @property
    def share(self) -> float:
        """Its current weight, more than 0; less than in the file during slow start."""


Skip = Collection[Candidate]


class Picker(Protocol):
    """Chooses among candidates."""

    def update(self, candidates: Sequence[Candidate]) -> None:
        """Replace the candidates; the state of those that remain is kept."""

    def pick(self, client: str, skip: Skip) -> Candidate | None:
        """
        Choose one.

        :param client: identifies the client for `BySource`; other pickers ignore it.
        :param skip: candidates that must not be chosen.
        :returns: None if all candidates are in `skip`.
        """

    def freed(self, candidate: Candidate) -> None:
        """A session of `candidate` has ended."""


def load(candidate: Candidate) -> float:
    """
    Return the number of sessions divided by the weight, as HAProxy and nginx do.

    The session to be placed is not counted. With it, an idle target would have a smaller load the larger its
    weight is, and sessions that follow each other would all go to the target of the largest weight.
    """
    return candidate.taken / candidate.share


class First:
    """The first candidate in the order of the file."""

    def __init__(self) -> None:
        self._candidates: Sequence[Candidate] = ()

    def __repr__(self) -> str:
        return f"<First of {len(self._candidates)}>"

    def update(self, candidates: Sequence[Candidate]) -> None:
        """See `Picker`."""
        self._candidates = candidates

    def pick(self, client: str, skip: Skip) -> Candidate | None:
        """See `Picker`."""
        return next((one for one in self._candidates if one not in skip), None)

    def freed(self, candidate: Candidate) -> None:
        """Loads do not matter here."""


class RoundRobin:
    """
    In turn, by weight, without bursts.

    Each candidate has a virtual time at which it is due, ``1 / weight`` after the previous one. The earliest
    is picked. The order is that of nginx's smooth round robin, without iterating over all candidates.
    """

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Candidate]] = []
        self._now = 0.0

    def __repr__(self) -> str:
        return f"<RoundRobin of {len(self._due)}>"

    def update(self, candidates: Sequence[Candidate]) -> None:
        """See `Picker`; new candidates are due after half of their interval, so that there is no burst."""
        due, now = {one: when for when, _, one in self._due}, self._now
        # A candidate is due within the interval of its current share, which may have grown.
        self._due = [
            (min(due.get(one, now + 0.5 / one.share), now + 1 / one.share), order, one)
            for order, one in enumerate(candidates)
        ]
        heapq.heapify(self._due)

    def pick(self, client: str, skip: Skip) -> Candidate | None:
        """See `Picker`; skipped candidates keep their turn."""
        due, skipped = self._due, []
        try:
            while due:
                when, order, one = due[0]
                if one in skip:
                    skipped.append(heapq.heappop(due))
                    continue
                self._now = max(self._now, when)
                heapq.heapreplace(due, (self._now + 1 / one.share, order, one))
                return one
            return None
        finally:
            for entry in skipped:
                heapq.heappush(due, entry)

    def freed(self, candidate: Candidate) -> None:
        """Loads do not matter here."""


class LeastConn:
    """
    The candidate with the fewest sessions by weight; equal ones take turns by weight.

    Each pick moves the virtual time at which the candidate is due, as in `RoundRobin`. Of candidates with the
    same load the one that is due first is picked, so sessions that follow each other on idle targets are
    spread by weight.

    A candidate that joins others with sessions would get all new sessions until its load is equal. Until then
    it gets at most `CATCH_UP` times its share.

    The heap may contain outdated entries. An entry whose load has grown is corrected when it reaches the top.
    If a load falls, a new entry is added at once.
    """

    def __init__(self) -> None:
        self.heap: list[tuple[float, float, int, Candidate]] = []
        self._due: dict[Candidate, float] = {}
        self._now = 0.0
        self._valid: dict[Candidate, int] = {}
        self._count = 0
        self._picks = 0.0
        self._shares = 0.0
        self._joined: dict[Candidate, float] = {}

    def __repr__(self) -> str:
        return f"<LeastConn of {len(self._valid)}, {len(self._joined)} catching up>"

    def update(self, candidates: Sequence[Candidate]) -> None:
        """See `Picker`."""
        before, now = self._valid, set(candidates)
        self._shares = sum(one.share for one in candidates)
        self._joined = {one: at for one, at in self._joined.items() if one in now}
        if any(one in now for one in before):
            for one in candidates:
                if one not in before:
                    self._joined[one] = self._picks
        due, time = self._due, self._now
        # As in `RoundRobin.update`.
        self._due = {
            one: min(due.get(one, time + 0.5 / one.share), time + 1 / one.share) for one in candidates
        }
        self._rebuild(candidates)

    def _rebuild(self, candidates: Iterable[Candidate]) -> None:
        self.heap, self._valid = [], {}
        for one in candidates:
            self._count += 1
            self._valid[one] = self._count
            self.heap.append((load(one), self._due[one], self._count, one))
        heapq.heapify(self.heap)

    def pick(self, client: str, skip: Skip) -> Candidate | None:
        """See `Picker`."""
        heap, aside, waiting = self.heap, [], None
        try:
            while heap:
                recorded, due, number, one = heap[0]
                if self._valid.get(one) != number:
                    heapq.heappop(heap)
                elif (now := load(one)) > recorded:
                    heapq.heapreplace(heap, (now, due, self._next(one), one))
                elif one in skip:
                    aside.append(heapq.heappop(heap))
                elif self._picks < self._joined.get(one, 0.0):
                    waiting = waiting or one
                    aside.append(heapq.heappop(heap))
                else:
                    return self._picked(one, now, caught_up=waiting is None)
            return waiting
        finally:
            for entry in aside:
                heapq.heappush(heap, entry)

    def _picked(self, one: Candidate, now: float, *, caught_up: bool) -> Candidate:
        self._now = max(self._now, self._due[one])
        self._due[one] = due = self._now + 1 / one.share
        heapq.heapreplace(self.heap, (now, due, self._next(one), one))
        self._picks += 1
        if self._joined:
            if one in self._joined:
                between = self._shares / (CATCH_UP * one.share)
                self._joined[one] = max(self._joined[one], self._picks - 1 - between) + between
            elif caught_up:
                self._joined.clear()  # no candidate that joined has a smaller load than this one
        return one

    def _next(self, one: Candidate) -> int:
        self._count += 1
        self._valid[one] = self._count
        return self._count

    def freed(self, candidate: Candidate) -> None:
        """See `Picker`."""
        if candidate in self._valid:
            due = self._due[candidate]
            heapq.heappush(self.heap, (load(candidate), due, self._next(candidate), candidate))
            if len(self.heap) > 4 * len(self._valid) + 64:
                self._rebuild(sorted(self._valid, key=self._valid.__getitem__))


class Random:
    """Draw two candidates by weight and choose the one with the smaller load, of equal ones the first."""

    def __init__(self, draw: Callable[[], float]) -> None:
        """:param draw: a random number from 0 up to 1."""
        self._draw = draw
        self._candidates: Sequence[Candidate] = ()
        self._sums: list[float] = []

    def __repr__(self) -> str:
        return f"<Random of {len(self._candidates)}>"

    def update(self, candidates: Sequence[Candidate]) -> None:
        """See `Picker`."""
        self._candidates = candidates
        self._sums = list(accumulate(one.share for one in candidates))

    def _drawn(self) -> Candidate:
        index = bisect(self._sums, self._draw() * self._sums[-1])
        return self._candidates[min(index, len(self._candidates) - 1)]

    def pick(self, client: str, skip: Skip) -> Candidate | None:
        """See `Picker`."""
        if not self._candidates:
            return None
        found: Candidate | None = None
        for _ in range(DRAWS):
            one = self._drawn()
            if one in skip:
                continue
            if found is not None:
                return min(found, one, key=load)
            found = one
        if found is not None:
            return found
        return min((one for one in self._candidates if one not in skip), key=load, default=None)

    def freed(self, candidate: Candidate) -> None:
        """The loads are read when they are compared."""


class BySource:
    """
    The same target for the same client, unless the target has too many sessions (consistent hashing).

    Targets have points on a ring that depend only on their addresses. A client gets the target of the first
    point after its own point. If a target is removed, only its clients move to other targets. A target with
    more than `BOUND` times its share of the sessions is skipped.
    """

    def __init__(self, total: Callable[[], int]) -> None:
        """:param total: returns the number of sessions of all candidates."""
        self._total = total
        self.points: list[float] = []
        self._owners: list[Candidate] = []
        self._shares = 0.0
        self._count = 0

    def __repr__(self) -> str:
        return f"<BySource of {self._count}, {len(self.points)} points>"

    def update(self, candidates: Sequence[Candidate]) -> None:
        """See `Picker`."""
        self._shares = sum(one.share for one in candidates)
        scale = 1.0
        # Powers of two, so that usually the points do not change when a target is added or removed.
        while scale * POINTS * self._shares > MOST_POINTS:
            scale /= 2
        owners: dict[float, Candidate] = {}
        for one in candidates:
            owners.update(dict.fromkeys(points(one.key, max(1, round(POINTS * scale * one.share))), one))
        self.points = sorted(owners)
        self._owners = [owners[point] for point in self.points]
        self._count = len(candidates)

    def pick(self, client: str, skip: Skip) -> Candidate | None:
        """See `Picker`."""
        points, owners = self.points, self._owners
        if not points:
            return None
        digest = hashlib.blake2b(client.encode(), digest_size=8).digest()
        index = bisect_left(points, int.from_bytes(digest, "big") * 2.0**-64) % len(points)
        limit = (self._total() + 1) * BOUND / self._shares
        first = owners[index]
        if first.taken < max(FEW_SESSIONS, ceil(limit * first.share)) and first not in skip:
            return first
        passed: set[Candidate] = set()
        fallback: Candidate | None = None
        for step in range(len(points)):
            one = owners[(index + step) % len(points)]
            if one in passed:
                continue
            passed.add(one)
            if one not in skip:
                if one.taken < max(FEW_SESSIONS, ceil(limit * one.share)):
                    return one
                fallback = fallback or one
            if len(passed) == self._count:
                break
        return fallback

    def freed(self, candidate: Candidate) -> None:
        """The loads are read when they are compared."""


def points(key: str, count: int) -> Sequence[float]:
    """Compute points from 0 up to 1, the same in every process; each digest gives eight."""
    numbers: list[int] = []
    for block in range(ceil(count / 8)):
        numbers += _EIGHT.unpack(hashlib.blake2b(f"{key} {block}".encode()).digest())
    return [number * 2.0**-64 for number in numbers[:count]]


def make_picker(balance: Balance, draw: Callable[[], float], total: Callable[[], int]) -> Picker:
    """Make the picker of ``balance=``; the arguments are those of `Random` and `BySource`."""
    match balance:
        case Balance.FIRST:
            return First()
        case Balance.ROUNDROBIN:
            return RoundRobin()
        case Balance.LEASTCONN:
            return LeastConn()
        case Balance.RANDOM:
            return Random(draw)
        case Balance.SOURCE:
            return BySource(total)
