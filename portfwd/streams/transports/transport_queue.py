# -*- test-case-name: tests.streams.transports.test_transport_queue -*-
"""
Counts the bytes of a transport that the peer's kernel has not acknowledged.

portfwd's transports report the number themselves. For Twisted's transports it is the sum of the buffer of the
descriptor, the buffer of its TLS, and the send queue of the socket. Other transports cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portfwd.kernel.sockets import unsent_bytes
from portfwd.streams.transports.transport_kinds import socket_of, wrapped_by


def undelivered_bytes(transport: Any) -> int | None:
    """Number of undelivered bytes of `transport` and the layers below it; None if unknown."""
    kept = 0
    # Wrappers first, because they forward missing attributes.
    while (below := wrapped_by(transport)) is not None:
        # Bytes that could not be encrypted during a renegotiation. Twisted has no public name for them.
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
    # Twisted keeps new writes in a list and joins them later. Only the length of the list's bytes has a name.
    joined = int(len(transport.dataBuffer) - transport.offset)
    return kept + queued + joined + int(getattr(transport, "_tempDataLen", 0))
