# -*- test-case-name: tests.relay.test_secured -*-
"""Puts TLS below a stream that was plain so far."""

from __future__ import annotations

from portfwd.streams.transports.tls import TLSLayer
from portfwd.streams.transports.tls_side import TLSSide
from portfwd.streams.transports.transport import TransportStream


def start_tls(stream: TransportStream, side: TLSSide, rest: bytes) -> None:
    """
    Put TLS below `stream` after the bytes written to it. ``opened`` or ``lost`` of its owner is called.

    :param rest: bytes that were read and belong to TLS. Bytes that the stream has not passed on belong to it
        too.
    :raises ValueError: the transport does not support a layer above it.
    """
    plain, unread = stream.put_handshake_below()
    layer = TLSLayer(side, stream)
    plain.put_above(layer)
    layer.begin_late(plain, rest + unread)
