# -*- test-case-name: tests.relay.test_target_order -*-
"""
Which target a session tries next: one question to one object.

A dial knows nothing of how many targets there are, which of them are full, or why one comes before another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from portfwd.errors import DialError, TargetsFull
from portfwd.relay.destination import Destination


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


def full(destination: Destination) -> TargetsFull:
    """Why a target of which no slot can be had is passed over."""
    return TargetsFull(
        f"{destination.label}: max-conns-per-target={destination.options.max_conns_per_target}"
    )
