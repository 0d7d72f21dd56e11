"""Tests for clients that Twisted's endpoints accept."""

from __future__ import annotations

from functools import partial

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial import unittest
from zope.interface.verify import verifyObject

from portfwd.listen.endpoint_clients import StreamFactory
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import InetAddress

CLIENT = IPv4Address("TCP", "192.0.2.1", 4711)
HERE = IPv4Address("TCP", "127.0.0.1", 80)


class ArrivalTests(unittest.SynchronousTestCase):
    """`StreamFactory`."""

    def setUp(self) -> None:
        self.arrived: list[TransportStream] = []
        self.factory = StreamFactory(partial(TransportStream, Clock(), 4096), self.arrived.append)
        self.transport = StringTransport(HERE, CLIENT)

    def test_arrival(self) -> None:
        """A client becomes a stream that knows both addresses, is not read yet, and is handed over."""
        verifyObject(IProtocolFactory, self.factory)
        protocol = self.factory.buildProtocol(CLIENT)
        self.assertEqual(self.arrived, [])
        protocol.makeConnection(self.transport)
        [stream] = self.arrived
        self.assertIs(stream, protocol)
        self.assertEqual(stream.address, InetAddress("192.0.2.1", 4711))
        self.assertEqual(stream.local, InetAddress("127.0.0.1", 80))
        self.assertEqual(self.transport.producerState, "paused")

    def test_gone_before_anybody_took_it(self) -> None:
        """What happens to a stream that nobody took is nobody's news."""
        protocol = self.factory.buildProtocol(None)
        assert isinstance(protocol, TransportStream)
        protocol.makeConnection(self.transport)
        protocol.start()
        protocol.readConnectionLost()
        protocol.writeConnectionLost()
        protocol.writing_failed()
        protocol.connectionLost()
        self.assertEqual(len(self.arrived), 1)

    def test_an_accident(self) -> None:
        """A client that cannot be taken in is closed, and the reason is logged."""
        factory = StreamFactory(partial(TransportStream, Clock(), 4096), lambda stream: 1 // 0)
        factory.buildProtocol(CLIENT).makeConnection(self.transport)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.transport.disconnecting or self.transport.disconnected)
