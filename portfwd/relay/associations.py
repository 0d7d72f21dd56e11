# -*- test-case-name: tests.relay.test_associations -*-
"""
The table of associations of one listening datagram socket.

The table is bounded. When it is full, the association that has been silent longest is removed. A flood of
sources that send only once (probably spoofed ones) therefore removes its own associations before those of
active clients. Limits of silence belong to the sessions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar


class Evictable(Protocol):
    """An entry of the table."""

    def evict(self) -> None:
        """End the association and leave the table, to make room."""


Entry = TypeVar("Entry", bound=Evictable)


class Associations(Generic[Entry]):
    """
    Associations by client, the longest silent one first.

    :ivar most: most associations.
    :ivar evicted: number of associations removed to make room.
    :ivar entries: the table itself, for the data path: the code that finds an entry moves it to the end.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.evicted = 0
        self.entries: OrderedDict[Hashable, Entry] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Associations {len(self.entries)} of {self.most}, {self.evicted} evicted>"

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self.entries.values()))

    def make_room(self) -> None:
        """Make room for one more."""
        while len(self.entries) >= self.most:
            self.evict_oldest()

    def evict_oldest(self) -> bool:
        """End the longest silent association. False if there is none."""
        if not self.entries:
            return False
        key, entry = next(iter(self.entries.items()))
        # Remove it first: an entry that raises must not stay.
        del self.entries[key]
        self.evicted += 1
        entry.evict()
        return True

    def add(self, key: Hashable, entry: Entry) -> None:
        """Add an association. There must be room."""
        self.entries[key] = entry

    def forget(self, key: Hashable, entry: Entry) -> None:
        """Remove `entry`. Another entry of the same client stays."""
        if self.entries.get(key) is entry:
            del self.entries[key]
