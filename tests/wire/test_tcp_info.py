"""``struct tcp_info``: what kernels of different ages give."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.wire.tcp_info import TCP_INFO_SIZE, TCPInfo, parse_tcp_info, retransmits_of

#: Offsets of linux/tcp.h, written down by hand: 32-bit fields, then 64-bit ones.
WORDS = {
    8: 204_000, 16: 1448, 24: 3, 32: 2, 68: 1500, 72: 750, 80: 10, 100: 7, 144: 4096, 148: 900,
}  # fmt: skip
LONGS = {160: 1_250_000, 168: 5_000_000, 176: 4_000_000, 184: 10, 208: 10_136}
WHOLE = TCPInfo(
    rtt_us=1500,
    rttvar_us=750,
    min_rtt_us=900,
    rto_us=204_000,
    retransmits=7,
    lost=2,
    unacked=3,
    cwnd=10,
    mss=1448,
    unsent=4096,
    delivery_rate=1_250_000,
    busy_us=5_000_000,
    rwnd_limited_us=4_000_000,
    sndbuf_limited_us=10,
    bytes_retransmitted=10_136,
)


def structure(size: int = 280) -> bytes:
    """One of `size` bytes; fields that nobody reads are full of ones."""
    data = bytearray(b"\xff" * max(size, TCP_INFO_SIZE))
    for offset, value in WORDS.items():
        struct.pack_into("=I", data, offset, value)
    for offset, value in LONGS.items():
        struct.pack_into("=Q", data, offset, value)
    return bytes(data[:size])


class ParseTests(SynchronousTestCase):
    """Bytes to figures."""

    def test_whole(self) -> None:
        """Every figure is where linux/tcp.h has it; what newer kernels have behind is ignored."""
        for size in (TCP_INFO_SIZE, 248, 280):
            self.assertEqual(parse_tcp_info(structure(size)), WHOLE)

    def test_old_kernels(self) -> None:
        """Linux 2.6 ends after the retransmits, 4.2 before the rates: what they lack is None."""
        oldest = parse_tcp_info(structure(104))
        assert oldest is not None
        self.assertEqual((oldest.rtt_us, oldest.retransmits, oldest.cwnd), (1500, 7, 10))
        self.assertEqual((oldest.min_rtt_us, oldest.delivery_rate, oldest.busy_us), (None, None, None))
        older = parse_tcp_info(structure(192))
        self.assertEqual(older, WHOLE._replace(bytes_retransmitted=None))
        self.assertEqual([retransmits_of(structure(size)) for size in (103, 104, 280)], [0, 7, 7])

    def test_nothing(self) -> None:
        """What is no TCP connection has no figures; no retransmits are known of it either."""
        self.assertIsNone(parse_tcp_info(b""))
        self.assertEqual((retransmits_of(b""), retransmits_of(structure(103))), (0, 0))

    def test_no_sample(self) -> None:
        """A shortest round trip that was never measured is None, not an hour."""
        data = bytearray(structure())
        struct.pack_into("=I", data, 148, 0xFFFFFFFF)
        self.assertEqual(parse_tcp_info(bytes(data)), WHOLE._replace(min_rtt_us=None))

    @given(st.binary(min_size=1, max_size=300))
    def test_any_length(self, data: bytes) -> None:
        """Whatever the length: a figure is there exactly if the kernel gave its last byte."""
        info = parse_tcp_info(data)
        assert info is not None
        self.assertEqual(info.rtt_us is None, len(data) < 72)
        self.assertEqual(info.bytes_retransmitted is None, len(data) < TCP_INFO_SIZE)
        self.assertEqual(retransmits_of(data), info.retransmits or 0)
