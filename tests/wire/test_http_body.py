"""Tests of `portfwd.wire.http_body`."""

from __future__ import annotations

from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from portfwd.wire import TooLong, WireError
from portfwd.wire.http_body import (
    MAX_CHUNK_LINE,
    MAX_CHUNKS,
    MAX_DIGITS,
    MAX_TRAILERS,
    UnknownCoding,
    body_length,
    read_chunked,
)
from portfwd.wire.http_head import RequestHead
from tests.wire.conversations import ReaderTestCase

MOST = 1000
read = partial(read_chunked, most=MOST)


def head(*fields: tuple[str, bytes], version: str = "1.1") -> RequestHead:
    """A head with `fields`."""
    return RequestHead("POST", "/", version, fields=fields)


class LengthTests(ReaderTestCase):
    """The length of a body."""

    def test_read(self) -> None:
        """A number, none, or chunks."""
        for fields, length in (
            ([], 0),
            ([("content-length", b"0")], 0),
            ([("content-length", b"01000")], MOST),
            ([("transfer-encoding", b"Chunked")], None),
        ):
            self.assertEqual(body_length(head(*fields), MOST), length)

    def test_refused(self) -> None:
        """What is ambiguous, malformed or too large is refused, each with its class."""
        length, coding = "content-length", "transfer-encoding"
        for fields, kind in (
            ([(length, b"1001")], TooLong),
            ([(length, b"9" * MAX_DIGITS)], TooLong),
            ([(length, b"9" * 5000)], WireError),
            ([(length, b"+1")], WireError),
            ([(length, b"-1")], WireError),
            ([(length, b"1_0")], WireError),
            ([(length, "١".encode())], WireError),
            ([(length, b"")], WireError),
            ([(length, b"1, 1")], WireError),
            ([(length, b"1"), (length, b"1")], WireError),
            ([(length, b"1"), (coding, b"chunked")], WireError),
            ([(coding, b"chunked"), (coding, b"chunked")], WireError),
            ([(coding, b"gzip, chunked")], UnknownCoding),
            ([(coding, b"identity")], UnknownCoding),
            ([(coding, b"")], UnknownCoding),
        ):
            error = self.assertRaises(WireError, body_length, head(*fields), MOST)
            self.assertIs(type(error), kind, fields)
        self.assertRaises(WireError, body_length, head((coding, b"chunked"), version="1.0"), MOST)


class ChunkTests(ReaderTestCase):
    """Chunked bodies."""

    def test_read(self) -> None:
        """Chunks are joined; extensions and trailers are dropped."""
        for data, body in (
            (b"0\r\n\r\n", b""),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"00A;a=b;c\r\n0123456789\r\n1 \t;x\r\n\n\r\n0;y\r\na: b\r\nc: d\r\n\r\n", b"0123456789\n"),
            (b"%x\r\n%s\r\n0\r\n\r\n" % (MOST, b"x" * MOST), b"x" * MOST),
        ):
            self.assertEqual(self.read(read, data), body)

    def test_malformed(self) -> None:
        """Sizes that are none, and chunks without an end."""
        for data in (
            b"\r\n",
            b"x\r\n",
            b"-1\r\n",
            b"0x1\r\n",
            b"+1\r\n",
            b"1_0\r\n",
            b"1;\x01\r\n",
        ):
            self.refuse(read, data, "begins with its size")
        self.refuse(read, b"F" * 200 + b"\r\n", "begins with its size")
        self.refuse(read, b"1\r\nxyz", "ends with CRLF")

    def test_limits(self) -> None:
        """Bytes, chunks, lines and trailers are bounded, before they are there."""
        self.refuse(read, b"3e9\r\n", "1000 bytes", TooLong)
        self.refuse(read, b"FFFFFFFF\r\n", "1000 bytes", TooLong)
        self.refuse(read, b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n", "1000 bytes", TooLong)
        self.read(read, b"1\r\nx\r\n" * MAX_CHUNKS + b"0\r\n\r\n")
        self.refuse(read, b"1\r\nx\r\n" * MAX_CHUNKS + b"1\r\n", "chunks", TooLong)
        self.refuse(read, b"1;" + b"x" * MAX_CHUNK_LINE, "line of a chunk", TooLong)
        self.refuse(read, b"0\r\n" + b"a: b\r\n" * MAX_TRAILERS, "trailers", TooLong)

    @settings(max_examples=50, deadline=None)
    @given(st.binary(max_size=60), st.binary(max_size=30))
    def test_anything(self, body: bytes, noise: bytes) -> None:
        """Any bytes get an answer, whole or in parts."""
        self.survive(read, noise)
        self.survive(read, b"%x\r\n%s\r\n" % (len(body), body) + noise)
