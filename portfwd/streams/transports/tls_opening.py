# -*- test-case-name: tests.streams.transports.test_tls_opening -*-
"""
Makes the streams of a rule that terminates TLS, and TLS over Twisted's own connections.

If the first filter of the rule reads PROXY headers, a header may precede TLS. It is parsed here, so the
announced client is judged before the handshake. The filter parses it again, as the first bytes of the stream.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

from portfwd.kernel.polling import Polling
from portfwd.rules.model import Options
from portfwd.streams.datagrams.carrier import UpstreamCarrier
from portfwd.streams.datagrams.datagram_opening import DatagramStreams, Targets
from portfwd.streams.datagrams.datagram_stream import DatagramStream
from portfwd.streams.opening import StreamMaker
from portfwd.streams.stream import Stream
from portfwd.streams.transports.tls import TLSLayer
from portfwd.streams.transports.tls_side import Before, TLSSide
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import Address
from portfwd.wire.proxy import read_header
from portfwd.wire.reading import complete

#: Whether a client must send a PROXY header before TLS.
ExpectsHeader = Callable[[Address | None], bool]


def read_before(data: bytes) -> Before | None:
    """
    Parse the PROXY header at the front of `data`. None if it is incomplete.

    :raises WireError: there is none.
    """
    answer = complete(read_header(data))
    if answer is None:
        return None
    header = answer.value
    # As in the filter: a header for datagrams does not apply to a connection.
    if header.datagram:
        return Before(answer.used)
    return Before(answer.used, header.source, header.destination)


class TLSStreams:
    """Makes the streams of one rule: with TLS for clients, plain for upstreams."""

    def __init__(
        self,
        streams: StreamMaker,
        side: TLSSide,
        expects_header: ExpectsHeader | None = None,
        datagrams: DatagramStreams | None = None,
    ) -> None:
        """
        Make streams for a rule.

        :param expects_header: None if no PROXY headers are read.
        :param datagrams: makes the streams of datagram upstreams; None for none.
        """
        self._streams = streams
        self._datagrams = datagrams
        self.side = side
        self.expects_header = expects_header

    @property
    def poller(self) -> Polling | None:
        """See `StreamMaker`."""
        return self._streams.poller

    def accepted(
        self, sock: socket.socket, address: Address | None, options: Options, local: Address | None = None
    ) -> TransportStream:
        """Make the stream of a client. It is opened after its handshake; see `StreamMaker.accepted`."""
        preamble = None
        if self.expects_header is not None and self.expects_header(address):
            preamble = read_before
        return self._streams.tls_server(sock, address, options, self.side, preamble)

    def plain(
        self, sock: socket.socket, address: Address | None, buffer: int, *, seen: int | None = None
    ) -> Stream:
        """Make the stream of an upstream."""
        if self._datagrams is not None:
            return self._datagrams.plain(sock, address, buffer, seen=seen)
        return self._streams.plain(sock, address, buffer, seen=seen)

    @property
    def targets(self) -> Targets | None:
        """The watcher of datagram upstreams; None for none."""
        return None if self._datagrams is None else self._datagrams.targets

    def reached(self, carrier: UpstreamCarrier) -> DatagramStream | TransportStream:
        """Make the stream of a datagram upstream over a port of Twisted."""
        assert self._datagrams is not None
        return self._datagrams.reached(carrier)


class _Wrapped(Factory):
    """Puts TLS between a connection and the stream."""

    noisy = False

    def __init__(self, side: TLSSide, wrapped: IProtocolFactory, first: Callable[[], bytes]) -> None:
        self._side = side
        self._wrapped = wrapped
        self._first = first

    def buildProtocol(self, addr: IAddress | None) -> TLSLayer | None:
        """The layer; None if the stream is not needed any more."""
        stream = self._wrapped.buildProtocol(addr)  # type: ignore[arg-type]
        if not isinstance(stream, TransportStream):
            return None
        return TLSLayer(self._side, stream, first=self._first())


@implementer(IStreamClientEndpoint)
class TLSEndpoint:
    """
    A client endpoint of Twisted with portfwd's TLS, for platforms without sockets of portfwd.

    It succeeds before the handshake. If the handshake fails, the stream is lost later.
    """

    def __init__(
        self, endpoint: IStreamClientEndpoint, side: TLSSide, first: Callable[[], bytes] = bytes
    ) -> None:
        """:param first: returns bytes to send before the handshake."""
        self._endpoint = endpoint
        self._side = side
        self._first = first

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See `IStreamClientEndpoint`."""
        return self._endpoint.connect(_Wrapped(self._side, protocolFactory, self._first))
