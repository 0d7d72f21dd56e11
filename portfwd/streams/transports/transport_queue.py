# -*- test-case-name: tests.streams.transports.test_transport_queue -*-
"""
How many bytes a transport has for its peer that the peer's kernel has not acknowledged.

Our own transports say so themselves. Of Twisted's there is the buffer of the descriptor, the buffer of its
TLS and the socket's send queue; other transports cannot tell.
"""

from __future__ import annotations

import socket
from typing import Any, Protocol, runtime_checkable

from twisted.internet.abstract import FileDescriptor
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol

from portfwd.kernel.sockets import unsent_bytes


@runtime_checkable
class TellsUndelivered(Protocol):
    """A transport that knows what it still has for its peer."""

    def undelivered(self) -> int | None:
        """See `portfwd.streams.stream.Stream.undelivered`."""


def undelivered_bytes(transport: Any) -> int | None:
    """Bytes that `transport`, with what is below it, still has for its peer; None: it cannot tell."""
    kept = 0
    # Wrappers first: they hand on every attribute that they lack.
    while isinstance(transport, ProtocolWrapper):
        if isinstance(transport, TLSMemoryBIOProtocol):
            # What could not be encrypted while the peer asks for new keys. Twisted has no public name for it.
            kept += sum(map(len, getattr(transport, "_appSendBuffer", ())))
        transport = transport.transport
    if isinstance(transport, TellsUndelivered):
        below = transport.undelivered()
        return None if below is None else below + kept
    return _of_descriptor(transport, kept)


def _of_descriptor(transport: Any, kept: int) -> int | None:
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    if not isinstance(transport, FileDescriptor) or not isinstance(handle, socket.socket):
        return None
    queued = unsent_bytes(handle)
    if queued is None:
        return None
    # A write is kept in one place and joined to the other when it is sent; of the former only the length
    # has a name.
    joined = len(transport.dataBuffer) - transport.offset
    return kept + queued + joined + int(getattr(transport, "_tempDataLen", 0))
