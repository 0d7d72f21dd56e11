# -*- test-case-name: tests.limits.test_admission -*-
"""
Who may come in now: the limits of a rule, those that several rules share, and those of all rules.

A client is judged twice. Before it is accepted, a listener asks whether there is a limit
at which clients are to wait (``on-limit=wait``): then it leaves them in the backlog. Once it is
accepted the session asks for everything else; a limit that is reached then can only refuse.

`AdmissionRegistry` is what a process has one of. It knows who is in by the names of rules
and targets, so that a rule that a reload replaces goes on counting where the old one is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from attrs import frozen

from portfwd.limits import rates
from portfwd.limits.occupancy import Occupancy, RuleOccupancy, TargetOccupancy
from portfwd.limits.source_counts import SourceCounts


@frozen
class Bounds:
    """
    Limits as a rule or a ``limits`` line says them; None for none.

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


class LimitScope(NamedTuple):
    """
    Limits and what is counted for them.

    :ivar prefix: what a refusal writes before the limit.
    :ivar door: the key in the table of sources.
    :ivar bounds: the limits.
    :ivar occupancy: the sessions that count, and the clients that wait.
    """

    prefix: str
    door: str
    bounds: Bounds
    occupancy: Occupancy

    @property
    def has_slot(self) -> bool:
        """Whether another session may come in, as far as their number goes."""
        most = self.bounds.max_conns
        return most is None or self.occupancy.taken < most

    @property
    def keeps_waiting(self) -> bool:
        """Whether there are too many sessions, and clients wait for one to end."""
        return self.bounds.wait and not self.has_slot

    def delay(self, now: float) -> float:
        """Seconds until the rate lets another session in; 0.0 for now."""
        rate = self.bounds.rate
        return 0.0 if rate is None else rates.delay(self.occupancy.full_at, rate, now)


class AdmissionRegistry:
    """
    Everything that is counted for limits.

    :ivar overall: the limits of all rules together.
    :ivar everybody: the sessions of rules that have limits, or for which there are some of all.
    :ivar shared: by name, the limits that rules share.
    :ivar total: sessions that there have been, of all rules that there have been.
    """

    def __init__(
        self,
        overall: Bounds = NO_BOUNDS,
        sources: SourceCounts | None = None,
        shared: Mapping[str, Bounds] = MappingProxyType({}),
    ) -> None:
        """:param sources: the table; None for a new one."""
        self.overall = overall
        self.shared = shared
        self.everybody = Occupancy()
        self.total = 0
        self.sources = SourceCounts() if sources is None else sources
        self._rules: WeakValueDictionary[str, RuleOccupancy] = WeakValueDictionary()
        self._sharing: WeakValueDictionary[str, Occupancy] = WeakValueDictionary()
        self._targets: WeakValueDictionary[tuple[str, str], TargetOccupancy] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<AdmissionRegistry {self.everybody.taken} in, {self.sources!r}>"

    def bound(self, overall: Bounds, shared: Mapping[str, Bounds] = MappingProxyType({})) -> None:
        """Set the limits of all rules together and those that rules share; wake one waiter of each."""
        self.overall = overall
        self.shared = shared
        self.everybody.wake_one()
        for occupancy in tuple(self._sharing.values()):
            occupancy.wake_one()

    def rule(self, name: str, bounds: Bounds, shared: str | None = None) -> Admission | None:
        """
        What judges the clients of the rule `name`; None where there is nothing to judge.

        :param shared: the name of the limits that the rule shares with others; None for none.
        """
        if not bounds.any and shared is None and not self.overall.any:
            return None
        occupancy = self.counts(name)
        together = None if shared is None else self._sharing.get(shared)
        if together is None and shared is not None:
            together = self._sharing[shared] = Occupancy()
        return Admission(name, bounds, occupancy, self, shared, together)

    def counts(self, rule: str) -> RuleOccupancy:
        """What is counted for the rule of that name: kept as long as somebody has it, so over reloads."""
        occupancy = self._rules.get(rule)
        if occupancy is None:
            occupancy = self._rules[rule] = RuleOccupancy()
        return occupancy

    def target(self, rule: str, label: str) -> TargetOccupancy:
        """Who is at one target of a rule, and how often it failed; kept as long as somebody has it."""
        occupancy = self._targets.get((rule, label))
        if occupancy is None:
            occupancy = self._targets[rule, label] = TargetOccupancy()
        return occupancy


class Admission:
    """
    Judges the clients of one rule.

    Its answers to `admit` and `admit_source` are the limit that was reached, as the rules file has it, or
    empty. Who was let in is to be taken back by `left` and `left_source`.
    """

    __slots__ = ("_bounds", "_keeper", "_name", "_occupancy", "_shared", "_together")

    def __init__(
        self,
        name: str,
        bounds: Bounds,
        occupancy: RuleOccupancy,
        registry: AdmissionRegistry,
        shared: str | None = None,
        together: Occupancy | None = None,
    ) -> None:
        """:param shared, together: the name and the count of the limits that it shares with other rules."""
        self._name = name
        self._bounds = bounds
        self._occupancy = occupancy
        self._keeper = registry
        self._shared = shared
        self._together = together
        # A limit that was never reached is told as 0: Prometheus sees no increase where a series begins.
        for scope in self._scopes():
            for limit in scope.bounds.names:
                occupancy.refused.setdefault(scope.prefix + limit, 0)

    def __repr__(self) -> str:
        return f"<Admission {self._name} {self._occupancy.taken} in>"

    @property
    def refused(self) -> Counter[str]:
        """How often each limit was reached."""
        return self._occupancy.refused

    def _scopes(self) -> Iterator[LimitScope]:
        """The rule's own limits, those that it shares, and those of all rules."""
        registry = self._keeper
        yield LimitScope("", self._name, self._bounds, self._occupancy)
        if self._shared is not None and self._together is not None:
            # A name of a rule has no blank, so this key is no rule's.
            prefix = f"limits {self._shared} "
            # The limits may be gone: for a rule that a reload has just removed.
            yield LimitScope(prefix, prefix, registry.shared.get(self._shared, NO_BOUNDS), self._together)
        yield LimitScope("limits ", "", registry.overall, registry.everybody)

    # Before a client is accepted

    @property
    def waits(self) -> bool:
        """Whether clients may have to wait, rather than be refused."""
        return any(scope.bounds.wait for scope in self._scopes())

    def closed_for(self, now: float) -> float:
        """
        Seconds for which nobody is to be accepted: 0.0 to go on, infinite until `wait` has woken.

        Only limits at which clients wait count.
        """
        waiting = [scope for scope in self._scopes() if scope.bounds.wait]
        if any(scope.keeps_waiting for scope in waiting):
            return math.inf
        return max((scope.delay(now) for scope in waiting), default=0.0)

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` when there may be room; for whoever was told to wait for that."""
        full = (scope.occupancy for scope in self._scopes() if scope.keeps_waiting)
        next(full, self._occupancy).wait(wake)

    def forget(self, wake: Callable[[], None]) -> None:
        """`wake` is not to be called any more."""
        for scope in self._scopes():
            scope.occupancy.forget(wake)

    def pass_on(self) -> None:
        """Whoever was woken has taken what he could: where there is room, somebody else may wait for it."""
        for scope in self._scopes():
            if not scope.keeps_waiting:
                scope.occupancy.wake_one()

    # When it is there

    @property
    def by_source(self) -> bool:
        """Whether it matters where clients come from."""
        return any(scope.bounds.by_source for scope in self._scopes())

    @property
    def has_room(self) -> bool:
        """Whether `admit` would let a session in, as far as their number goes."""
        return all(scope.has_slot for scope in self._scopes())

    def admit(self, now: float) -> str:
        """Let a session in, unless there are too many or they come too fast."""
        scopes = tuple(self._scopes())
        for scope in scopes:
            if not scope.has_slot:
                return self._refuse(f"{scope.prefix}max-conns={scope.bounds.max_conns}")
        for scope in scopes:
            if scope.bounds.rate is not None and scope.delay(now):
                return self._refuse(f"{scope.prefix}rate={_text(scope.bounds.rate)}")
        for _, _, bounds, occupancy in scopes:
            if bounds.rate is not None:
                occupancy.full_at = rates.take(occupancy.full_at, bounds.rate, now)
            occupancy.taken += 1
        return ""

    def count(self) -> None:
        """A session is there that nobody judged; it is taken back by `left`."""
        for scope in self._scopes():
            scope.occupancy.taken += 1

    def count_source(self, source: str, now: float) -> None:
        """The same for its source; it costs nothing of a rate, and is taken back by `left_source`."""
        for scope in self._scopes():
            self._keeper.sources.enter(scope.door, source, None, now)

    def left(self) -> None:
        """A session that was let in is over."""
        for scope in self._scopes():
            scope.occupancy.give_back()

    def admit_source(self, source: str, now: float) -> str:
        """Let a session of `source` in, unless it has too many or they come too fast."""
        table = self._keeper.sources
        scopes = tuple(self._scopes())
        for where, door, bounds, _ in scopes:
            most, rate = bounds.max_conns_per_source, bounds.rate_per_source
            if most is not None and table.count(door, source) >= most:
                return self._refuse(f"{where}max-conns-per-source={most}")
            if rate is not None and table.delay(door, source, rate, now):
                return self._refuse(f"{where}rate-per-source={_text(rate)}")
        for scope in scopes:
            # All of them, whichever have such limits: some may come while the session lasts.
            table.enter(scope.door, source, scope.bounds.rate_per_source, now)
        return ""

    def left_source(self, source: str, now: float) -> None:
        """A session of `source` that was let in is over."""
        for scope in self._scopes():
            self._keeper.sources.leave(scope.door, source, now)

    # After a reload

    def is_as(self, other: Admission) -> bool:
        """Whether both count at the same places."""
        return self._name == other._name and self._together is other._together

    def take_over(self, old: Admission) -> None:
        """A session counts here that counted at `old` so far; where both count nothing is changed."""
        here, there = tuple(self._scopes()), tuple(old._scopes())
        for scope in here:
            if all(scope.occupancy is not one.occupancy for one in there):
                scope.occupancy.taken += 1
        for scope in there:
            if all(scope.occupancy is not one.occupancy for one in here):
                scope.occupancy.give_back()

    def take_over_source(self, old: Admission, source: str, now: float) -> None:
        """The same for its source."""
        doors, before = ([scope.door for scope in one._scopes()] for one in (self, old))
        for door in doors:
            if door not in before:
                self._keeper.sources.enter(door, source, None, now)
        for door in before:
            if door not in doors:
                self._keeper.sources.leave(door, source, now)

    def _refuse(self, limit: str) -> str:
        self.refused[limit.partition("=")[0]] += 1
        return limit


def _text(rate: float) -> str:
    return f"{rate:g}/s"
