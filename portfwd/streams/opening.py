# -*- test-case-name: tests.streams.test_opening -*-
"""
Makes streams of connected sockets.

This is the only module that combines socket, transport, TLS and protocol.
"""

from __future__ import annotations

import socket
from typing import Final

from portfwd.kernel.polling import Polling
from portfwd.kernel.reactor import Reactor
from portfwd.kernel.socket_addresses import local_address
from portfwd.kernel.socket_options import apply_settings, client_settings
from portfwd.rules.model import Options
from portfwd.streams.rate_limiters import RateLimiters
from portfwd.streams.sockets.bulk_reads import BulkReads
from portfwd.streams.stream import StreamOwner
from portfwd.streams.transports.plain import PlainTransport
from portfwd.streams.transports.tls import RECORD, RECORD_OVERHEAD, TLSLayer
from portfwd.streams.transports.tls_side import Preamble, TLSSide
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import Address

#: The defaults of a rule.
DEFAULTS: Final = Options()


def read_size(buffer: int) -> int:
    """Bytes of a read that has, in bulk, complete records with `buffer` bytes of data."""
    return buffer + -(-buffer // RECORD) * RECORD_OVERHEAD


class StreamMaker:
    """
    Makes streams over sockets of portfwd, and for endpoints, on one reactor and one poller.

    :ivar poller: the poller for attempts; None for the reactor, as for these streams.
    :ivar limiters: the rate limiters of its rule, if the bandwidth is limited.
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

        :param limiters: the rate limiters of its rule, if the bandwidth is limited.
        :param bulk: the larger reads of sockets; None for none.
        """
        self._reactor = reactor
        self._poller = poller
        self.limiters = limiters
        self.bulk = bulk
        # Complete records, as for usual reads. Computed once for all connections.
        self._tls_bulk = None if bulk is None else bulk.with_size(read_size(bulk.size))

    def with_limiters(self, limiters: RateLimiters) -> StreamMaker:
        """A maker for a rule with limited bandwidth, whose reads are at most a slice."""
        return StreamMaker(self._reactor, self._poller, limiters)

    def with_bulk_reads(self, size: int) -> StreamMaker:
        """A maker for a rule with larger reads of `size` bytes; 0 for none."""
        if self.bulk is None or self.bulk.size == size:
            return self
        bulk = self.bulk.with_size(size) if size else None
        return StreamMaker(self._reactor, self._poller, self.limiters, bulk)

    def bare(self, buffer: int, *, handshake: bool = False) -> TransportStream:
        """
        Make a stream for a future connection.

        :param buffer: most bytes of a read.
        :param handshake: whether it is opened only after a TLS handshake.
        """
        return TransportStream(self._reactor, buffer, self.limiters, handshake=handshake)

    def accepted(
        self, sock: socket.socket, address: Address | None, options: Options, local: Address | None = None
    ) -> TransportStream:
        """
        Make a stream of a client's socket with the settings of `options`.

        :param local: ignored; the local address is read from the socket.
        :raises OSError: the client is gone already, or the kernel refused; the socket is closed.
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
        Make a stream of `sock`, which it owns from now on. Nothing is read before `start`.

        :param seen: the events so far, if the poller watches `sock` already.
        :raises OSError: the kernel refused to watch the socket; it is closed.
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
        Make a stream with TLS over `sock`. `owner.opened` is called after the handshake, or `owner.lost`.

        :param linger: seconds that a connection ended by TLS may wait for a peer that accepts no more bytes.
        :param first: bytes to send before the handshake.
        :raises OSError: see `plain`.
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
        Make a stream with TLS of a client's socket. Its owner is called as for `tls_client`.

        :param preamble: see `TLSLayer`.
        :raises OSError: see `accepted`.
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
