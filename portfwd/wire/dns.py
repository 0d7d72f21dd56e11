# -*- test-case-name: tests.wire.test_dns -*-
"""
The header of DNS messages (RFC 1035 section 4.1.1): is it a question, and what is its number.

It refuses to read further: names and records are the resolver's and the server's.
"""

from __future__ import annotations

from typing import Final

#: Bytes of a header; every message has one.
HEADER: Final = 12
#: How many numbers (ids) there are.
IDS: Final = 65536

_RESPONSE: Final = 0x80
_OPCODE: Final = 0x78


def is_question(message: bytes) -> bool:
    """
    Whether `message` is a standard query: one that may be asked again, and is answered by one message.

    The bit QR is 0 and OPCODE is 0 (QUERY); there is one question, no answer and no authority record. What
    has another meaning (another protocol with the same framing, a NOTIFY, an UPDATE) hardly ever looks like
    this.
    """
    return (
        len(message) > HEADER and not message[2] & (_RESPONSE | _OPCODE) and message[4:10] == b"\0\1\0\0\0\0"
    )


def read_id(message: bytes) -> int | None:
    """The number of `message`; None where it is too short to have one."""
    return int.from_bytes(message[:2], "big") if len(message) >= HEADER else None


def with_id(message: bytes, number: int) -> bytes:
    """`message` with another number, from 0 to `IDS` - 1."""
    return number.to_bytes(2, "big") + message[2:]
