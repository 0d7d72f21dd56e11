# -*- test-case-name: tests.relay.test_balancing -*-
"""
The pools of one rule: one for its targets, and one for each target name of its routes.

A rule with one target and without checks has no pool. It gets one when an operator changes the state of that
target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, cast

from portfwd.relay.destination import Destination
from portfwd.rules.model import Options, TargetSpec
from portfwd.upstreams.health import Health, TargetState
from portfwd.upstreams.pool import Member, MemberView, Pool
from portfwd.upstreams.states import HealthWatcher, TargetHealth, TargetStates


class RuleCheck(Protocol):
    """
    A configured ``check`` clause of a rule.

    :ivar name: its name in the rules file.
    :ivar identity: equal for checks with the same result for a target.
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

    :ivar checks: the health checks of all targets.
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
        :param name: name of the rule.
        :param routes: destinations of the targets that filters may choose, by their `TargetSpec`.
        :param draw: returns a random number from 0 (included) to 1 (excluded).
        """
        self.checks = tuple(checks)
        self._name = name
        self._options = options
        self._states = states
        self._draw = draw
        self._groups: dict[object, Sequence[Destination]] = {None: destinations}
        self._keys: dict[object, object] = {}
        by_name: dict[str, object] = {}
        for spec, one in routes.items():
            name = _name_of(spec)
            if name:
                first = by_name.setdefault(name, spec)
                self._keys[spec] = first
                self._groups[first] = (*self._groups.get(first, ()), one)
        self._pools: dict[object, Pool] = {}

    def __repr__(self) -> str:
        return f"<Balancing of {self._name}, {len(self._pools)} pools>"

    def wants_pools(self) -> bool:
        """Whether there are targets to choose among or to check."""
        return any(self._needs_pool(group) for group in self._groups.values())

    def _needs_pool(self, group: Sequence[Destination]) -> bool:
        if len(group) > 1 or (group and self.checks):
            return True
        states = self._states
        return states.has_orders and any(states.ordered(self._name, one.label) is not None for one in group)

    def make(self, watcher: HealthWatcher, counted: Mapping[Destination, Destination]) -> None:
        """
        Make the necessary pools.

        :param watcher: the rule, called for each change of a target's health.
        :param counted: the destinations that replace the given ones.
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
        """Whether there is any pool."""
        return bool(self._pools)

    def pool(self, target: object = None) -> Pool | None:
        """The pool of a target chosen by a filter, or of the rule's targets; None if there is none."""
        return self._pools.get(self._keys.get(target, target))

    def inherit(self, old: Balancing) -> None:
        """Continue with the state of `old`, which this replaces."""
        for key, pool in self._pools.items():
            before = old._pools.get(key)
            if before is not None:
                pool.inherit(before)

    def health_changed(self, health: Health) -> Sequence[Destination]:
        """Apply a change of health; return the affected destinations."""
        found: dict[Destination, None] = {}
        for pool in self._pools.values():
            mine = [one for one in pool.members if one.health is health]
            if mine:
                pool.stale()
            found.update((_destination_of(one), None) for one in mine)
        return list(found)

    def order(self, label: str, ordered: TargetState | None, watcher: HealthWatcher) -> Sequence[Destination]:
        """
        Apply an operator's command.

        :param watcher: as in `make`.
        :returns: the affected destinations.
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
        """Every target with a health state, once."""
        seen = set()
        for pool in self._pools.values():
            for one in pool.members:
                if one.health not in seen and isinstance(one.health, TargetHealth):
                    seen.add(one.health)
                    yield _destination_of(one), one.health

    def views(self) -> Iterator[tuple[str, Destination, MemberView | None]]:
        """Every target with its name in routes, and its view; None if it has no health state."""
        now = self._states.seconds()
        for key, group in self._groups.items():
            name = _name_of(key)
            pool = self._pools.get(key)
            if pool is None:
                yield from ((name, one, None) for one in group)
            else:
                for view in pool.views(now):
                    yield name, _destination_of(view.member), view


def _name_of(key: object) -> str:
    """The name of a target that routes lead to; empty if it has none."""
    return key.name if isinstance(key, TargetSpec) else ""


def _destination_of(member: Member) -> Destination:
    """What the pools of rules dial; the pools themselves do not look at it."""
    return cast(Destination, member.target)
