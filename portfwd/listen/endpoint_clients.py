# -*- test-case-name: tests.listen.test_endpoint_clients -*-
"""
Clients that Twisted's endpoints accept.

For ``endpoint:"…"`` and for platforms where sockets cannot be our own.
Accepting, and what happens when descriptors run out, is Twisted's here.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from portfwd.kernel.failures import log_failure
from portfwd.streams.stream import Loss, Stream
from portfwd.streams.transports.transport import TransportStream
from portfwd.upstreams.connect import from_twisted_address
from portfwd.values import Address


class _Arrival:
    """Owns a stream until it can be used."""

    _log = Logger()

    def __init__(self, accept: Callable[[TransportStream], None]) -> None:
        self._accept = accept

    def began(self, stream: Stream) -> None:
        """Twisted's TLS does not tell."""

    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """Twisted's TLS reads no headers."""

    def opened(self, stream: Stream) -> None:
        """Hand it over."""
        if isinstance(stream, TransportStream):
            transport = stream.transport
            stream.local = from_twisted_address(transport.getHost()) if transport is not None else None
            try:
                self._accept(stream)
            except BaseException:
                log_failure(self._log, "taking {address} in failed", address=stream.address)
                stream.abort()

    def ended(self, stream: Stream) -> None:
        """Not before it is owned by a session."""

    def end_sent(self, stream: Stream) -> None:
        """Nothing was sent."""

    def writing_failed(self, stream: Stream, detail: str) -> None:
        """Nothing was written."""

    def thrown_away(self, stream: Stream, count: int) -> None:
        """Nothing is thrown away yet."""

    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """It never became a session's."""


class StreamFactory(Factory):
    """Makes a stream of each connection and gives it to `accept`."""

    noisy = False

    def __init__(
        self, make: Callable[[], TransportStream], accept: Callable[[TransportStream], None]
    ) -> None:
        """:param make: makes a stream that is not connected yet."""
        self._make = make
        self._arrival = _Arrival(accept)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """One stream for one client."""
        stream = self._make()
        stream.address = from_twisted_address(addr)
        stream.own(self._arrival)
        return stream
