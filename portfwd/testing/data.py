# -*- test-case-name: tests.testing.test_data -*-
"""
The bytes scripted peers send, and the proof that exactly these arrived.

A `Pattern` is an endless stream that costs next to nothing to make and whose
byte at any position is known, so a receiver compares what it got with what
was sent at that position, and a lost, doubled, swapped or foreign byte shows
where it happens. `Sent` is the record of one peer's output, pattern and
literal text mixed; `Received` checks one peer's input against such a record.

Nothing here touches a socket, and no byte is random: a seed gives the same
stream in every run.
"""

from __future__ import annotations

import hashlib
import random
import struct
import threading
from typing import Final, Protocol

from portfwd.values import counted

#: The stream is made of blocks of this many bytes, each stamped with its seed and number.
BLOCK: Final = 65536
_STAMP: Final = struct.Struct(">QQ")
#: How far around a mismatch `Received` looks for the place where the wrong bytes belong.
_SEARCH: Final = 4 * 1024 * 1024
#: Bytes compared in that search: enough not to be found by chance.
_SAMPLE: Final = 24
#: Received bytes that nothing is known about are kept up to this bound, 64 MiB.
MAX_KEPT: Final = 64 * 1024 * 1024


class WrongBytes(AssertionError):
    """What arrived is not a prefix of what was sent; the text says where, and what came instead."""


class Source(Protocol):
    """Anything that knows the bytes of a stream by position."""

    def slice(self, start: int, size: int) -> bytes:
        """The bytes ``start`` to ``start + size``; fewer where the stream is shorter."""


class Pattern:
    """
    An endless stream of bytes.

    A seeded random tile repeats every `BLOCK` bytes; the first 16 bytes of
    each block are the seed and the block's number. So no two blocks of a
    stream, and no blocks of two streams, are the same.

    :param seed: 0 to 2**64 - 1; another seed is another stream.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        # Test data, not a secret.
        self._tile = random.Random(seed).randbytes(BLOCK - _STAMP.size)  # noqa: S311
        self._last: tuple[int, bytes] = (0, self._make(0))

    def __repr__(self) -> str:
        return f"<Pattern seed={self.seed}>"

    def _make(self, number: int) -> bytes:
        return _STAMP.pack(self.seed, number) + self._tile

    def _block(self, number: int) -> bytes:
        known, block = self._last
        if known != number:
            block = self._make(number)
            self._last = (number, block)
        return block

    def slice(self, start: int, size: int) -> bytes:
        """The `size` bytes from position `start` on."""
        first, skip = divmod(start, BLOCK)
        if skip + size <= BLOCK:
            return self._block(first)[skip : skip + size]
        parts = [self._block(first)[skip:]]
        missing = size - len(parts[0])
        number = first + 1
        while missing > 0:
            block = self._block(number)
            parts.append(block if missing >= BLOCK else block[:missing])
            missing -= BLOCK
            number += 1
        return b"".join(parts)


class Literal:
    """A `Source` that is just some bytes: what a filter is expected to make of its input, say."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def slice(self, start: int, size: int) -> bytes:
        """The bytes ``start`` to ``start + size`` of the text."""
        return self._data[start : start + size]


class Sent:
    """
    The record of what one peer sends: a `Source` for the other one.

    Bytes are planned before they are written, so that a receiver in another
    thread never sees a byte before the record does, and confirmed when the
    kernel took them.

    :param pattern: where bytes come from that are asked for by size only. The
        byte at position *n* of the record is the pattern's byte *n*.

    :ivar count: bytes the kernel took.
    :ivar sha256: of those bytes.
    """

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.count = 0
        self._planned = 0
        self._literals: list[tuple[int, bytes]] = []
        self._hash = hashlib.sha256()
        # Patterns remember their last block: two threads must not share that by turns.
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Sent {self.count} of {self._planned} bytes>"

    @property
    def sha256(self) -> str:
        """The hash of all bytes the kernel took, in hexadecimal."""
        return self._hash.hexdigest()

    def plan(self, size: int) -> bytes:
        """Announce the next `size` bytes of the pattern, and return them."""
        with self._lock:
            self._planned = self.count + size
            return self.pattern.slice(self.count, size)

    def plan_literal(self, data: bytes) -> bytes:
        """Announce `data` as the next bytes, and return it."""
        with self._lock:
            self._planned = self.count + len(data)
            self._literals.append((self.count, data))
            return data

    def confirm(self, data: bytes | memoryview) -> None:
        """The kernel took `data`, the first of the planned bytes."""
        with self._lock:
            self.count += len(data)
        self._hash.update(data)

    def slice(self, start: int, size: int) -> bytes:
        """The planned bytes from `start` on; fewer than `size` where no more were planned."""
        with self._lock:
            size = max(0, min(size, self._planned - start))
            expected = self.pattern.slice(start, size)
            for position, data in self._literals:
                low, high = max(start, position), min(start + size, position + len(data))
                if low < high:
                    text = data[low - position : high - position]
                    expected = expected[: low - start] + text + expected[high - start :]
            return expected


class Received:
    """
    What one peer got, checked byte by byte against a `Source`.

    :param source: what should come. None: nothing is known, so the bytes are
        kept (up to `MAX_KEPT`) for someone to look at.

    :ivar count: bytes that arrived.
    :ivar sha256: of those bytes.
    """

    def __init__(self, source: Source | None = None) -> None:
        self.source = source
        self.count = 0
        self._hash = hashlib.sha256()
        self._kept = bytearray()

    def __repr__(self) -> str:
        return f"<Received {self.count} bytes>"

    @property
    def sha256(self) -> str:
        """The hash of all bytes that arrived, in hexadecimal."""
        return self._hash.hexdigest()

    def add(self, data: bytes) -> None:
        """
        Take the next bytes.

        :raises WrongBytes: if they are not what the source has at this position.
        """
        if self.source is None:
            self._kept += data
            if len(self._kept) > MAX_KEPT:
                raise WrongBytes(f"more than {MAX_KEPT} bytes arrived and nothing says what they should be")
        else:
            expected = self.source.slice(self.count, len(data))
            if expected != data:
                raise WrongBytes(self._explain(self.source, expected, data))
        self.count += len(data)
        self._hash.update(data)

    def slice(self, start: int, size: int) -> bytes:
        """Bytes that arrived, by position; fewer than `size` where fewer have come."""
        size = max(0, min(size, self.count - start))
        if self.source is None:
            return bytes(self._kept[start : start + size])
        # Each was compared when it came.
        return self.source.slice(start, size)

    def _explain(self, source: Source, expected: bytes, data: bytes) -> str:
        """One sentence on the first wrong byte, and where the bytes belong if they belong anywhere."""
        at = next((n for n, (a, b) in enumerate(zip(expected, data, strict=False)) if a != b), len(expected))
        position = self.count + at
        if at == len(expected):
            return f"byte {position} arrived, but only {counted(position, 'byte')} sent"
        wanted, got = expected[at : at + 8].hex(), data[at : at + 8].hex()
        text = f"byte {position} is wrong: expected {wanted}…, got {got}…"
        sample = data[at : at + _SAMPLE]
        start = max(0, position - _SEARCH)
        found = source.slice(start, 2 * _SEARCH).find(sample) if len(sample) == _SAMPLE else -1
        if found < 0:
            return text + "; these bytes were sent nowhere near"
        moved = start + found - position
        return text + (
            f"; {counted(moved, 'byte')} missing here" if moved > 0 else f"; {counted(-moved, 'byte')} twice"
        )
