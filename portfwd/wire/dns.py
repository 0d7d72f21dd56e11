# -*- test-case-name: tests.wire.test_dns -*-
"""
The header of DNS messages (RFC 1035 section 4.1.1): is the message a question, and what is its id.

An answer that was received over a stream and is too long for a client's datagrams is truncated. For this the
start of each record and the record of EDNS (OPT, RFC 6891) are read; names and other records are not.
"""

from __future__ import annotations

from typing import Final

#: Bytes of a header; every message has one.
HEADER: Final = 12
#: Number of possible ids.
IDS: Final = 65536

#: Maximum bytes of an answer over UDP to a question without EDNS (RFC 1035 section 4.2.1). RFC 6891 section
#: 6.2.3: "Values lower than 512 MUST be treated as equal to 512."
MIN_PAYLOAD_SIZE: Final = 512

_RESPONSE: Final = 0x80
_OPCODE: Final = 0x78
_TRUNCATED: Final = 0x02
#: Bytes of a question after its name, and of a record between its name and its data.
_QUESTION: Final = 4
_RECORD: Final = 10
#: Minimum value of the first byte of a pointer to another name, which has two bytes.
_POINTER: Final = 0xC0
#: The name and the type of an OPT record.
_OPT: Final = b"\0\0\x29"


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


def truncate_for_udp(answer: bytes, question: bytes) -> bytes:
    """
    Truncate the `answer` to `question` if it is longer than the client accepts over UDP.

    RFC 2181 section 9: "When a DNS client receives a reply with TC set, it should ignore that response, and
    query again, using a mechanism, such as a TCP connection, that will permit larger replies." RFC 6891
    section 7: "The minimal response MUST be the DNS header, question section, and an OPT record. This MUST
    also occur when a truncated response (using the DNS header's TC bit) is returned."

    The answer is not changed if the question is invalid, or has additional records other than OPT, such as a
    signature (RFC 8945).
    """
    if len(answer) <= MIN_PAYLOAD_SIZE:
        return answer
    try:
        size, begin = _payload_size_of(question)
        if len(answer) <= size:
            return answer
        return _truncated(answer, question[HEADER:begin])
    except (IndexError, ValueError):
        return answer


def _payload_size_of(question: bytes) -> tuple[int, int]:
    """Return the maximum bytes of the answer to `question`, and the offset of the question's first record."""
    begin = _skip_name(question, HEADER) + _QUESTION
    if begin > len(question):
        raise ValueError("the question is cut off")
    records = int.from_bytes(question[10:HEADER], "big")
    if not records:
        return MIN_PAYLOAD_SIZE, begin
    if records > 1 or question[begin : begin + len(_OPT)] != _OPT:
        raise ValueError("there are other records than OPT")
    return max(MIN_PAYLOAD_SIZE, int.from_bytes(question[begin + 3 : begin + 5], "big")), begin


def _truncated(answer: bytes, asked: bytes) -> bytes:
    """Return the header of `answer` with TC, the question section `asked`, and OPT without its options."""
    flags = bytes((answer[2] | _TRUNCATED, answer[3]))
    opt = _opt_of(answer)
    return answer[:2] + flags + b"\0\1\0\0\0\0\0" + bytes((bool(opt),)) + asked + opt


def _opt_of(answer: bytes) -> bytes:
    """Return the OPT record of `answer` without its options; empty if there is none."""
    counts = [int.from_bytes(answer[at : at + 2], "big") for at in range(4, HEADER, 2)]
    offset = HEADER
    for _ in range(counts[0]):
        offset = _skip_name(answer, offset) + _QUESTION
    for _ in range(sum(counts[1:])):
        if answer[offset : offset + len(_OPT)] == _OPT:
            return answer[offset : offset + 1 + _RECORD - 2] + b"\0\0"
        offset = _skip_name(answer, offset) + _RECORD
        offset += int.from_bytes(answer[offset - 2 : offset], "big")
    return b""


def _skip_name(message: bytes, offset: int) -> int:
    """
    Return the offset after the name at `offset` (RFC 1035 section 4.1.4), which ends with an empty label or a
    pointer.

    :raises IndexError: the message ends before the name.
    """
    while length := message[offset]:
        if length >= _POINTER:
            return offset + 2
        offset += 1 + length
    return offset + 1
