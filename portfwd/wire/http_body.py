# -*- test-case-name: tests.wire.test_http_body -*-
"""
The body of an HTTP/1.x request: its length, and the chunked coding (RFC 9112 sections 6 and 7).

A request whose length two recipients could read differently is refused: two lengths, a length beside a
transfer coding, and codings other than ``chunked``. Chunk extensions and trailers are dropped.
"""

from __future__ import annotations

import re
from typing import Final

from portfwd.wire.http_head import RequestHead
from portfwd.wire.reading import Need, Read, TooLong, WireError

#: Maximum digits of ``Content-Length``: those of the largest 63-bit number.
MAX_DIGITS: Final = 19
#: Maximum chunks of one body. .NET sends chunks of 4 KiB and Node of 64 KiB; each chunk costs a microsecond.
MAX_CHUNKS: Final = 512
#: Maximum bytes of the line before a chunk, with its extensions, which nobody sends.
MAX_CHUNK_LINE: Final = 256
#: Maximum bytes of all trailers.
MAX_TRAILERS: Final = 4096

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_DIGITS: Final = re.compile(rb"[0-9]+")


class UnknownCoding(WireError):
    """The body has a transfer coding other than ``chunked``."""


def body_length(head: RequestHead, most: int) -> int | None:
    """
    The number of bytes of the body; None if it is chunked.

    :param most: maximum bytes of a body.
    :raises WireError: the length is not valid, or is given twice.
    :raises TooLong: it exceeds `most`.
    :raises UnknownCoding: the transfer coding is not ``chunked``.
    """
    lengths, codings = head.field("content-length"), head.field("transfer-encoding")
    if codings:
        # RFC 9112 section 6.1: "ought to handle such a message as an error" (with a length); "a server that
        # receives … HTTP/1.0 … MUST treat the message as if the framing is faulty".
        if lengths or len(codings) > 1 or head.version == "1.0":
            raise WireError("the length of the body is ambiguous")
        if codings[0].lower() != b"chunked":
            raise UnknownCoding("the body has an unknown transfer coding")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or _DIGITS.fullmatch(lengths[0]) is None or len(lengths[0]) > MAX_DIGITS:
        raise WireError("Content-Length is one number")
    length = int(lengths[0])
    if length > most:
        raise TooLong(f"a body has at most {most} bytes here")
    return length


def read_chunked(data: bytes, most: int) -> Read[bytes] | Need:
    """
    Read a chunked body at the start of `data`.

    :param most: maximum bytes of the body.
    :returns: the joined chunks; `used` includes the trailers.
    :raises WireError: the coding is malformed.
    :raises TooLong: one of the limits is exceeded.
    """
    chunks: list[bytes] = []
    total = start = 0
    while True:
        end = data.find(b"\r\n", start, start + MAX_CHUNK_LINE + 2)
        if end < 0:
            if len(data) - start >= MAX_CHUNK_LINE + 2:
                raise TooLong(f"the line of a chunk has at most {MAX_CHUNK_LINE} bytes here")
            return Need(len(data) + 1)
        match = _SIZE.fullmatch(data, start, end)
        if match is None:
            raise WireError("a chunk begins with its size")
        size, start = int(match[1], 16), end + 2
        if size == 0:
            break
        total += size
        if total > most or len(chunks) == MAX_CHUNKS:
            raise TooLong(f"a body has at most {most} bytes and {MAX_CHUNKS} chunks here")
        if len(data) < start + size + 2:
            return Need(start + size + 2)
        if data[start + size : start + size + 2] != b"\r\n":
            raise WireError("a chunk ends with CRLF")
        chunks.append(data[start : start + size])
        start += size + 2
    used = _after_trailers(data, start)
    return Need(len(data) + 1) if used is None else Read(b"".join(chunks), used)


def _after_trailers(data: bytes, start: int) -> int | None:
    """The position after the trailers and the empty line; None if more bytes are required."""
    if data.startswith(b"\r\n", start):
        return start + 2
    end = data.find(b"\r\n\r\n", start, start + MAX_TRAILERS)
    if end >= 0:
        return end + 4
    if len(data) - start >= MAX_TRAILERS:
        raise TooLong(f"trailers have at most {MAX_TRAILERS} bytes here")
    return None
