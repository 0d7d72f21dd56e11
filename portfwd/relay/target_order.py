# -*- test-case-name: tests.relay.test_target_order -*-
"""
Chooses the next target of a session, and receives the results.

So a dial need not know how many targets there are, which of them are full, or how they are ordered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

from portfwd.errors import DialError, TargetsDown, TargetsFull
from portfwd.relay.destination import Destination
from portfwd.upstreams.pool import Member, Order, Pool
from portfwd.upstreams.states import TargetStates

#: Errors that are not caused by the target: missing resources, and refusals by a filter.


class TargetOrder(Protocol):
    """
    The targets of one session, one after the other.

    :ivar targets: all targets that may be chosen, for associations that move.
    """

    @property
    def targets(self) -> Sequence[Destination]:
        """See the class."""

    def next(self) -> Destination | DialError | None:
        """
        Choose a target.

        :returns: a target with a slot taken, to be returned by `Destination.give_back`; or the error of the
            next target if it is not available; or None if there are no more targets.
        """

    def failed(self, destination: Destination, problem: DialError) -> None:
        """The session could not connect to `destination`."""

    def reached(self, destination: Destination) -> None:
        """The session is connected to `destination`."""

    def answered(self, destination: Destination) -> None:
        """A datagram destination has answered, so it works."""

    def renew(self) -> None:
        """Start again: all targets may be tried once more."""


class InOrder:
    """Targets in the order of the rule."""

    __slots__ = ("_left", "targets")

    def __init__(self, destinations: Sequence[Destination]) -> None:
        self.targets = destinations
        self._left = list(reversed(destinations))

    def __repr__(self) -> str:
        return f"<InOrder {len(self._left)} left>"

    def next(self) -> Destination | DialError | None:
        """See `TargetOrder`."""
        if not self._left:
            return None
        destination = self._left.pop()
        return destination if destination.take() else full(destination)

    def failed(self, destination: Destination, problem: DialError) -> None:
        """Do nothing: a single target is never ejected."""

    def reached(self, destination: Destination) -> None:
        """Do nothing."""

    def answered(self, destination: Destination) -> None:
        """Do nothing."""

    def renew(self) -> None:
        """See `TargetOrder`."""
        self._left = list(reversed(self.targets))


class Balanced:
    """Targets in the order of a pool, which gets the results."""

    __slots__ = ("_given", "_last", "_left", "_order", "_pool", "_states", "_tries", "_unreachable")

    def __init__(
        self,
        pool: Pool,
        states: TargetStates,
        client: str,
        tries: int | None,
        unreachable: Callable[[Destination], bool] | None = None,
    ) -> None:
        """
        :param client: the client as limits count it; empty for one without an address.
        :param tries: most targets that the session may try; None for all.
        :param unreachable: returns whether a target is tried after the others now; None for none.
        """
        self._pool = pool
        self._states = states
        self._order = Order(pool, client)
        self._tries = self._left = tries
        self._unreachable = unreachable
        self._given: dict[Destination, Member] = {}
        self._last: list[Member] = []

    def __repr__(self) -> str:
        return f"<Balanced {len(self._given)} given of {self._pool!r}>"

    @property
    def targets(self) -> Sequence[Destination]:
        """See `TargetOrder`."""
        return [cast(Destination, one.target) for one in self._pool.members]

    def next(self) -> Destination | DialError | None:
        """See `TargetOrder`."""
        if self._left == 0:
            return None
        member = self._next_member()
        if member is None:
            if not self._order.tried:
                self._left = 0
                return TargetsDown("every target is down or drained")
            return None
        destination = cast(Destination, member.target)
        if not destination.take():
            return full(destination)
        self._given[destination] = member
        if self._left is not None:
            self._left -= 1
        return destination

    def _next_member(self) -> Member | None:
        now = self._states.seconds()
        while (member := self._order.next(now)) is not None:
            if self._unreachable is None or not self._unreachable(cast(Destination, member.target)):
                return member
            self._last.append(member)
        return self._last.pop(0) if self._last else None

    def failed(self, destination: Destination, problem: DialError) -> None:
        """See `TargetOrder`."""
        member = self._given.get(destination)
        if member is not None and len(self._pool.members) > 1 and problem.blames_target:
            self._states.failed(member, str(problem))

    def reached(self, destination: Destination) -> None:
        """See `TargetOrder`."""
        member = self._given.get(destination)
        if member is not None:
            self._order.reached(member, self._states.seconds())
            if not destination.datagrams:
                self._states.reached(member)

    def answered(self, destination: Destination) -> None:
        """See `TargetOrder`."""
        member = self._given.get(destination)
        if member is not None:
            self._states.reached(member)

    def renew(self) -> None:
        """See `TargetOrder`."""
        self._order.renew()
        self._last = []
        self._left = self._tries


def full(destination: Destination) -> TargetsFull:
    """The error of a target without a free slot."""
    return TargetsFull(
        f"{destination.label}: max-conns-per-target={destination.options.max_conns_per_target}"
    )
