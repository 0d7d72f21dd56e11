# -*- test-case-name: tests.filters.builtin.test_datagram_faults -*-
"""
The faults of `portfwd.filters.builtin.faults` for datagrams: loss, duplication and reordering.

A stream cannot have these faults, because TCP repeats and orders segments. These kinds therefore close a
session that is not for datagrams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from portfwd.filters.api import DROP, Close, Connection, Forward, Reply, Verdict, Wake
from portfwd.filters.builtin.fault_clause import Fault
from portfwd.filters.builtin.fault_filter import FaultFilter
from portfwd.values import TO_UPSTREAM, Direction

#: Default of ``delay=``: seconds that a datagram waits for another one to overtake it.
WAIT: Final = 0.1


class DatagramFault(FaultFilter):
    """The common part: chance decides for each datagram."""

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        return self._refuse() if self._fault.active and not self._datagrams else None

    def _refuse(self) -> Close:
        return Close(
            f"fault {self._fault.kind} is for datagrams: the rule needs /udp on both sides", abort=True
        )

    def spoil(self, direction: Direction, data: bytes) -> Verdict:
        """See `FaultFilter`."""
        if not self._datagrams:
            return self._refuse()
        struck = self._chances[direction].happens(self._options.fraction or 0.0)
        return self.strike(direction, data) if struck else self.spare(direction, data)

    def strike(self, direction: Direction, data: bytes) -> Verdict:
        """The verdict for an affected datagram."""
        return None

    def spare(self, direction: Direction, data: bytes) -> Verdict:
        """The verdict for another datagram."""
        return None


class DatagramLoss(DatagramFault):
    """A datagram is lost."""

    def strike(self, direction: Direction, data: bytes) -> Verdict:
        """See `DatagramFault`."""
        return DROP


class Duplicate(DatagramFault):
    """A datagram arrives twice."""

    def strike(self, direction: Direction, data: bytes) -> Verdict:
        """See `DatagramFault`."""
        return (Forward(data), Forward(data))


class Reorder(DatagramFault):
    """A datagram is overtaken by the next one, or arrives ``delay`` later if there is none."""

    def __init__(self, fault: Fault, connection: Connection) -> None:
        super().__init__(fault, connection)
        self._kept: dict[Direction, bytes] = {}

    def strike(self, direction: Direction, data: bytes) -> Verdict:
        """See `DatagramFault`."""
        if direction in self._kept:
            return self.spare(direction, data)
        self._kept[direction] = data
        return (DROP, Wake(WAIT if self._options.delay is None else self._options.delay, direction))

    def spare(self, direction: Direction, data: bytes) -> Verdict:
        """See `DatagramFault`."""
        kept = self._kept.pop(direction, None)
        return None if kept is None else (Forward(data), Forward(kept))

    def woken(self, token: object) -> Verdict:
        """See `IFilter`."""
        if not isinstance(token, Direction):
            return super().woken(token)
        kept = self._kept.pop(token, None)
        return None if kept is None else Forward(kept)

    def recover(self) -> Verdict:
        """See `FaultFilter`: pass the waiting datagram."""
        kept, self._kept = self._kept, {}
        # Verdicts of `woken` go to the upstream.
        return [
            Forward(data) if direction is TO_UPSTREAM else Reply(data) for direction, data in kept.items()
        ]


#: Every kind, by the word in a rules file.
KINDS: Final[dict[str, Callable[[Fault, Connection], FaultFilter]]] = {
    "loss": DatagramLoss,
    "duplicate": Duplicate,
    "reorder": Reorder,
}
