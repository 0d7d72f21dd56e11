# -*- test-case-name: tests.streams.test_allowance -*-
"""
How many bytes a flow may still read: as many as were counted for it, as were granted to it, or both.

A flow without any bound has no `Allowance`. Pure: the flow says what it has read, once for each read.
"""

from __future__ import annotations

from typing import Final

#: In place of a bound: more bytes than a flow ever moves.
UNBOUND: Final = 1 << 62


class Allowance:
    """
    What a flow may still read.

    :ivar counted: bytes that may pass before a viewer sees the flow again.
    :ivar granted: bytes of the slice that a rate limiter has granted.
    :ivar taken: bytes that were read; whoever wants to know sets it back.
    """

    __slots__ = ("counted", "granted", "taken")

    def __init__(self, counted: int = UNBOUND, granted: int = UNBOUND) -> None:
        self.counted = counted
        self.granted = granted
        self.taken = 0

    def __repr__(self) -> str:
        return f"<Allowance {self.left if self.left < UNBOUND // 2 else 'unbound'}>"

    @property
    def left(self) -> int:
        """Bytes that may be read now: the smaller of both bounds."""
        return min(self.counted, self.granted)

    def take(self, count: int) -> None:
        """`count` bytes were read; both bounds are lowered."""
        self.counted -= count
        self.granted -= count
        self.taken += count
