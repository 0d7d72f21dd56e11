# -*- test-case-name: tests.wire.test_tcp_info -*-
"""
What Linux tells of a TCP connection: ``struct tcp_info`` (linux/tcp.h), as ``getsockopt(TCP_INFO)`` gives it.

The structure has grown at its end with the kernels, so an old one gives less: what it does not have is None.
Only the figures that tell which side is slow, and why, are read.
"""

from __future__ import annotations

import struct
from operator import itemgetter
from typing import Final, NamedTuple

#: Bytes of the structure that are read here.
TCP_INFO_SIZE: Final = 216

# 8 bytes of flags, `tcpi_rto` to `tcpi_total_retrans`, four 64-bit rates and sums, `tcpi_segs_out` to
# `tcpi_data_segs_out`, `tcpi_delivery_rate` to `tcpi_sndbuf_limited`, two counts, two sums.
_STRUCT: Final = struct.Struct("=8B24I4Q6I4Q2I2Q")
_RETRANSMITS: Final = struct.Struct("=I")
_RETRANSMITS_AT: Final = 100
#: `tcpi_min_rtt` before the first sample.
_NO_SAMPLE: Final = 0xFFFFFFFF


class TCPInfo(NamedTuple):
    """
    One connection. None: this kernel does not tell, or there is no sample yet.

    :ivar rtt_us: smoothed round trip, microseconds (RFC 6298 section 2).
    :ivar rttvar_us: its mean deviation.
    :ivar min_rtt_us: the shortest round trip of the last minutes.
    :ivar rto_us: after so long without an acknowledgement the kernel sends again.
    :ivar retransmits: segments that were sent again since the connection began.
    :ivar lost: segments that are thought to be lost now.
    :ivar unacked: segments that are sent and not acknowledged now.
    :ivar cwnd: the congestion window, segments.
    :ivar mss: bytes of a segment at most.
    :ivar unsent: bytes that wait in the kernel and were never sent.
    :ivar delivery_rate: bytes a second that the peer acknowledged lately.
    :ivar busy_us: time in which there was something to send.
    :ivar rwnd_limited_us: the part of it in which the peer's window was full: its program reads slowly.
    :ivar sndbuf_limited_us: the part in which our send buffer was full.
    :ivar bytes_retransmitted: payload that was sent again.
    """

    rtt_us: int | None
    rttvar_us: int | None
    min_rtt_us: int | None
    rto_us: int | None
    retransmits: int | None
    lost: int | None
    unacked: int | None
    cwnd: int | None
    mss: int | None
    unsent: int | None
    delivery_rate: int | None
    busy_us: int | None
    rwnd_limited_us: int | None
    sndbuf_limited_us: int | None
    bytes_retransmitted: int | None


#: Where each field of `TCPInfo` is among the values of the structure, and where its last byte is.
_PLACES: Final = (
    (23, 72), (24, 76), (39, 152), (8, 12), (31, 104), (14, 36), (12, 28), (26, 84), (10, 20), (38, 148),
    (42, 168), (43, 176), (44, 184), (45, 192), (49, 216),
)  # fmt: skip
_pick: Final = itemgetter(*(index for index, _ in _PLACES))


def parse_tcp_info(data: bytes) -> TCPInfo | None:
    """Read the structure; None where there is none: no TCP, no Linux, or the connection is unknown."""
    if not data:
        return None
    size = len(data)
    values = _pick(_STRUCT.unpack(data[:TCP_INFO_SIZE].ljust(TCP_INFO_SIZE, b"\0")))
    if size < TCP_INFO_SIZE:
        values = [value if end <= size else None for value, (_, end) in zip(values, _PLACES, strict=True)]
    info = TCPInfo(*values)
    return info._replace(min_rtt_us=None) if info.min_rtt_us == _NO_SAMPLE else info


def retransmits_of(data: bytes) -> int:
    """Only `TCPInfo.retransmits`, which is looked at for every session; 0 where it is not told."""
    if len(data) < _RETRANSMITS_AT + _RETRANSMITS.size:
        return 0
    retransmits: int = _RETRANSMITS.unpack_from(data, _RETRANSMITS_AT)[0]
    return retransmits
