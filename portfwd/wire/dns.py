# -*- test-case-name: tests.wire.test_dns -*-
"""
The header of DNS messages (RFC 1035 section 4.1.1): is the message a question, and what is its id.

Names and records are not read.
"""

from __future__ import annotations

from typing import Final

#: Bytes of a header; every message has one.
HEADER: Final = 12
#: Number of possible ids.
IDS: Final = 65536

_RESPONSE: Final = 0x80
_OPCODE: Final = 0x78


def is_question(message: bytes) -> bool:
    """
    Whether `message` is a standard query, which may be repeated and has one message as its answer.

    QR is 0 and OPCODE is 0 (QUERY); there is one question, no answer and no authority record. A NOTIFY, an
    UPDATE or a message of another protocol with the same framing rarely satisfies all of this.
    """
    return (
        len(message) > HEADER and not message[2] & (_RESPONSE | _OPCODE) and message[4:10] == b"\0\1\0\0\0\0"
    )


def read_id(message: bytes) -> int | None:
    """The id of `message`; None if the message is too short to have one."""
    return int.from_bytes(message[:2], "big") if len(message) >= HEADER else None


def with_id(message: bytes, number: int) -> bytes:
    """`message` with the id `number`, from 0 to `IDS` - 1."""
    return number.to_bytes(2, "big") + message[2:]
