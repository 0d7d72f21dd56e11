# -*- test-case-name: tests.streams.sockets.test_bulk_reads -*-
"""
Larger reads for bulk data that passes through this process.

The cost of a byte depends on the number of bytes per system call. If bytes cannot be spliced, because of a
filter, TLS or transports, the read after one that filled the buffer has the size of ``bulk-buffer=``.

Bytes that a reader cannot pass on at once are kept, so the number of larger reads must be bounded: each needs
a slot, and there are `SLOTS` of them. A reader keeps its slot while bytes of the read wait to be written.
Without a slot it uses the usual buffer. Bytes of a larger read that a filter holds have no slot; this is at
most one read, and the next one has the usual size.
"""

from __future__ import annotations

from typing import Final

#: Most larger reads with kept bytes. With reads of 1 MiB this is as much memory as an unprivileged user's
#: pipes may take.
SLOTS: Final = 64

#: Bytes of the largest read with TLS or another layer. A layer processes a read in pieces, so larger reads
#: would only cause cache misses.
LAYERED: Final = 256 * 1024


class BulkSlots:
    """
    Counts the larger reads with kept bytes.

    :ivar taken: their number.
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
        """Larger reads of another size with the same slots."""
        return BulkReads(size, self.slots)


class BulkReader:
    """
    The larger reads of one reader, after the first read that filled its buffer.

    :ivar filled: whether the last read filled the usual buffer.
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
        """Bytes of the next read: more than `usual` if a slot is free."""
        if not self.filled:
            return usual
        if not self._has_slot:
            if self._slots.taken >= self._slots.most:
                return usual
            self._slots.taken += 1
            self._has_slot = True
        return self._size

    def release(self) -> None:
        """Return the slot, because no bytes of the last read are kept."""
        if self._has_slot:
            self._has_slot = False
            self._slots.taken -= 1
