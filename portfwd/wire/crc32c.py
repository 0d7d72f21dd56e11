# -*- test-case-name: tests.wire.test_crc32c -*-
"""
CRC-32C (Castagnoli), the checksum of PROXY headers: RFC 4960 appendix B, in its reflected form.

It uses a table of 256 numbers and one step for each byte: about a hundred microseconds for a kilobyte, which
is more than a header has.
"""

from __future__ import annotations

from typing import Final

#: The polynomial 0x1EDC6F41 with its bits reversed.
_POLYNOMIAL: Final = 0x82F63B78


def _table() -> tuple[int, ...]:
    """Compute the remainder of each byte."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """Compute the checksum of `data`: 32 bits."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum = checksum >> 8 ^ _TABLE[(checksum ^ byte) & 0xFF]
    return checksum ^ 0xFFFFFFFF
