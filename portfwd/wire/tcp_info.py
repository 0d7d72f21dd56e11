# -*- test-case-name: tests.wire.test_tcp_info -*-
"""
Parse ``struct tcp_info`` (linux/tcp.h), which ``getsockopt(TCP_INFO)`` returns for a TCP connection.

Newer kernels append fields to the structure; fields that a kernel does not have are None. Only the fields
that show which side is slow, and why, are parsed.
"""

from __future__ import annotations

import struct
from operator import itemgetter
from typing import Final, NamedTuple

#: Bytes of the structure that are parsed.
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
    The state of one connection. A field is None if the kernel does not have it or has no sample yet.

    :ivar rtt_us: smoothed round-trip time, microseconds (RFC 6298 section 2).
    :ivar rttvar_us: mean deviation of the round-trip time, microseconds.
    :ivar min_rtt_us: shortest round-trip time of the last minutes, microseconds.
    :ivar rto_us: retransmission timeout, microseconds.
    :ivar retransmits: segments retransmitted since the connection began.
    :ivar lost: segments that are considered lost now.
    :ivar unacked: segments that are sent and not acknowledged now.
    :ivar cwnd: congestion window, segments.
    :ivar mss: maximum segment size, bytes.
    :ivar unsent: bytes in the send buffer that were not sent yet.
    :ivar delivery_rate: recent rate of acknowledged bytes, bytes per second.
    :ivar busy_us: time in which there were bytes to send, microseconds.
    :ivar rwnd_limited_us: part of `busy_us` in which the peer's window was full: its program reads slowly.
    :ivar sndbuf_limited_us: part of `busy_us` in which our send buffer was full.
    :ivar bytes_retransmitted: retransmitted payload, bytes.
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


#: For each field of `TCPInfo`: its index among the values of the structure, and the offset of its end.
_FIELDS: Final = (
    (23, 72), (24, 76), (39, 152), (8, 12), (31, 104), (14, 36), (12, 28), (26, 84), (10, 20), (38, 148),
    (42, 168), (43, 176), (44, 184), (45, 192), (49, 216),
)  # fmt: skip
_pick: Final = itemgetter(*(index for index, _ in _FIELDS))


def parse_tcp_info(data: bytes) -> TCPInfo | None:
    """Parse the structure; None if `data` is empty: not TCP, not Linux, or the connection is closed."""
    if not data:
        return None
    size = len(data)
    values = _pick(_STRUCT.unpack(data[:TCP_INFO_SIZE].ljust(TCP_INFO_SIZE, b"\0")))
    if size < TCP_INFO_SIZE:
        values = [value if end <= size else None for value, (_, end) in zip(values, _FIELDS, strict=True)]
    info = TCPInfo(*values)
    return info._replace(min_rtt_us=None) if info.min_rtt_us == _NO_SAMPLE else info


def retransmits_of(data: bytes) -> int:
    """Parse only `TCPInfo.retransmits`, which each session with ``tcp-info=on`` needs; 0 if it is missing."""
    if len(data) < _RETRANSMITS_AT + _RETRANSMITS.size:
        return 0
    retransmits: int = _RETRANSMITS.unpack_from(data, _RETRANSMITS_AT)[0]
    return retransmits
