# -*- test-case-name: tests.limits.test_sources -*-
"""
A table with one value for each client address.

A value that is in use stays: all sessions of one address share it. Of the unused values the latest
`MOST_IDLE` are kept, so a client that returns soon gets its old value. Addresses are compared as they are,
not by network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar
from weakref import WeakValueDictionary

from portfwd.values import unmapped

#: Unused values that each table keeps, about half a megabyte. A removed value is the bucket of a rate; a new
#: bucket starts with the bytes of a tenth of a second.
MOST_IDLE: Final = 1024

V = TypeVar("V")


class Sources(Generic[V]):
    """Values by address. `V` must support weak references."""

    __slots__ = ("_all", "_latest", "_make", "_most_idle")

    def __init__(self, make: Callable[[], V], most_idle: int = MOST_IDLE) -> None:
        """:param make: makes the value of a new address."""
        self._make = make
        self._most_idle = most_idle
        self._latest: dict[str, V] = {}
        # A value stays here as long as a session references it.
        self._all: WeakValueDictionary[str, V] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<Sources {len(self._all)} known>"

    def __len__(self) -> int:
        return len(self._all)

    def of(self, host: str) -> V:
        """The value of the address `host`. IPv4-mapped addresses are treated as IPv4 ones."""
        host = unmapped(host)
        own = self._all.get(host)
        if own is None:
            own = self._all[host] = self._make()
        self._latest.pop(host, None)
        self._latest[host] = own
        if len(self._latest) > self._most_idle:
            del self._latest[next(iter(self._latest))]
        return own
