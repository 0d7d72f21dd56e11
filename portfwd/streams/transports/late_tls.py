# -*- test-case-name: tests.relay.test_secured -*-
"""TLS below a stream that was plain so far."""

from __future__ import annotations

from portfwd.streams.transports.tls import TLSLayer
from portfwd.streams.transports.tls_side import TLSSide
from portfwd.streams.transports.transport import TransportStream


def start_tls(stream: TransportStream, side: TLSSide, rest: bytes) -> None:
    """
    Put TLS below `stream`, behind what was written to it; its owner hears of ``opened``, or of ``lost``.

    :param rest: bytes that were read and belong to TLS; what the stream has read and not passed on does, too.
    :raises ValueError: the transport lets nothing be put above it.
    """
    plain, unread = stream.put_handshake_below()
    layer = TLSLayer(side, stream)
    plain.put_above(layer)
    layer.begin_late(plain, rest + unread)
