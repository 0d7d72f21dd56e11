# -*- test-case-name: tests.limits.test_admission -*-
"""
Who may come in now: the limits of a rule, and those of all rules.

A client is judged twice. Before it is accepted, a listener asks whether there is a limit
at which clients are to wait (``on-limit=wait``): then it leaves them in the backlog. Once it is
accepted the session asks for everything else; a limit that is reached then can only refuse.

`Doorkeeper` is what a process has one of. It knows who is in by the names of rules
and targets, so that a rule that a reload replaces goes on counting where the old one is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final
from weakref import WeakValueDictionary

from attrs import frozen

from portfwd.limits import rates
from portfwd.limits.occupancy import Occupancy, RuleOccupancy
from portfwd.limits.source_counts import SourceCounts


@frozen
class Bounds:
    """
    Limits as a rule, or the ``limits`` line for all rules, says them; None for none.

    :ivar max_conns: sessions at a time.
    :ivar max_conns_per_source: sessions at a time from one address.
    :ivar rate: new sessions a second.
    :ivar rate_per_source: new sessions a second from one address.
    :ivar wait: clients wait in the backlog for `max_conns` and `rate`, rather than be refused.
    """

    max_conns: int | None = None
    max_conns_per_source: int | None = None
    rate: float | None = None
    rate_per_source: float | None = None
    wait: bool = False

    @property
    def any(self) -> bool:
        """Whether there is a limit."""
        return self.by_source or self.max_conns is not None or self.rate is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The limits that there are, as the rules file calls them."""
        limits = {
            "max-conns": self.max_conns,
            "max-conns-per-source": self.max_conns_per_source,
            "rate": self.rate,
            "rate-per-source": self.rate_per_source,
        }
        return tuple(name for name, most in limits.items() if most is not None)

    @property
    def by_source(self) -> bool:
        """Whether there is one for each source."""
        return self.max_conns_per_source is not None or self.rate_per_source is not None


NO_BOUNDS: Final = Bounds()


class Doorkeeper:
    """
    Everything that is counted for limits.

    :ivar overall: the limits of all rules together.
    :ivar everybody: the sessions of rules that have limits, or for which there are some of all.
    """

    def __init__(self, overall: Bounds = NO_BOUNDS, sources: SourceCounts | None = None) -> None:
        """:param sources: the table; None for a new one."""
        self.overall = overall
        self.everybody = Occupancy()
        self.sources = SourceCounts() if sources is None else sources
        self._rules: WeakValueDictionary[str, RuleOccupancy] = WeakValueDictionary()
        self._targets: WeakValueDictionary[tuple[str, str], Occupancy] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<Doorkeeper {self.everybody.taken} in, {self.sources!r}>"

    @property
    def is_full(self) -> bool:
        """Whether clients of every rule are to wait."""
        most = self.overall.max_conns
        return self.overall.wait and most is not None and self.everybody.taken >= most

    def bound(self, overall: Bounds) -> None:
        """From here on these are the limits of all rules together; who waits may look anew."""
        self.overall = overall
        self.everybody.wake_one()

    def rule(self, name: str, bounds: Bounds) -> Admission | None:
        """What judges the clients of the rule `name`; None where there is nothing to judge."""
        if not bounds.any and not self.overall.any:
            return None
        occupancy = self._rules.get(name)
        if occupancy is None:
            occupancy = self._rules[name] = RuleOccupancy()
        return Admission(name, bounds, occupancy, self)

    def target(self, rule: str, label: str) -> Occupancy:
        """Who is at one target of a rule."""
        occupancy = self._targets.get((rule, label))
        if occupancy is None:
            occupancy = self._targets[rule, label] = Occupancy()
        return occupancy


class Admission:
    """
    Judges the clients of one rule.

    Its answers to `admit` and `admit_source` are the limit that was reached, as the rules file has it, or
    empty. Who was let in is to be taken back by `left` and `left_source`.
    """

    __slots__ = ("_bounds", "_keeper", "_name", "_occupancy")

    def __init__(self, name: str, bounds: Bounds, occupancy: RuleOccupancy, keeper: Doorkeeper) -> None:
        self._name = name
        self._bounds = bounds
        self._occupancy = occupancy
        self._keeper = keeper
        # A limit that was never reached is told as 0: Prometheus sees no increase where a series begins.
        for name in (*bounds.names, *(f"limits {name}" for name in keeper.overall.names)):
            occupancy.refused.setdefault(name, 0)

    def __repr__(self) -> str:
        return f"<Admission {self._name} {self._occupancy.taken} in>"

    @property
    def refused(self) -> Counter[str]:
        """How often each limit was reached."""
        return self._occupancy.refused

    # Before a client is accepted

    @property
    def waits(self) -> bool:
        """Whether clients may have to wait, rather than be refused."""
        return self._bounds.wait or self._keeper.overall.wait

    def closed_for(self, now: float) -> float:
        """
        Seconds for which nobody is to be accepted: 0.0 to go on, infinite until `wait` has woken.

        Only limits at which clients wait count.
        """
        bounds = self._bounds
        if self._full_for_waiting() is not None:
            return math.inf
        if bounds.wait and bounds.rate is not None:
            return rates.delay(self._occupancy.full_at, bounds.rate, now)
        return 0.0

    def _is_full(self) -> bool:
        bounds = self._bounds
        return bounds.wait and bounds.max_conns is not None and self._occupancy.taken >= bounds.max_conns

    def _full_for_waiting(self) -> Occupancy | None:
        if self._is_full():
            return self._occupancy
        return self._keeper.everybody if self._keeper.is_full else None

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` when there may be room; for whoever was told to wait for that."""
        (self._full_for_waiting() or self._occupancy).wait(wake)

    def forget(self, wake: Callable[[], None]) -> None:
        """`wake` is not to be called any more."""
        for occupancy in (self._occupancy, self._keeper.everybody):
            occupancy.forget(wake)

    def pass_on(self) -> None:
        """Whoever was woken has taken what he could: where there is room, somebody else may wait for it."""
        if not self._is_full():
            self._occupancy.wake_one()
        if not self._keeper.is_full:
            self._keeper.everybody.wake_one()

    # When it is there

    @property
    def by_source(self) -> bool:
        """Whether it matters where clients come from."""
        return self._bounds.by_source or self._keeper.overall.by_source

    def _doors(self) -> Iterator[tuple[str, str, Bounds]]:
        """The two sets of limits, each with what it is called in a refusal and in the table of sources."""
        yield "", self._name, self._bounds
        yield "limits ", "", self._keeper.overall

    @property
    def has_room(self) -> bool:
        """Whether `admit` would let a session in, as far as their number goes."""
        most, overall = self._bounds.max_conns, self._keeper.overall.max_conns
        return (most is None or self._occupancy.taken < most) and (
            overall is None or self._keeper.everybody.taken < overall
        )

    def admit(self, now: float) -> str:
        """Let a session in, unless there are too many or they come too fast."""
        bounds, overall = self._bounds, self._keeper.overall
        occupancy, everybody = self._occupancy, self._keeper.everybody
        if bounds.max_conns is not None and occupancy.taken >= bounds.max_conns:
            return self._refuse(f"max-conns={bounds.max_conns}")
        if overall.max_conns is not None and everybody.taken >= overall.max_conns:
            return self._refuse(f"limits max-conns={overall.max_conns}")
        if bounds.rate is not None:
            if rates.delay(occupancy.full_at, bounds.rate, now):
                return self._refuse(f"rate={_text(bounds.rate)}")
            occupancy.full_at = rates.take(occupancy.full_at, bounds.rate, now)
        occupancy.taken += 1
        everybody.taken += 1
        return ""

    def count(self) -> None:
        """A session is there that nobody judged; it is taken back by `left`."""
        self._occupancy.taken += 1
        self._keeper.everybody.taken += 1

    def count_source(self, source: str, now: float) -> None:
        """The same for its source; it costs nothing of a rate, and is taken back by `left_source`."""
        for _, door, _ in self._doors():
            self._keeper.sources.enter(door, source, None, now)

    def left(self) -> None:
        """A session that was let in is over."""
        self._occupancy.give_back()
        self._keeper.everybody.give_back()

    def admit_source(self, source: str, now: float) -> str:
        """Let a session of `source` in, unless it has too many or they come too fast."""
        table = self._keeper.sources
        for where, door, bounds in self._doors():
            most, rate = bounds.max_conns_per_source, bounds.rate_per_source
            if most is not None and table.count(door, source) >= most:
                return self._refuse(f"{where}max-conns-per-source={most}")
            if rate is not None and table.delay(door, source, rate, now):
                return self._refuse(f"{where}rate-per-source={_text(rate)}")
        for _, door, bounds in self._doors():
            # Both, whoever has such limits: those of all rules may come while the session lasts.
            table.enter(door, source, bounds.rate_per_source, now)
        return ""

    def left_source(self, source: str, now: float) -> None:
        """A session of `source` that was let in is over."""
        for _, door, _ in self._doors():
            self._keeper.sources.leave(door, source, now)

    def _refuse(self, limit: str) -> str:
        self.refused[limit.partition("=")[0]] += 1
        return limit


def _text(rate: float) -> str:
    return f"{rate:g}/s"
