# -*- test-case-name: tests.streams.transports.test_transport_kinds -*-
"""
What the kinds of Twisted's transports do differently: what is below, the socket, and how an end goes out.

Each question is one dispatch on the transport's class. None of them is asked for a chunk of bytes.
"""

from __future__ import annotations

import socket
from functools import singledispatch
from typing import Any

from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol

from portfwd.streams.transports.layers import ILayer


@singledispatch
def wrapped_by(transport: Any) -> Any:
    """The transport that a wrapper of Twisted's is around; None for one that is no wrapper."""
    return None


@wrapped_by.register
def _(transport: ProtocolWrapper) -> Any:
    return transport.transport


def bottom_of(transport: Any) -> Any:
    """The transport below all wrappers and layers."""
    below: Any = transport
    while below is not None:
        transport = below
        is_layer = ILayer.providedBy(transport)
        below = getattr(transport, "below", None) if is_layer else wrapped_by(transport)
    return transport


def socket_of(transport: Any) -> socket.socket | None:
    """The socket of a transport; None if it has none, or lets nobody have it."""
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    return handle if isinstance(handle, socket.socket) else None


@singledispatch
def send_end(transport: Any) -> bool:
    """
    End writing as far as the transport can.

    :returns: whether its protocol is told by ``writeConnectionLost`` when the end is out.
    """
    alone = ILayer.providedBy(transport) or IHalfCloseableDescriptor.providedBy(transport)
    if alone:
        transport.loseWriteConnection()
    return alone


@send_end.register
def _(transport: ProtocolWrapper) -> bool:
    # It passes on no half-close.
    return False


@send_end.register
def _(transport: TLSMemoryBIOProtocol) -> bool:
    transport.loseConnection()
    return False
