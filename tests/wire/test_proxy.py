"""Tests of `portfwd.wire.proxy`: which version it is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from portfwd.wire import Need
from portfwd.wire.proxy import read_header
from portfwd.wire.proxy_header import Header
from portfwd.wire.proxy_v1 import build_v1
from portfwd.wire.proxy_v2 import build_v2
from tests.wire import proxy_values
from tests.wire.conversations import ReaderTestCase


class VersionTests(ReaderTestCase):
    """The first byte decides."""

    @given(proxy_values.headers)
    @settings(max_examples=50, deadline=None)
    def test_both(self, header: Header) -> None:
        """Headers of both versions are read."""
        self.assertEqual(self.read(read_header, build_v2(header)), header)
        self.read(read_header, build_v1(header.source, header.destination))

    def test_nothing(self) -> None:
        """Nothing yet is waited for."""
        self.assertEqual(read_header(b""), Need(1))

    def test_neither(self) -> None:
        """What begins with neither is refused at its first byte: nobody guesses that there is none."""
        for first in range(256):
            if first not in b"P\r":
                self.refuse(read_header, bytes([first]), "does not begin")
        self.refuse(read_header, b"POST / HTTP/1.1\r\n", "does not begin")
        self.refuse(read_header, b"\r\nGET / HTTP/1.1\r\n", "does not begin")

    @given(st.binary(max_size=120))
    @settings(max_examples=50, deadline=None)
    def test_survives(self, data: bytes) -> None:
        """Any bytes are read, refused or waited for."""
        self.survive(read_header, data)
