# -*- test-case-name: tests.listen.test_endpoint_clients -*-
"""
Clients that are accepted by Twisted's endpoints.

For ``endpoint:"…"`` and for platforms without sockets of portfwd. Twisted accepts, and handles missing
descriptors.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from portfwd.kernel.failures import log_failure
from portfwd.kernel.socket_addresses import from_twisted_address
from portfwd.streams.stream import Loss, Stream
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import Address


class _Arrival:
    """Owns a stream until its connection is made."""

    _log = Logger()

    def __init__(self, accept: Callable[[TransportStream], None]) -> None:
        self._accept = accept

    def began(self, stream: Stream) -> None:
        """Do nothing: Twisted's TLS does not report handshakes."""

    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """Do nothing: Twisted's TLS reads no headers."""

    def opened(self, stream: Stream) -> None:
        """Pass the stream on."""
        if isinstance(stream, TransportStream):
            transport = stream.transport
            stream.local = from_twisted_address(transport.getHost()) if transport is not None else None
            try:
                self._accept(stream)
            except BaseException:
                log_failure(self._log, "taking {address} in failed", address=stream.address)
                stream.abort()

    def ended(self, stream: Stream) -> None:
        """Do nothing: nothing is read before a session owns the stream."""

    def end_sent(self, stream: Stream) -> None:
        """Do nothing: nothing was sent."""

    def writing_failed(self, stream: Stream, detail: str) -> None:
        """Do nothing: nothing was written."""

    def thrown_away(self, stream: Stream, count: int) -> None:
        """Do nothing: nothing is discarded yet."""

    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """Do nothing: no session owns the stream."""


class StreamFactory(Factory):
    """Makes a stream for each connection and passes it to `accept`."""

    noisy = False

    def __init__(
        self, make: Callable[[], TransportStream], accept: Callable[[TransportStream], None]
    ) -> None:
        """:param make: makes an unconnected stream."""
        self._make = make
        self.arrival = _Arrival(accept)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Make the stream of one client."""
        stream = self._make()
        stream.address = from_twisted_address(addr)
        stream.own(self.arrival)
        return stream
