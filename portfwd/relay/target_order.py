# -*- test-case-name: tests.relay.test_target_order -*-
"""
Which target a session tries next: one question to one object, which is told what became of each.

A dial knows nothing of how many targets there are, which of them are full, or why one comes before another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

from portfwd.errors import DialError, NotPermitted, OutOfResources, TargetsDown, TargetsFull
from portfwd.relay.destination import Destination
from portfwd.upstreams.pool import Member, Order, Pool
from portfwd.upstreams.states import TargetStates

#: What says nothing about the target: our own trouble, and what a filter does not want.
_NOT_ITS_FAULT = (OutOfResources, NotPermitted)


class TargetOrder(Protocol):
    """
    The targets of one session, one after the other.

    :ivar targets: all that may be chosen: an association moves to another one when the first is gone.
    """

    @property
    def targets(self) -> Sequence[Destination]:
        """See the class."""

    def next(self) -> Destination | DialError | None:
        """
        Choose a target.

        :returns: a target of which the session has a slot now, to be given back by `Destination.give_back`;
            or why the one whose turn it is cannot be had; or None where there are no more.
        """

    def failed(self, destination: Destination, problem: DialError) -> None:
        """The session could not reach `destination`, which it was given."""

    def reached(self, destination: Destination) -> None:
        """The session has reached `destination`."""

    def answered(self, destination: Destination) -> None:
        """A destination that takes datagrams has answered; without an answer nothing shows that it works."""

    def renew(self) -> None:
        """Begin again: every target may be tried once more."""


class InOrder:
    """Targets in the order in which the rule names them."""

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
        """A single target is never ejected."""

    def reached(self, destination: Destination) -> None:
        """Do nothing."""

    def answered(self, destination: Destination) -> None:
        """Do nothing."""

    def renew(self) -> None:
        """See `TargetOrder`."""
        self._left = list(reversed(self.targets))


class Balanced:
    """Targets as a pool chooses them, which is told what became of each."""

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
        :param tries: how many targets the session may try; None: all.
        :param unreachable: whether a target comes behind the others now; None: none does.
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
        if member is not None and len(self._pool.members) > 1 and not isinstance(problem, _NOT_ITS_FAULT):
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
    """Why a target of which no slot can be had is passed over."""
    return TargetsFull(
        f"{destination.label}: max-conns-per-target={destination.options.max_conns_per_target}"
    )
