# -*- test-case-name: tests.streams.sockets.test_tapped -*-
"""
A socket of ours whose bytes somebody looks at while they are relayed.

It stands in the place of a stream's own socket for as long as it is tapped: what is read
through it is shown as well. Streams that nobody taps know nothing of it, so they pay
nothing for it. Bytes that are spliced are never read, so the flow from a tapped
socket copies for that time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from portfwd.kernel.pipes import PipePool

#: Is shown what was read; it must neither keep the buffer nor raise.
Saw = Callable[[bytes], None]


class TappedSocket:
    """
    A connected socket and who looks at what is read from it.

    :ivar inner: the socket itself.
    :ivar pool: where the flow from it borrows pipes when nobody looks any more.
    """

    __slots__ = ("_saw", "inner", "pool")

    def __init__(self, inner: socket.socket, saw: Saw) -> None:
        """:param saw: gets a copy of every read."""
        self.inner = inner
        self._saw = saw
        self.pool: PipePool | None = None

    def __repr__(self) -> str:
        return f"<TappedSocket {self.inner!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As the socket, and show it, unless it stays to be read."""
        data = self.inner.recv(size, flags)
        if data and not flags & socket.MSG_PEEK:
            self._saw(data)
        return data

    def recv_into(self, buffer: memoryview) -> int:
        """As the socket, and show a copy."""
        count = self.inner.recv_into(buffer)
        if count:
            self._saw(bytes(buffer[:count]))
        return count
