# -*- test-case-name: tests.testing.test_data -*-
"""
The bytes that scripted peers send, and their verification on arrival.

A `Pattern` is an endless stream that is cheap to generate. The byte at each position is known, so a receiver
detects lost, duplicated, swapped and foreign bytes where they occur. `Sent` records the output of one peer,
with pattern and literal text. `Received` compares the input of one peer with such a record.

No sockets are used. A seed gives the same stream in every run.
"""

from __future__ import annotations

import hashlib
import random
import struct
import threading
from typing import Final, Protocol

from portfwd.values import counted

#: Bytes of a block of the stream. Each block begins with its seed and number.
BLOCK: Final = 65536
_STAMP: Final = struct.Struct(">QQ")
#: Bytes before and after a mismatch in which `Received` searches for the wrong bytes.
_SEARCH: Final = 4 * 1024 * 1024
#: Bytes compared in that search, enough to exclude a coincidence.
_SAMPLE: Final = 24
#: Maximum bytes that are kept if it is not known what to expect, 64 MiB.
MAX_KEPT: Final = 64 * 1024 * 1024


class WrongBytes(AssertionError):
    """The received bytes are not a prefix of the sent bytes; the text says where they differ, and how."""


class Source(Protocol):
    """Anything that knows the bytes of a stream by position."""

    def slice(self, start: int, size: int) -> bytes:
        """Return the bytes ``start`` to ``start + size``; fewer if the stream is shorter."""


class Pattern:
    """
    An endless stream of bytes.

    A seeded random tile repeats every `BLOCK` bytes. The first 16 bytes of each block are the seed and the
    number of the block, so all blocks of all streams differ.

    :param seed: 0 to 2**64 - 1; selects the stream.
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
        """Return `size` bytes from the position `start`."""
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
    """A `Source` of fixed bytes, for instance the expected output of a filter."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def slice(self, start: int, size: int) -> bytes:
        """Return the bytes ``start`` to ``start + size``."""
        return self._data[start : start + size]


class Sent:
    """
    The record of the bytes that one peer sends: a `Source` for the other one.

    Bytes are planned before they are written, because a receiver in another thread may compare them at once.
    They are confirmed when the kernel has accepted them.

    :param pattern: the source of bytes that are requested by size. The byte at position *n* of the record is
        the pattern's byte *n*.

    :ivar count: number of bytes that the kernel accepted.
    :ivar sha256: hash of these bytes.
    """

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.count = 0
        self._planned = 0
        self._literals: list[tuple[int, bytes]] = []
        self._hash = hashlib.sha256()
        # A pattern caches its last block, which two threads must not use at the same time.
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Sent {self.count} of {self._planned} bytes>"

    @property
    def sha256(self) -> str:
        """The hash of all bytes that the kernel accepted, in hexadecimal."""
        return self._hash.hexdigest()

    def plan(self, size: int) -> bytes:
        """Plan the next `size` bytes of the pattern, and return them."""
        with self._lock:
            self._planned = self.count + size
            return self.pattern.slice(self.count, size)

    def plan_literal(self, data: bytes) -> bytes:
        """Plan `data` as the next bytes, and return it."""
        with self._lock:
            self._planned = self.count + len(data)
            self._literals.append((self.count, data))
            return data

    def confirm(self, data: bytes | memoryview) -> None:
        """The kernel accepted `data`, the first of the planned bytes."""
        with self._lock:
            self.count += len(data)
        self._hash.update(data)

    def slice(self, start: int, size: int) -> bytes:
        """Return the planned bytes from `start` on; fewer than `size` if no more were planned."""
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
    The bytes that one peer received, compared with a `Source`.

    :param source: the expected bytes. None: they are not known, so the bytes are kept (up to `MAX_KEPT`).

    :ivar count: number of received bytes.
    :ivar sha256: hash of these bytes.
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
        """The hash of all received bytes, in hexadecimal."""
        return self._hash.hexdigest()

    def add(self, data: bytes) -> None:
        """
        Add the next bytes.

        :raises WrongBytes: they differ from the source.
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
        """Return received bytes from `start` on; fewer than `size` if fewer were received."""
        size = max(0, min(size, self.count - start))
        if self.source is None:
            return bytes(self._kept[start : start + size])
        # They were compared on arrival.
        return self.source.slice(start, size)

    def _explain(self, source: Source, expected: bytes, data: bytes) -> str:
        """Describe the first wrong byte, and the position of these bytes in the source if it is found."""
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
