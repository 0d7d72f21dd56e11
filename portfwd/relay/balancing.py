# -*- test-case-name: tests.relay.test_balancing -*-
"""
The pools of one rule: of its own targets, and of each name that its routes lead to.

A rule with one target and no check has no pool, and pays nothing for any; it gets one when an operator orders
something for that target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from portfwd.relay.destination import Destination
from portfwd.rules.model import Options, TargetSpec
from portfwd.upstreams.health import Health, TargetState
from portfwd.upstreams.pool import Member, MemberView, Pool
from portfwd.upstreams.states import HealthWatcher, TargetHealth, TargetStates


class RuleCheck(Protocol):
    """
    A ``check`` clause of a rule, made ready.

    :ivar name: what the rules file calls it.
    :ivar identity: equal for checks that say the same of one target.
    """

    @property
    def name(self) -> str:
        """See the class."""

    @property
    def identity(self) -> str:
        """See the class."""


class Balancing:
    """
    The pools of one rule.

    :ivar checks: decide about all its targets.
    """

    def __init__(
        self,
        name: str,
        options: Options,
        destinations: Sequence[Destination],
        routes: Mapping[object, Destination],
        states: TargetStates,
        draw: Callable[[], float],
        checks: Sequence[RuleCheck] = (),
    ) -> None:
        """
        :param name: the rule's.
        :param routes: the destinations of targets that filters may choose, by their `TargetSpec`.
        :param draw: a random number from 0 up to 1.
        """
        self.checks = tuple(checks)
        self._name = name
        self._options = options
        self._states = states
        self._draw = draw
        self._groups: dict[object, Sequence[Destination]] = {None: destinations}
        self._keys: dict[object, object] = {}
        by_name: dict[str, TargetSpec] = {}
        for spec, one in routes.items():
            if isinstance(spec, TargetSpec) and spec.name:
                first = by_name.setdefault(spec.name, spec)
                self._keys[spec] = first
                self._groups[first] = (*self._groups.get(first, ()), one)
        self._pools: dict[object, Pool] = {}

    def __repr__(self) -> str:
        return f"<Balancing of {self._name}, {len(self._pools)} pools>"

    def wants_pools(self) -> bool:
        """Whether some targets have to be chosen among, or checked."""
        return any(self._needs_pool(group) for group in self._groups.values())

    def _needs_pool(self, group: Sequence[Destination]) -> bool:
        if len(group) > 1 or (group and self.checks):
            return True
        states = self._states
        return states.has_orders and any(states.ordered(self._name, one.label) is not None for one in group)

    def make(self, watcher: HealthWatcher, counted: Mapping[Destination, Destination]) -> None:
        """
        Make the pools that are needed.

        :param watcher: the rule; is told of each change of a target's health.
        :param counted: the destinations that take the place of those that were given.
        """
        for key, group in self._groups.items():
            self._groups[key] = now = [counted.get(one, one) for one in group]
            if self._needs_pool(now):
                self._make_pool(key, watcher)

    def _make_pool(self, key: object, watcher: HealthWatcher) -> Pool:
        identities = tuple(one.identity for one in self.checks)
        members: dict[str, Member] = {}
        for one in self._groups[key]:
            if one.key in members:
                continue
            health = self._states.of(one.key, one.label, identities)
            health.watchers.add(watcher)
            ordered = self._states.ordered(self._name, one.label)
            members[one.key] = Member(one.key, one.label, one, one.options, health, one.occupancy, ordered)
        pool = self._pools[key] = Pool(list(members.values()), self._options, self._draw)
        pool.refresh(self._states.seconds())
        return pool

    @property
    def has_pools(self) -> bool:
        """Whether there is any."""
        return bool(self._pools)

    def pool(self, target: object = None) -> Pool | None:
        """The pool of a target that a filter chose, or of the rule's own; None if there is none."""
        return self._pools.get(self._keys.get(target, target))

    def inherit(self, old: Balancing) -> None:
        """Go on where `old` is, whose place this has."""
        for key, pool in self._pools.items():
            before = old._pools.get(key)
            if before is not None:
                pool.inherit(before)

    def health_changed(self, health: Health) -> Sequence[Destination]:
        """Obey a change of health; the destinations that have it are returned."""
        found: dict[Destination, None] = {}
        for pool in self._pools.values():
            mine = [one for one in pool.members if one.health is health]
            if mine:
                pool.stale()
            found.update((one.target, None) for one in mine if isinstance(one.target, Destination))
        return list(found)

    def order(self, label: str, ordered: TargetState | None, watcher: HealthWatcher) -> Sequence[Destination]:
        """
        Obey an operator.

        :param watcher: as in `make`.
        :returns: the destinations that this is about; none if there are none.
        """
        found = []
        for key, group in self._groups.items():
            mine = [one for one in group if one.label == label]
            if mine:
                found += mine
                pool = self._pools.get(key) or self._make_pool(key, watcher)
                pool.order(label, ordered, self._states.seconds())
        return found

    def healths(self) -> Iterator[tuple[Destination, TargetHealth]]:
        """Every target that has a health, once."""
        seen = set()
        for pool in self._pools.values():
            for one in pool.members:
                if one.health not in seen and isinstance(one.health, TargetHealth):
                    assert isinstance(one.target, Destination)
                    seen.add(one.health)
                    yield one.target, one.health

    def views(self) -> Iterator[tuple[str, Destination, MemberView | None]]:
        """Every target with the name that routes lead to, and its view; None if it has no health."""
        now = self._states.seconds()
        for key, group in self._groups.items():
            name = key.name if isinstance(key, TargetSpec) else ""
            pool = self._pools.get(key)
            if pool is None:
                yield from ((name, one, None) for one in group)
            else:
                for view in pool.views(now):
                    assert isinstance(view.member.target, Destination)
                    yield name, view.member.target, view
