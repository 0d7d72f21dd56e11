# -*- test-case-name: tests.streams.transports.test_below -*-
"""The queries of a stream to its Twisted transport, the buffers and the socket below it."""

from __future__ import annotations

from twisted.internet.interfaces import ITransport

from portfwd.kernel import sockets
from portfwd.streams.transports.plain import PlainTransport
from portfwd.streams.transports.transport_kinds import socket_of
from portfwd.streams.transports.transport_queue import undelivered_bytes


class AskedBelow:
    """
    The part of a stream with these queries.

    Only portfwd's transport can be queried a last time before it closes its socket. For others, the last
    known values are used.
    """

    transport: ITransport | None
    _bottom: ITransport | None
    _plain: PlainTransport | None
    lost: bool
    _keeps_tcp_info = False
    _last_tcp_info = b""

    @property
    def hung_up(self) -> bool:
        """Whether the kernel has reported an end or a broken connection; False if unknown."""
        return bool(getattr(self.transport, "hung_up", False))

    def undelivered(self) -> int | None:
        """Number of written bytes that were not acknowledged; None if unknown."""
        return 0 if self.lost else undelivered_bytes(self.transport)

    def keep_tcp_info(self) -> None:
        """See `portfwd.streams.stream.Stream`."""
        self._keeps_tcp_info = True
        if self._plain is not None:
            self._plain.keeps_tcp_info = True
        else:
            self.tcp_info()

    def tcp_info(self) -> bytes:
        """See `portfwd.streams.stream.Stream`."""
        if self._plain is not None:
            return self._plain.tcp_info()
        handle = socket_of(self._bottom)
        if handle is not None:
            self._last_tcp_info = sockets.tcp_info(handle) or self._last_tcp_info
        return self._last_tcp_info

    def _will_close(self) -> None:
        if self._keeps_tcp_info:
            self.tcp_info()
