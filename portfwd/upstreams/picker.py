# -*- test-case-name: tests.upstreams.test_picker -*-
"""
Which of several targets a new session gets, by ``balance=``.

A picker knows the candidates that may get sessions now, and answers `Picker.pick`. It is told when the set of
candidates changes (`Picker.update`) and when one of them has a session less (`Picker.freed`). A pick with a
thousand candidates costs a few microseconds: no picker looks at all of them. It does not know why a target is
a candidate; `portfwd.upstreams.pool` decides that.
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

#: A target's load may be this many times the average under `BySource` (Mirrokni, Thorup and Zadimoghaddam,
#: "Consistent Hashing with Bounded Loads", 2016; HAProxy recommends 125 to 200 % for hash-balance-factor).
BOUND: Final = 1.25
#: Sessions below which a target is never too loaded: the average of a few sessions says nothing, and the
#: second connection of a client must not leave its target because there are no others.
FEW_SESSIONS: Final = 10
#: Points on the ring for a target of weight 1: the shares differ by a standard deviation of 9 %.
POINTS: Final = 128
#: Points of a whole ring, which is made in some 50 ms; with more targets or larger weights each has fewer.
MOST_POINTS: Final = 1 << 16
#: A target that joins late gets at most this many times its share of new sessions under `LeastConn`: with two
#: targets three of four.
CATCH_UP: Final = 1.5
#: Draws of `Random` that may hit targets to be skipped before it looks at all of them.
DRAWS: Final = 8

_EIGHT: Final = struct.Struct(">8Q")


class Candidate(Protocol):
    """
    A target, as pickers see it.

    :ivar key: what it is called on the ring: its address, which is the same in all processes.
    """

    @property
    def key(self) -> str:
        """See the class."""

    @property
    def taken(self) -> int:
        """Sessions that it has, and dials."""

    @property
    def share(self) -> float:
        """Its weight now, more than 0; less than the file says during slow start."""


Skip = Collection[Candidate]


class Picker(Protocol):
    """Chooses among candidates."""

    def update(self, candidates: Sequence[Candidate]) -> None:
        """These are the candidates from now on; what is known of those that stay is kept."""

    def pick(self, client: str, skip: Skip) -> Candidate | None:
        """
        Choose one.

        :param client: the client as `BySource` counts it; others ignore it.
        :param skip: not these.
        :returns: None if there is no other.
        """

    def freed(self, candidate: Candidate) -> None:
        """A session of `candidate` is over."""


def load(candidate: Candidate) -> float:
    """Sessions by weight that `candidate` would have with one more."""
    return (candidate.taken + 1) / candidate.share


class First:
    """The first one in the order of the file."""

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
    In turn, by weight, and not in bursts.

    Each candidate has a time at which it is due, ``1 / weight`` after the last one; the one that is due
    earliest is picked. This gives the interleaving of nginx's smooth round robin, without a look at all.
    """

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Candidate]] = []
        self._now = 0.0

    def __repr__(self) -> str:
        return f"<RoundRobin of {len(self._due)}>"

    def update(self, candidates: Sequence[Candidate]) -> None:
        """See `Picker`; new ones begin in the middle of their turn, so that none has a burst."""
        due, now = {one: when for when, _, one in self._due}, self._now
        # The wait of one whose share has grown is no longer than its share asks for.
        self._due = [
            (min(due.get(one, now + 0.5 / one.share), now + 1 / one.share), order, one)
            for order, one in enumerate(candidates)
        ]
        heapq.heapify(self._due)

    def pick(self, client: str, skip: Skip) -> Candidate | None:
        """See `Picker`; what is skipped keeps its turn."""
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
    The fewest sessions by weight, ties in turn.

    A candidate that joins others which have sessions already would get all new sessions until it has as many.
    It gets `CATCH_UP` times its share at most, until it has caught up.

    The heap may have entries that are out of date: a load that has grown is corrected when its entry comes to
    the top, and a load that has fallen gets a new entry at once.
    """

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Candidate]] = []
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
        # In their old order: ties go on in turn.
        self._rebuild(sorted(candidates, key=lambda one: before.get(one, 0)))

    def _rebuild(self, candidates: Iterable[Candidate]) -> None:
        self.heap, self._valid = [], {}
        for one in candidates:
            self._count += 1
            self._valid[one] = self._count
            self.heap.append((load(one), self._count, one))
        heapq.heapify(self.heap)

    def pick(self, client: str, skip: Skip) -> Candidate | None:
        """See `Picker`."""
        heap, aside, waiting = self.heap, [], None
        try:
            while heap:
                recorded, number, one = heap[0]
                if self._valid.get(one) != number:
                    heapq.heappop(heap)
                elif (now := load(one)) > recorded:
                    heapq.heapreplace(heap, (now, self._next(one), one))
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
        # Behind those that have the same load.
        heapq.heapreplace(self.heap, (now, self._next(one), one))
        self._picks += 1
        if self._joined:
            if one in self._joined:
                between = self._shares / (CATCH_UP * one.share)
                self._joined[one] = max(self._joined[one], self._picks - 1 - between) + between
            elif caught_up:
                self._joined.clear()  # those that joined have no smaller load than this one
        return one

    def _next(self, one: Candidate) -> int:
        self._count += 1
        self._valid[one] = self._count
        return self._count

    def freed(self, candidate: Candidate) -> None:
        """See `Picker`."""
        if candidate in self._valid:
            heapq.heappush(self.heap, (load(candidate), self._next(candidate), candidate))
            if len(self.heap) > 4 * len(self._valid) + 64:
                self._rebuild(sorted(self._valid, key=self._valid.__getitem__))


class Random:
    """The less loaded one of two that are drawn by weight."""

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
        place = bisect(self._sums, self._draw() * self._sums[-1])
        return self._candidates[min(place, len(self._candidates) - 1)]

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
    The same target for the same client, as long as that has no more than its part of the sessions.

    Targets stand on a ring at points that depend on their addresses alone. A client belongs to the first
    point behind its own. When a target leaves, its clients move to others and no one else's do. A target
    with more than `BOUND` times its part is stepped over.
    """

    def __init__(self, total: Callable[[], int]) -> None:
        """:param total: gives the sessions of all candidates together."""
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
        # In halves: with one target less the others keep their points.
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
        place = bisect_left(points, int.from_bytes(digest, "big") * 2.0**-64) % len(points)
        limit = (self._total() + 1) * BOUND / self._shares
        first = owners[place]
        if first.taken < max(FEW_SESSIONS, ceil(limit * first.share)) and first not in skip:
            return first
        passed: set[Candidate] = set()
        fallback: Candidate | None = None
        for step in range(len(points)):
            one = owners[(place + step) % len(points)]
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
    """Points from 0 up to 1, the same in every process; each digest gives eight."""
    numbers: list[int] = []
    for block in range(ceil(count / 8)):
        numbers += _EIGHT.unpack(hashlib.blake2b(f"{key} {block}".encode()).digest())
    return [number * 2.0**-64 for number in numbers[:count]]


def make_picker(balance: Balance, draw: Callable[[], float], total: Callable[[], int]) -> Picker:
    """The picker of ``balance=``; the arguments are those of `Random` and `BySource`."""
    if balance is Balance.ROUNDROBIN:
        return RoundRobin()
    if balance is Balance.LEASTCONN:
        return LeastConn()
    if balance is Balance.RANDOM:
        return Random(draw)
    return BySource(total) if balance is Balance.SOURCE else First()
