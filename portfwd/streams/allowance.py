# -*- test-case-name: tests.streams.test_allowance -*-
"""
How many bytes a flow may still read: as many as were counted for it, as were granted to it, or both.

A flow without any bound has no `Allowance`. Both bounds hold at once: the bytes that filters let pass unseen,
and the bytes that rate limiters grant. A flow that asks before it reads lowers its grant by each read; one
that cannot know beforehand how much it will read accounts for the bytes afterwards. Pure: the flow says what
it has read, and what grants bytes is handed in.
"""

from __future__ import annotations

from typing import Final, Protocol

from portfwd.values import Address

#: In place of a bound: more bytes than a flow ever moves.
UNBOUND: Final = 1 << 62


class Waiter(Protocol):
    """A flow that waits for a grant."""

    def granted(self, count: int) -> None:
        """The wait is over: `count` bytes may be read. Must not raise."""


class Grants(Protocol):
    """
    Grants bytes to one flow; `portfwd.streams.rate_limiters.Ticket` does.

    :ivar waits: the flow waits for a grant.
    """

    waits: bool

    @property
    def is_open(self) -> bool:
        """Whether nobody waits and nothing is owed."""

    @property
    def waited(self) -> float:
        """Seconds for which the flow has waited in all."""

    def ask(self, waiter: Waiter) -> int:
        """Bytes that may be read now; 0: `waiter.granted` is called when there are some."""

    def settle(self, granted: int, used: int) -> None:
        """Account for `granted` bytes of which `used` were read."""

    def leave(self) -> None:
        """Stop waiting."""

    def go_as(self, client: Address) -> None:
        """Stop waiting; grant what the limits of `client` allow from now on."""


class Allowance:
    """
    What a flow may still read.

    :ivar counted: bytes that may pass before a viewer sees the flow again.
    :ivar granted: bytes of the slice that a rate limiter has granted.
    :ivar taken: bytes that were read; whoever wants to know sets it back.
    """

    __slots__ = ("_grants", "counted", "granted", "taken")

    def __init__(self, counted: int = UNBOUND, grants: Grants | None = None) -> None:
        """:param grants: of this flow alone; None: its bandwidth is not limited."""
        self.counted = counted
        self.granted = UNBOUND if grants is None else 0
        self.taken = 0
        self._grants = grants

    def __repr__(self) -> str:
        left = self.left if self.left < UNBOUND // 2 else "unbound"
        return f"<Allowance {left}{' waits' if self.waits else ''}>"

    @property
    def left(self) -> int:
        """Bytes that may be read now: the smaller of both bounds."""
        return min(self.counted, self.granted)

    def take(self, count: int) -> None:
        """`count` bytes were read; both bounds are lowered."""
        self.counted -= count
        self.granted -= count
        self.taken += count

    # The bandwidth

    @property
    def is_paced(self) -> bool:
        """Whether the bandwidth is limited."""
        return self._grants is not None

    @property
    def waits(self) -> bool:
        """Whether the flow reads nothing because no bytes are granted yet."""
        return self._grants is not None and self._grants.waits

    @property
    def is_open(self) -> bool:
        """Whether the flow may read on: nothing is owed, and nobody waits."""
        return self._grants is None or self._grants.is_open

    @property
    def waited(self) -> float:
        """Seconds for which the flow has waited for grants."""
        return 0.0 if self._grants is None else self._grants.waited

    def ask(self, waiter: Waiter) -> bool:
        """Ask for a slice; say whether there is one. If not, `waiter.granted` is called later."""
        if self._grants is not None:
            self.granted = self._grants.ask(waiter)
        return self.granted > 0

    def settle(self, used: int = 0) -> None:
        """Return what is left of the grant, after `used` bytes were read that did not lower it."""
        if self._grants is not None and (self.granted or used):
            granted, self.granted = self.granted, 0
            self._grants.settle(granted, used)

    def leave(self) -> None:
        """Stop waiting, and return what was granted."""
        if self._grants is not None:
            self._grants.leave()
            self.settle()

    def go_as(self, client: Address) -> bool:
        """The client is `client`, whose limits hold from now on; say whether the flow waited."""
        if self._grants is None:
            return False
        waited = self._grants.waits
        self.settle()
        self._grants.go_as(client)
        return waited
