# -*- test-case-name: tests.filters.builtin.test_fault_kinds -*-
"""The common part of the filters in `portfwd.filters.builtin.fault_kinds` and `datagram_faults`."""

from __future__ import annotations

import enum

from portfwd.filters.api import DONE, Close, Connection, Filter, Release, Verdict
from portfwd.filters.builtin.chance import Chance, make_seed
from portfwd.filters.builtin.fault_clause import Fault, FaultsOptions
from portfwd.values import Direction, SessionSummary


class FaultChange(enum.Enum):
    """The token of the wake when a fault is changed."""

    OFF = "off"
    RATE = "rate"


class FaultFilter(Filter):
    """The common part of all faults."""

    def __init__(self, fault: Fault, connection: Connection) -> None:
        self._fault = fault
        self._connection = connection
        fault.join(self)
        self._directions = fault.directions
        self._datagrams = connection.network == "udp"
        seed = fault.options.seed
        self._chances = {
            direction: Chance(make_seed(seed, fault.kind, connection.id, direction.value))
            for direction in Direction
        }

    @property
    def _options(self) -> FaultsOptions:
        return self._fault.options

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        if direction not in self._directions:
            return DONE
        return self.spoil(direction, data) if self._fault.active else None

    def spoil(self, direction: Direction, data: bytes) -> Verdict:
        """The verdict for bytes while the fault is active."""
        return None

    def switched_off(self) -> None:
        """The fault was switched off during this connection."""
        self._connection.wake(FaultChange.OFF)

    def options_changed(self) -> None:
        """The fault has other options. Most faults read them with the next bytes."""

    def woken(self, token: object) -> Verdict:
        """See `IFilter`."""
        return self.recover() if token is FaultChange.OFF and not self._fault.active else None

    def recover(self) -> Verdict:
        """The verdict when the fault is switched off: send the waiting bytes."""
        return [Release(direction) for direction in Direction]

    def changed(self) -> Verdict:
        """What follows when the fault has other options: what waits goes on, and no wake so far counts."""
        return self.recover()

    def closed(self, summary: SessionSummary) -> None:
        """See `IFilter`."""
        self.leave()

    def leave(self) -> None:
        """Hear no more of the fault."""
        self._fault.leave(self)

    def _close(self) -> Close:
        return Close(f"fault {self._fault.kind}", abort=self._options.abort)
