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

    __slots__ = ("size", "slots")

    def __init__(self, size: int, slots: BulkSlots) -> None:
        self.size = size
        self.slots = slots

    def __repr__(self) -> str:
        return f"<BulkReads {self.size} {self.slots!r}>"

    def with_size(self, size: int) -> BulkReads:
        """The same slots for reads of another size."""
        return BulkReads(size, self.slots)


class BulkReader:
    """
    The larger reads of one reader, from the first read that filled its buffer on.

    :ivar filled: the last read filled the usual buffer.
    """

    __slots__ = ("_has_slot", "_size", "_slots", "filled")

    def __init__(self, reads: BulkReads) -> None:
        self.filled = True
        self._size = reads.size
        self._slots = reads.slots
        self._has_slot = False

    def __repr__(self) -> str:
        return (
            f"<BulkReader {'larger' if self.filled else 'usual'}{' with a slot' if self._has_slot else ''}>"
        )

    def next_size(self, usual: int) -> int:
        """Bytes of the coming read: more than `usual` if a slot is left for it."""
        if not self.filled:
            return usual
        if not self._has_slot:
            if self._slots.taken >= self._slots.most:
                return usual
            self._slots.taken += 1
            self._has_slot = True
        return self._size

    def release(self) -> None:
        """Give the slot back: nothing of the last read is kept."""
        if self._has_slot:
            self._has_slot = False
            self._slots.taken -= 1
