# -*- test-case-name: tests.streams.transports.test_transport_queue -*-
"""
How many bytes a transport has for its peer that the peer's kernel has not acknowledged.

Our own transports say so themselves. Of Twisted's there is the buffer of the descriptor, the buffer of its
TLS and the socket's send queue; other transports cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portfwd.kernel.sockets import unsent_bytes
from portfwd.streams.transports.transport_kinds import socket_of, wrapped_by


def undelivered_bytes(transport: Any) -> int | None:
    """Bytes that `transport`, with what is below it, still has for its peer; None: it cannot tell."""
    kept = 0
    # Wrappers first: they hand on every attribute that they lack.
    while (below := wrapped_by(transport)) is not None:
        # What could not be encrypted while the peer asks for new keys. Twisted has no public name for it.
        kept += sum(map(len, vars(transport).get("_appSendBuffer", ())))
        transport = below
    told: Callable[[], int | None] | None = getattr(transport, "undelivered", None)
    if told is not None:
        queued = told()
        return None if queued is None else queued + kept
    return _of_descriptor(transport, kept)


def _of_descriptor(transport: Any, kept: int) -> int | None:
    handle = socket_of(transport)
    if handle is None or not hasattr(transport, "dataBuffer"):
        return None
    queued = unsent_bytes(handle)
    if queued is None:
        return None
    # A write is kept in one place and joined to the other when it is sent; of the former only the length
    # has a name.
    joined = int(len(transport.dataBuffer) - transport.offset)
    return kept + queued + joined + int(getattr(transport, "_tempDataLen", 0))
