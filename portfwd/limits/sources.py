# -*- test-case-name: tests.limits.test_sources -*-
"""
Something for each client address, for as many as there are and not for ever.

What somebody uses stays what it is: two sessions of one address share it, however
many other addresses came between them. Of what nobody uses any more the latest
`MOST_IDLE` are kept, so that who comes back at once finds what he left behind. An address
is an address: it refuses to guess which ones belong to one network or one person.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar
from weakref import WeakValueDictionary

from portfwd.values import unmapped

#: Addresses that are remembered after their last session, for each limit: about half a megabyte.
#: What is forgotten is a tenth of a second's worth of bytes, which a new one gets again.
MOST_IDLE: Final = 1024

V = TypeVar("V")


class Sources(Generic[V]):
    """What addresses have of their own; `V` takes weak references."""

    __slots__ = ("_all", "_latest", "_make", "_most_idle")

    def __init__(self, make: Callable[[], V], most_idle: int = MOST_IDLE) -> None:
        """:param make: makes what an address has that is not known."""
        self._make = make
        self._most_idle = most_idle
        self._latest: dict[str, V] = {}
        # Whatever a session holds stays here, and goes with the last one that holds it.
        self._all: WeakValueDictionary[str, V] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<Sources {len(self._all)} known>"

    def __len__(self) -> int:
        return len(self._all)

    def of(self, host: str) -> V:
        """What the address `host` has; an IPv4 address in IPv6's form is the IPv4 address."""
        host = unmapped(host)
        own = self._all.get(host)
        if own is None:
            own = self._all[host] = self._make()
        self._latest.pop(host, None)
        self._latest[host] = own
        if len(self._latest) > self._most_idle:
            del self._latest[next(iter(self._latest))]
        return own
