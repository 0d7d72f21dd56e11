"""Tests of `portfwd.wire.crc32c`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.wire.crc32c import crc32c


class Crc32cTests(SynchronousTestCase):
    """The checksum against published values, and against a bit by bit division."""

    def test_published(self) -> None:
        """RFC 3720 appendix B.4 has these, and every catalogue of checksums the first."""
        for data, checksum in (
            (b"123456789", 0xE3069283),
            (b"", 0),
            (bytes(32), 0x8A9136AA),
            (b"\xff" * 32, 0x62A8AB43),
            (bytes(range(32)), 0x46DD794E),
            (bytes(range(31, -1, -1)), 0x113FDB5C),
        ):
            self.assertEqual(crc32c(data), checksum, data)

    @given(st.binary(max_size=60))
    @settings(max_examples=50, deadline=None)
    def test_division(self, data: bytes) -> None:
        """The table says the same as dividing by the polynomial, a bit at a time."""
        checksum = 0xFFFFFFFF
        for byte in data:
            for bit in range(8):
                low = (checksum ^ byte >> bit) & 1
                checksum = checksum >> 1 ^ (0x82F63B78 if low else 0)
        self.assertEqual(crc32c(data), checksum ^ 0xFFFFFFFF)
