# -*- test-case-name: tests.streams.sockets.test_tapped -*-
"""
A socket whose bytes are shown to an operator while they are relayed.

It replaces the socket of a stream during a tap and shows all bytes that are read. Streams without a tap have
no cost. Spliced bytes are not read, so the flow from a tapped socket copies meanwhile.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from portfwd.kernel.pipes import PipePool

#: Called with the bytes that were read. It must neither keep the buffer nor raise.
Saw = Callable[[bytes], None]


class TappedSocket:
    """
    A connected socket with a tap.

    :ivar inner: the socket itself.
    :ivar pool: the pool of pipes for the flow after the tap.
    """

    __slots__ = ("_saw", "inner", "pool")

    def __init__(self, inner: socket.socket, saw: Saw) -> None:
        """:param saw: called with a copy of every read."""
        self.inner = inner
        self._saw = saw
        self.pool: PipePool | None = None

    def __repr__(self) -> str:
        return f"<TappedSocket {self.inner!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As the socket. Show the bytes, unless they were only peeked."""
        data = self.inner.recv(size, flags)
        if data and not flags & socket.MSG_PEEK:
            self._saw(data)
        return data

    def recv_into(self, buffer: memoryview) -> int:
        """As the socket. Show a copy."""
        count = self.inner.recv_into(buffer)
        if count:
            self._saw(bytes(buffer[:count]))
        return count
