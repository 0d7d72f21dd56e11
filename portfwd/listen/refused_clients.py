# -*- test-case-name: tests.listen.test_refused_clients -*-
"""
Clients of a datagram listener that were refused a moment ago.

Their further datagrams are dropped without another attempt: a flood of them would cause a session and a log
line for each.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from portfwd.values import REFUSALS, CloseReason

#: Seconds before a client that was refused, or whose upstream could not be reached, gets another association.
REFUSED_FOR: Final = 1.0

#: Most remembered refused clients.
MOST_REFUSED: Final = 1024

#: Why associations end whose clients are remembered.
NOT_SERVED: Final = REFUSALS | {
    CloseReason.CONNECT_REFUSED,
    CloseReason.CONNECT_TIMEOUT,
    CloseReason.NAME_NOT_RESOLVED,
    CloseReason.TLS_FAILED,
    CloseReason.RESOURCES,
}


class RefusedClients:
    """The refused clients by the key that the listener has for them."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._until: dict[Hashable, float] = {}

    def __repr__(self) -> str:
        return f"<RefusedClients {len(self._until)}>"

    def add(self, key: Hashable) -> None:
        """Remember a client, and forget the oldest one if there are `MOST_REFUSED`."""
        if len(self._until) >= MOST_REFUSED:
            del self._until[next(iter(self._until))]
        self._until[key] = self._clock.seconds() + REFUSED_FOR

    def __contains__(self, key: Hashable) -> bool:
        """Whether the client was refused in the last `REFUSED_FOR` seconds. It is forgotten after that."""
        until = self._until.get(key)
        if until is None:
            return False
        if until > self._clock.seconds():
            return True
        del self._until[key]
        return False
