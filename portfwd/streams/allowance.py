# -*- test-case-name: tests.streams.test_allowance -*-
"""
The bytes that a flow may still read, by a count, by a grant, or by both.

A flow without bounds has no `Allowance`. The two bounds are the bytes that filters let pass without being
shown, and the bytes that rate limiters grant. A flow between sockets gets a grant before it reads, and lowers
it by each read. A flow between transports learns the size of a read afterwards, and pays for it then. Pure:
the flow reports its reads, and the rate limiter is passed in.
"""

from __future__ import annotations

from typing import Final, Protocol

from portfwd.values import Address

#: The value of a missing bound: more bytes than a flow ever moves.
UNBOUND: Final = 1 << 62


class Waiter(Protocol):
    """A flow that waits for a grant."""

    def granted(self, count: int) -> None:
        """`count` bytes were granted. Must not raise."""


class Grants(Protocol):
    """
    Grants bytes to one flow, such as `portfwd.streams.rate_limiters.Ticket`.

    :ivar waits: whether the flow waits for a grant.
    """

    waits: bool

    @property
    def is_open(self) -> bool:
        """Whether no flow waits and there is no debt."""

    @property
    def waited(self) -> float:
        """Total seconds of waiting."""

    def ask(self, waiter: Waiter) -> int:
        """Grant bytes now; if 0, `waiter.granted` is called later."""

    def settle(self, granted: int, used: int) -> None:
        """Account for `granted` bytes of which `used` were read."""

    def leave(self) -> None:
        """Stop waiting."""

    def go_as(self, client: Address) -> None:
        """Stop waiting, and apply the limits of `client` from now on."""


class Allowance:
    """
    The allowance of one flow.

    :ivar counted: bytes that may pass before the viewer sees the flow again.
    :ivar granted: bytes left of the granted slice.
    :ivar taken: number of bytes read since the user of this value has reset it.
    """

    __slots__ = ("_grants", "counted", "granted", "taken")

    def __init__(self, counted: int = UNBOUND, grants: Grants | None = None) -> None:
        """:param grants: the grants of this flow; None for unlimited bandwidth."""
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
        """`count` bytes were read: lower both bounds."""
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
        """Whether the flow waits for a grant."""
        return self._grants is not None and self._grants.waits

    @property
    def is_open(self) -> bool:
        """Whether the flow may continue to read: there is no debt, and no flow waits."""
        return self._grants is None or self._grants.is_open

    @property
    def waited(self) -> float:
        """Total seconds of waiting for grants."""
        return 0.0 if self._grants is None else self._grants.waited

    def ask(self, waiter: Waiter) -> bool:
        """Request a slice; return whether it was granted. If not, `waiter.granted` is called later."""
        if self._grants is not None:
            self.granted = self._grants.ask(waiter)
        return self.granted > 0

    def settle(self, used: int = 0) -> None:
        """Return the rest of the grant, after `used` bytes were read that did not lower it."""
        if self._grants is not None and (self.granted or used):
            granted, self.granted = self.granted, 0
            self._grants.settle(granted, used)

    def leave(self) -> None:
        """Stop waiting, and return the unused grant."""
        if self._grants is not None:
            self._grants.leave()
            self.settle()

    def go_as(self, client: Address) -> bool:
        """Apply the limits of `client` from now on; return whether the flow was waiting."""
        if self._grants is None:
            return False
        waited = self._grants.waits
        self.settle()
        self._grants.go_as(client)
        return waited
