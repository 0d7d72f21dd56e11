# -*- test-case-name: tests.streams.transports.test_below -*-
"""What a stream over a Twisted transport asks of the transport, its buffers and the socket below it."""

from __future__ import annotations

from twisted.internet.interfaces import ITransport

from portfwd.kernel import sockets
from portfwd.streams.transports.plain import PlainTransport
from portfwd.streams.transports.transport_kinds import socket_of
from portfwd.streams.transports.transport_queue import undelivered_bytes


class AskedBelow:
    """
    The part of a stream that asks.

    Only our own transport can be asked a last time before it closes its socket. Of others there is what was
    told when somebody asked last, or when the stream was closed from our side.
    """

    transport: ITransport | None
    _bottom: ITransport | None
    _plain: PlainTransport | None
    lost: bool
    _keeps_tcp_info = False
    _last_tcp_info = b""

    @property
    def hung_up(self) -> bool:
        """Whether the kernel told of an end or a death that may not have been read yet; False: not known."""
        return bool(getattr(self.transport, "hung_up", False))

    def undelivered(self) -> int | None:
        """Bytes that were written and not acknowledged; None where the transport cannot tell."""
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
