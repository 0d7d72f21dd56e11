# -*- test-case-name: tests.relay.test_associations -*-
"""
The associations of one listening datagram socket: who of its clients has a session.

A bounded table. When it is full, the association goes that has been silent longest: a flood of sources that
never speak again (spoofed ones, most likely) displaces its own before it displaces anybody
who does. It refuses to know what an association is, and when it has been silent for too long: its
session knows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar


class Evictable(Protocol):
    """What stands in the table."""

    def evict(self) -> None:
        """Make room: end, and leave the table."""


Entry = TypeVar("Entry", bound=Evictable)


class Associations(Generic[Entry]):
    """
    Associations by client, the one that was silent longest first.

    :ivar most: how many there may be.
    :ivar evicted: how many had to make room.
    :ivar entries: the table itself, for the path of every datagram: who finds an entry there
        moves it to the end.
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
        """Leave room for one more."""
        while len(self.entries) >= self.most:
            self.evict_oldest()

    def evict_oldest(self) -> bool:
        """End the association that was silent longest; False where there is none."""
        if not self.entries:
            return False
        key, entry = next(iter(self.entries.items()))
        # Out first: an entry that fails to leave must not keep its place.
        del self.entries[key]
        self.evicted += 1
        entry.evict()
        return True

    def add(self, key: Hashable, entry: Entry) -> None:
        """A new one; there must be room."""
        self.entries[key] = entry

    def forget(self, key: Hashable, entry: Entry) -> None:
        """`entry` is over; another one of the same client stays."""
        if self.entries.get(key) is entry:
            del self.entries[key]
