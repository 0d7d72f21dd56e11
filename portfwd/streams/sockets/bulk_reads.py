# -*- test-case-name: tests.streams.sockets.test_bulk_reads -*-
"""
Larger reads for bulk that passes through this process.

How many bytes a system call moves decides what a byte costs. Where no pipe can carry them, because a
filter looks, TLS is around them or the pair moves them, the read after one that filled the buffer is
as large as ``bulk-buffer=`` says.

What a reader cannot pass on at once is kept, so memory is bounded by who may read so much: each larger
read needs a slot, and there are `SLOTS` of them. A reader keeps its place while something of what it
read waits to be written, and goes on with the usual buffer where there is none. What a filter holds
of a larger read has no slot: it is one at most, and the next is a usual one.
"""

from __future__ import annotations

from typing import Final

#: Larger reads of which something is kept, at most: with reads of 1 MiB as much memory as an
#: unprivileged user's pipes may take.
SLOTS: Final = 64

#: Bytes of the largest read where TLS or another layer is around the bytes. It works through a read piece
#: by piece, so what it gains by larger ones is lost to the processor's cache.
LAYERED: Final = 256 * 1024


class BulkSlots:
    """
    Counts larger reads of which something is kept.

    :ivar taken: how many there are.
    """

    __slots__ = ("most", "taken")

    def __init__(self, most: int = SLOTS) -> None:
        self.most = most
        self.taken = 0

    def __repr__(self) -> str:
        return f"<BulkSlots {self.taken} of {self.most}>"


class BulkReads:
    """
    The larger reads of one rule.

    :ivar size: bytes of one.
    """

    __slots__ = ("_slots", "size")

    def __init__(self, size: int, slots: BulkSlots) -> None:
        self.size = size
        self._slots = slots

    def __repr__(self) -> str:
        return f"<BulkReads {self.size} {self._slots!r}>"

    def with_size(self, size: int) -> BulkReads:
        """The same slots for reads of another size."""
        return BulkReads(size, self._slots)

    def take(self) -> bool:
        """Take a slot for the coming read; False where there is none."""
        slots = self._slots
        if slots.taken >= slots.most:
            return False
        slots.taken += 1
        return True

    def give_back(self) -> None:
        """Nothing of the read is kept any more."""
        self._slots.taken -= 1
