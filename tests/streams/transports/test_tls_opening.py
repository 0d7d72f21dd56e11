"""Tests of streams over TLS: from sockets that were accepted, and over Twisted's endpoints."""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.trial import unittest

from portfwd.kernel import socket_options
from portfwd.rules.model import Options
from portfwd.streams.opening import StreamMaker
from portfwd.streams.transports.tls import TLSLayer
from portfwd.streams.transports.tls_opening import TLSEndpoint, TLSStreams, read_before
from portfwd.streams.transports.tls_side import Before
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import InetAddress
from portfwd.wire import WireError
from portfwd.wire.proxy_header import Header
from portfwd.wire.proxy_v2 import build_v2
from tests.streams.conformance import Owner
from tests.streams.far_ends import tcp_sockets
from tests.streams.tls_peers import Peer, Wire, client_context, exchange, server_context
from tests.streams.transports.test_plain import FakePoller, FakeReactor
from tests.streams.transports.test_tls import Side

CLIENT = InetAddress("192.0.2.1", 4711)
HEADER = b"PROXY TCP4 192.0.2.9 192.0.2.1 1 2\r\n"


class ReadBeforeTests(unittest.SynchronousTestCase):
    """`read_before`."""

    def test_measured(self) -> None:
        """The header is measured, wherever the bytes behind it begin, and names the client."""
        for end in range(1, len(HEADER)):
            self.assertIsNone(read_before(HEADER[:end]))
        who, where = InetAddress("192.0.2.9", 1), InetAddress("192.0.2.1", 2)
        self.assertEqual(read_before(HEADER + b"\x16\x03\x01"), Before(len(HEADER), who, where))
        for header in (b"PROXY UNKNOWN\r\n", build_v2(Header(who, where, datagram=True))):
            self.assertEqual(read_before(header), Before(len(header)))
        self.assertRaises(WireError, read_before, b"\x16\x03\x01 a ClientHello")


class StreamsTests(unittest.SynchronousTestCase):
    """`TLSStreams`."""

    def setUp(self) -> None:
        """Sockets, and what makes streams of them."""
        self.near, self.far = tcp_sockets()
        self.addCleanup(self.far.close)
        self.addCleanup(self.near.close)
        self.reactor = FakeReactor()
        self.maker = StreamMaker(self.reactor, FakePoller())  # type: ignore[arg-type]

    def streams(self, *expected: InetAddress) -> TLSStreams:
        """Streams of a rule that asks these clients for a PROXY header."""
        return TLSStreams(self.maker, Side(server_context()), lambda client: client in expected)

    def test_accepted(self) -> None:
        """A client's stream waits for its handshake; the session's owner hears of it."""
        stream = self.streams().accepted(self.near, CLIENT, Options())
        owner = Owner()
        opened: list[Any] = []
        owner.opened = opened.append  # type: ignore[method-assign]
        stream.own(owner)
        self.assertEqual(stream.handshaking, "the peer said nothing")
        peer = Peer(client_context(), "upstream.test")
        layer: Any = stream.transport
        wire = Wire()
        layer.transport = wire
        exchange(layer, wire, peer, peer.step(b""))
        self.assertEqual((opened, stream.handshaking), ([stream], ""))
        assert stream.tls is not None
        self.assertEqual(stream.tls.version, "TLSv1.3")

    def test_header_first(self) -> None:
        """Those who are asked for a PROXY header send it before TLS."""
        stream = self.streams(CLIENT).accepted(self.near, CLIENT, Options())
        layer: Any = stream.transport
        layer.dataReceived(b"PROXY TCP4 ")
        self.assertIn("PROXY header", stream.handshaking)

    def test_gone(self) -> None:
        """A client that is gone already leaves no socket behind."""

        class Gone(socket.socket):
            """Can be set up no more."""

            def setsockopt(self, *_: Any) -> None:  # type: ignore[override]
                raise OSError(errno.EINVAL, "gone")

        self.patch(socket_options, "CLIENTS_INHERIT", False)
        gone = Gone(fileno=self.near.detach())
        self.assertRaises(OSError, self.streams().accepted, gone, CLIENT, Options())
        self.assertEqual(gone.fileno(), -1)

    def test_plain(self) -> None:
        """Upstreams are plain, and waited for as the maker's are."""
        streams = self.streams()
        self.assertNotIsInstance(streams.plain(self.near, CLIENT, 4096).transport, TLSLayer)
        self.assertIs(streams.poller, self.maker.poller)


class _Endpoint:
    """Connects at once."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def connect(self, factory: Any) -> Deferred[Any]:
        protocol = factory.buildProtocol(None)
        if protocol is not None:
            protocol.makeConnection(self.wire)
        return succeed(protocol)


class EndpointTests(unittest.SynchronousTestCase):
    """`TLSEndpoint`."""

    def connect(self, protocol: Protocol) -> tuple[Wire, Any]:
        """Connect through it."""
        wire = Wire()
        endpoint: Any = _Endpoint(wire)
        wrapped = TLSEndpoint(endpoint, Side(client_context(), "upstream.test"))
        made = self.successResultOf(wrapped.connect(Factory.forProtocol(lambda: protocol)))  # type: ignore[arg-type]
        return wire, made

    def test_around(self) -> None:
        """TLS is around the endpoint's bytes; what is written before the handshake is sent after it."""
        stream = TransportStream(FakeReactor(), 4096)  # type: ignore[arg-type]
        wire, layer = self.connect(stream)
        stream.write(b"hello")
        peer = Peer(server_context())
        exchange(layer, wire, peer)
        self.assertEqual(peer.received, b"hello")

    def test_not_wanted(self) -> None:
        """No stream, no TLS."""
        wire, layer = self.connect(Protocol())
        self.assertIsNone(layer)
        self.assertEqual(wire.sent, b"")
