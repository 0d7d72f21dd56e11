# -*- test-case-name: tests.streams.test_opening -*-
"""
Connected sockets become streams.

This is the one place that puts socket, transport, TLS and protocol together.
"""

from __future__ import annotations

import socket
from typing import Final

from portfwd.kernel.polling import Polling
from portfwd.kernel.reactor import Reactor
from portfwd.kernel.sockets import apply_settings, client_settings, local_address
from portfwd.rules.model import Options
from portfwd.streams.rate_limiters import RateLimiters
from portfwd.streams.sockets.bulk_reads import BulkReads
from portfwd.streams.stream import StreamOwner
from portfwd.streams.transports.plain import PlainTransport
from portfwd.streams.transports.tls import RECORD, RECORD_OVERHEAD, TLSLayer
from portfwd.streams.transports.tls_side import Preamble, TLSSide
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import Address

#: What a rule has that says nothing else.
DEFAULTS: Final = Options()


def read_size(buffer: int) -> int:
    """What to read at once so that, in bulk, it is whole records with `buffer` bytes in them."""
    return buffer + -(-buffer // RECORD) * RECORD_OVERHEAD


class StreamMaker:
    """
    Makes streams over sockets of ours, and for endpoints, all on one reactor and one poller.

    :ivar poller: None: attempts wait by the reactor, as these streams do.
    :ivar limiters: of the one rule that it makes streams for, if its bandwidth is limited.
    """

    poller: Polling | None = None

    def __init__(
        self,
        reactor: Reactor,
        poller: Polling | None,
        limiters: RateLimiters | None = None,
        bulk: BulkReads | None = None,
    ) -> None:
        """
        Make streams.

        :param limiters: those of the one rule that it makes streams for, if its bandwidth is limited.
        :param bulk: the larger reads of sockets; None: there are none.
        """
        self._reactor = reactor
        self._poller = poller
        self.limiters = limiters
        self.bulk = bulk
        # Whole records, as the usual reads; once for all connections.
        self._tls_bulk = None if bulk is None else bulk.with_size(read_size(bulk.size))

    def with_limiters(self, limiters: RateLimiters) -> StreamMaker:
        """One for a rule whose bandwidth is limited: what it may read at once is a slice."""
        return StreamMaker(self._reactor, self._poller, limiters)

    def with_bulk_reads(self, size: int) -> StreamMaker:
        """One for a rule whose larger reads are of `size` bytes; 0: it has none."""
        if self.bulk is None or self.bulk.size == size:
            return self
        bulk = self.bulk.with_size(size) if size else None
        return StreamMaker(self._reactor, self._poller, self.limiters, bulk)

    def bare(self, buffer: int, *, handshake: bool = False) -> TransportStream:
        """
        A stream for a connection that is still to come.

        :param buffer: most bytes of a read.
        :param handshake: opened only when a TLS handshake is through.
        """
        return TransportStream(self._reactor, buffer, self.limiters, handshake=handshake)

    def accepted(
        self, sock: socket.socket, address: Address | None, options: Options, local: Address | None = None
    ) -> TransportStream:
        """
        A stream over a client's socket, set up as `options` say.

        :param local: our own address, if it is known; it is looked up all the same.
        :raises OSError: the client is gone already, or the kernel refuses; the socket is closed then.
        """
        try:
            apply_settings(sock, client_settings(options))
        except OSError:
            sock.close()
            raise
        return self.plain(sock, address, options.buffer)

    def plain(
        self, sock: socket.socket, address: Address | None, buffer: int, *, seen: int | None = None
    ) -> TransportStream:
        """
        A stream over `sock`, which it owns from here on; nothing is read before `start`.

        :param seen: not None: the poller has been told of `sock` already; from here on it tells this stream.
        :raises OSError: the kernel refuses to watch the socket; it is closed then.
        """
        stream = self.bare(buffer)
        stream.address = address
        stream.local = local_address(sock)
        try:
            transport = PlainTransport(
                sock, stream, self._reactor, stream.buffer, self._poller, bulk=self.bulk
            )
        except OSError:
            sock.close()
            raise
        stream.makeConnection(transport)
        return stream

    def tls_client(
        self,
        sock: socket.socket,
        address: Address | None,
        buffer: int,
        side: TLSSide,
        owner: StreamOwner,
        linger: float = DEFAULTS.linger,
        first: bytes = b"",
    ) -> TransportStream:
        """
        A stream over TLS over `sock`; `owner` hears of ``opened`` after the handshake, or of ``lost``.

        :param linger: seconds for which a connection that TLS has ended may wait for a peer
            that takes no more bytes.
        :param first: sent before the handshake.
        :raises OSError: as `plain`.
        """
        return self._tls(sock, address, buffer, side, linger, owner, first=first)

    def tls_server(
        self,
        sock: socket.socket,
        address: Address | None,
        options: Options,
        side: TLSSide,
        preamble: Preamble | None = None,
    ) -> TransportStream:
        """
        A stream over a client's socket that is to begin with TLS; whoever owns it hears as of `tls_client`.

        :param preamble: see `TLSLayer`.
        :raises OSError: as `accepted`.
        """
        try:
            apply_settings(sock, client_settings(options))
        except OSError:
            sock.close()
            raise
        return self._tls(sock, address, options.buffer, side, options.linger, preamble=preamble)

    def _tls(
        self,
        sock: socket.socket,
        address: Address | None,
        buffer: int,
        side: TLSSide,
        linger: float,
        owner: StreamOwner | None = None,
        preamble: Preamble | None = None,
        first: bytes = b"",
    ) -> TransportStream:
        stream = self.bare(buffer, handshake=True)
        stream.address = address
        stream.local = local_address(sock)
        if owner is not None:
            stream.own(owner)
        layer = TLSLayer(side, stream, preamble, first)
        try:
            transport = PlainTransport(
                sock,
                layer,
                self._reactor,
                read_size(stream.buffer),
                self._poller,
                linger=linger,
                bulk=self._tls_bulk,
            )
        except OSError:
            sock.close()
            raise
        transport.startReading()
        layer.makeConnection(transport)
        return stream
