# -*- test-case-name: tests.limits.test_admission -*-
"""
Admission of clients: the limits of a rule, those that several rules share, and those of all rules.

A client is judged twice. Before it is accepted, the listener asks whether a limit at which clients wait
(``on-limit=wait``) is reached; if so, it leaves clients in the backlog. After it is accepted, the session
checks all other limits; a limit that is reached then refuses the client.

A process has one `AdmissionRegistry`. It counts sessions by the names of rules and targets, so a rule that a
reload replaces continues with the counts of the old one.
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
    The limits of a rule or of a ``limits`` line. None means no limit.

    :ivar max_conns: sessions at a time.
    :ivar max_conns_per_source: sessions at a time from one address.
    :ivar rate: new sessions a second.
    :ivar rate_per_source: new sessions a second from one address.
    :ivar wait: clients over `max_conns` or `rate` wait in the backlog and are not refused.
    """

    max_conns: int | None = None
    max_conns_per_source: int | None = None
    rate: float | None = None
    rate_per_source: float | None = None
    wait: bool = False

    @property
    def any(self) -> bool:
        """Whether any limit is set."""
        return self.by_source or self.max_conns is not None or self.rate is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the limits that are set, as in the rules file."""
        limits = {
            "max-conns": self.max_conns,
            "max-conns-per-source": self.max_conns_per_source,
            "rate": self.rate,
            "rate-per-source": self.rate_per_source,
        }
        return tuple(name for name, most in limits.items() if most is not None)

    @property
    def by_source(self) -> bool:
        """Whether a limit per source is set."""
        return self.max_conns_per_source is not None or self.rate_per_source is not None


NO_BOUNDS: Final = Bounds()


class LimitScope(NamedTuple):
    """
    Limits and their counts.

    :ivar prefix: text before the limit's name in a refusal.
    :ivar door: key in the table of sources.
    :ivar bounds: the limits.
    :ivar occupancy: the counted sessions and the waiting clients.
    """

    prefix: str
    door: str
    bounds: Bounds
    occupancy: Occupancy

    @property
    def has_slot(self) -> bool:
        """Whether the number of sessions admits another one."""
        most = self.bounds.max_conns
        return most is None or self.occupancy.taken < most

    @property
    def keeps_waiting(self) -> bool:
        """Whether clients must wait until a session ends."""
        return self.bounds.wait and not self.has_slot

    def delay(self, now: float) -> float:
        """Seconds until the rate admits another session; 0.0 if it does now."""
        rate = self.bounds.rate
        return 0.0 if rate is None else rates.delay(self.occupancy.full_at, rate, now)


class AdmissionRegistry:
    """
    All limits and counts of the process.

    :ivar overall: the limits of all rules together.
    :ivar everybody: count of the sessions to which limits apply.
    :ivar shared: the limits that rules share, by name.
    :ivar total: number of all sessions since the start, including those of removed rules.
    """

    def __init__(
        self,
        overall: Bounds = NO_BOUNDS,
        sources: SourceCounts | None = None,
        shared: Mapping[str, Bounds] = MappingProxyType({}),
    ) -> None:
        """:param sources: the table of sources; None for a new one."""
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
        The admission of the rule `name`; None if no limit applies to it.

        :param shared: name of the limits that the rule shares with others; None for none.
        """
        if not bounds.any and shared is None and not self.overall.any:
            return None
        occupancy = self.counts(name)
        together = None if shared is None else self._sharing.get(shared)
        if together is None and shared is not None:
            together = self._sharing[shared] = Occupancy()
        return Admission(name, bounds, occupancy, self, shared, together)

    def counts(self, rule: str) -> RuleOccupancy:
        """The counts of the rule `name`. They stay as long as they are referenced, so over reloads."""
        occupancy = self._rules.get(rule)
        if occupancy is None:
            occupancy = self._rules[rule] = RuleOccupancy()
        return occupancy

    def target(self, rule: str, label: str) -> TargetOccupancy:
        """The counts of one target of a rule. They stay as long as they are referenced."""
        occupancy = self._targets.get((rule, label))
        if occupancy is None:
            occupancy = self._targets[rule, label] = TargetOccupancy()
        return occupancy


class Admission:
    """
    The admission of one rule.

    `admit` and `admit_source` return the name of the limit that was reached, as in the rules file, or an
    empty text. Each admitted session must later call `left` and `left_source`.
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
        """:param shared, together: name and counts of the limits that the rule shares with others."""
        self._name = name
        self._bounds = bounds
        self._occupancy = occupancy
        self._keeper = registry
        self._shared = shared
        self._together = together
        # Limits that were never reached start at 0: Prometheus sees no increase at the start of a series.
        for scope in self._scopes():
            for limit in scope.bounds.names:
                occupancy.refused.setdefault(scope.prefix + limit, 0)

    def __repr__(self) -> str:
        return f"<Admission {self._name} {self._occupancy.taken} in>"

    @property
    def refused(self) -> Counter[str]:
        """Number of refusals by limit."""
        return self._occupancy.refused

    def _scopes(self) -> Iterator[LimitScope]:
        """The limits of the rule, those that it shares, and those of all rules."""
        registry = self._keeper
        yield LimitScope("", self._name, self._bounds, self._occupancy)
        if self._shared is not None and self._together is not None:
            # Names of rules have no blanks, so this key cannot be the name of a rule.
            prefix = f"limits {self._shared} "
            # The limits are missing if a reload has just removed them.
            yield LimitScope(prefix, prefix, registry.shared.get(self._shared, NO_BOUNDS), self._together)
        yield LimitScope("limits ", "", registry.overall, registry.everybody)

    # Before a client is accepted

    @property
    def waits(self) -> bool:
        """Whether clients may have to wait in the backlog."""
        return any(scope.bounds.wait for scope in self._scopes())

    def closed_for(self, now: float) -> float:
        """
        Seconds for which the listener must not accept. Infinite: until `wait` calls back.

        Only limits at which clients wait are considered.
        """
        waiting = [scope for scope in self._scopes() if scope.bounds.wait]
        if any(scope.keeps_waiting for scope in waiting):
            return math.inf
        return max((scope.delay(now) for scope in waiting), default=0.0)

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` when a slot may be free, after `delay` has returned infinity."""
        full = (scope.occupancy for scope in self._scopes() if scope.keeps_waiting)
        next(full, self._occupancy).wait(wake)

    def forget(self, wake: Callable[[], None]) -> None:
        """Do not call `wake` any more."""
        for scope in self._scopes():
            scope.occupancy.forget(wake)

    def pass_on(self) -> None:
        """A woken listener has accepted what it could. If slots are left, wake the next one."""
        for scope in self._scopes():
            if not scope.keeps_waiting:
                scope.occupancy.wake_one()

    # After accepting

    @property
    def by_source(self) -> bool:
        """Whether a limit per source applies."""
        return any(scope.bounds.by_source for scope in self._scopes())

    @property
    def has_room(self) -> bool:
        """Whether the number of sessions lets `admit` succeed."""
        return all(scope.has_slot for scope in self._scopes())

    def admit(self, now: float) -> str:
        """Count a session, unless there are too many or they arrive too fast."""
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
        """Count a session without judging it. It must call `left` later."""
        for scope in self._scopes():
            scope.occupancy.taken += 1

    def count_source(self, source: str, now: float) -> None:
        """Count a session of a source without judging it or taking a token. It must call `left_source`."""
        for scope in self._scopes():
            self._keeper.sources.enter(scope.door, source, None, now)

    def left(self) -> None:
        """An admitted session has ended."""
        for scope in self._scopes():
            scope.occupancy.give_back()

    def admit_source(self, source: str, now: float) -> str:
        """Count a session of `source`, unless it has too many or they arrive too fast."""
        table = self._keeper.sources
        scopes = tuple(self._scopes())
        for where, door, bounds, _ in scopes:
            most, rate = bounds.max_conns_per_source, bounds.rate_per_source
            if most is not None and table.count(door, source) >= most:
                return self._refuse(f"{where}max-conns-per-source={most}")
            if rate is not None and table.delay(door, source, rate, now):
                return self._refuse(f"{where}rate-per-source={_text(rate)}")
        for scope in scopes:
            # At all doors, because a reload may add a limit per source while the session lasts.
            table.enter(scope.door, source, scope.bounds.rate_per_source, now)
        return ""

    def left_source(self, source: str, now: float) -> None:
        """An admitted session of `source` has ended."""
        for scope in self._scopes():
            self._keeper.sources.leave(scope.door, source, now)

    # After a reload

    def is_as(self, other: Admission) -> bool:
        """Whether both use the same counts."""
        return self._name == other._name and self._together is other._together

    def take_over(self, old: Admission) -> None:
        """Move the count of a session from `old` to this admission. Counts in common stay unchanged."""
        here, there = tuple(self._scopes()), tuple(old._scopes())
        for scope in here:
            if all(scope.occupancy is not one.occupancy for one in there):
                scope.occupancy.taken += 1
        for scope in there:
            if all(scope.occupancy is not one.occupancy for one in here):
                scope.occupancy.give_back()

    def take_over_source(self, old: Admission, source: str, now: float) -> None:
        """Move the count of a session's source, as `move` does."""
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
