# -*- test-case-name: tests.filters.builtin.test_datagram_faults -*-
"""
What networks do to datagrams, as `portfwd.filters.builtin.faults` does it: lose, double and overtake them.

A stream has none of these: what the network loses of it is sent again below us, and a
program never sees it. So a session that is no datagrams' is closed by these kinds, rather than broken in a
way that no network could.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from portfwd.filters.api import DROP, Close, Connection, Forward, Reply, Verdict, Wake
from portfwd.filters.builtin.fault_clause import Fault
from portfwd.filters.builtin.fault_kinds import FaultFilter
from portfwd.values import TO_UPSTREAM, Direction

#: Seconds that a datagram which is to be overtaken waits for another one, unless ``delay=`` says otherwise.
WAIT: Final = 0.1


class DatagramFault(FaultFilter):
    """What all of them share: chance strikes each datagram."""

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
        """What becomes of a datagram that was struck."""
        return None

    def spare(self, direction: Direction, data: bytes) -> Verdict:
        """What becomes of another one."""
        return None


class DatagramLoss(DatagramFault):
    """A datagram does not come."""

    def strike(self, direction: Direction, data: bytes) -> Verdict:
        """See `DatagramFault`."""
        return DROP


class Duplicate(DatagramFault):
    """A datagram comes twice."""

    def strike(self, direction: Direction, data: bytes) -> Verdict:
        """See `DatagramFault`."""
        return (Forward(data), Forward(data))


class Reorder(DatagramFault):
    """A datagram is overtaken by the next one, or comes ``delay`` later if none comes."""

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
        """See `FaultFilter`: what was to be overtaken goes."""
        kept, self._kept = self._kept, {}
        # A filter that is woken from outside looks toward the upstream.
        return [
            Forward(data) if direction is TO_UPSTREAM else Reply(data) for direction, data in kept.items()
        ]


#: Every kind, by the word in a rules file.
KINDS: Final[dict[str, Callable[[Fault, Connection], FaultFilter]]] = {
    "loss": DatagramLoss,
    "duplicate": Duplicate,
    "reorder": Reorder,
}
