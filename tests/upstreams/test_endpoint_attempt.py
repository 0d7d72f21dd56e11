"""Tests of `portfwd.upstreams.endpoint_attempt`: one attempt over an endpoint of Twisted's."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet import error, reactor
from twisted.internet.address import HostnameAddress, IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial import unittest

from portfwd import errors
from portfwd.rules.model import Options
from portfwd.streams.transports.transport import TransportStream
from portfwd.upstreams.endpoint_attempt import EndpointAttempt
from portfwd.values import InetAddress
from tests.streams.far_ends import turns
from tests.upstreams.test_connect import Owner


class FakeEndpoint:
    """An endpoint that does what a test says."""

    def __init__(self, cancelled: Exception | None = None) -> None:
        self.factory: Any = None
        self.deferred: Deferred[Any] = Deferred(
            None if cancelled is None else lambda deferred: deferred.errback(cancelled)
        )

    def connect(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        return self.deferred

    def answer(self, transport: Any) -> Any:
        """The connection comes."""
        protocol = self.factory.buildProtocol(None)
        if protocol is not None:
            protocol.makeConnection(transport)
            self.deferred.callback(protocol)
        return protocol


class EndpointAttemptTests(unittest.SynchronousTestCase):
    """`EndpointAttempt`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = Owner()
        self.endpoint = FakeEndpoint()

    def attempt(self, endpoint: Any = None) -> EndpointAttempt:
        """An attempt that is started."""
        attempt = EndpointAttempt(
            self.clock, endpoint or self.endpoint, "endpoint:x", Options(), 5, self.owner
        )
        attempt.start()
        return attempt

    def test_connected(self) -> None:
        """The result is a stream that knows both addresses."""
        attempt = self.attempt()
        peer = IPv4Address("TCP", "192.0.2.1", 80)
        self.endpoint.answer(StringTransport(IPv4Address("TCP", "127.0.0.1", 4711), peer))
        [stream] = self.owner.told
        self.assertIsInstance(stream, TransportStream)
        self.assertEqual((stream.address, attempt.address), (InetAddress("192.0.2.1", 80),) * 2)
        self.assertEqual(stream.local, InetAddress("127.0.0.1", 4711))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_address_that_says_nothing(self) -> None:
        """Where the transport has no address that we know, the one that was dialled holds."""
        attempt = self.attempt()
        attempt.address = InetAddress("192.0.2.1", 80)
        self.endpoint.answer(StringTransport(peerAddress=HostnameAddress(b"x.onion", 80)))
        self.assertEqual(self.owner.told[0].address, InetAddress("192.0.2.1", 80))

    def test_timed_out(self) -> None:
        """After its time the attempt is cancelled; that is told once, whatever the endpoint says then."""
        for cancelled in (None, error.ConnectingCancelledError(None), ZeroDivisionError()):
            self.owner.told.clear()
            self.attempt(FakeEndpoint(cancelled))
            self.clock.advance(5)
            [problem] = self.owner.told
            self.assertIsInstance(problem, errors.ConnectTimedOut)
            self.assertEqual(str(problem), "endpoint:x: no answer within 5 s")

    def test_cancelled(self) -> None:
        """Who cancels hears nothing, whatever the endpoint says."""
        for cancelled in (None, CancelledError(), error.ConnectingCancelledError(None)):
            self.attempt(FakeEndpoint(cancelled)).cancel()
        self.assertEqual((self.owner.told, self.clock.getDelayedCalls()), ([], []))

    def test_connected_after_the_cancel(self) -> None:
        """An endpoint that goes on nevertheless is given no protocol, so it closes its connection."""
        self.attempt().cancel()
        self.assertIsNone(self.endpoint.answer(StringTransport()))

    def test_cancelled_with_success(self) -> None:
        """One that answers the cancel with success has its stream aborted."""
        transport = StringTransport()
        endpoint = FakeEndpoint()
        endpoint.deferred = Deferred(lambda deferred: deferred.callback(None))
        attempt = self.attempt(endpoint)
        endpoint.factory.buildProtocol(None).makeConnection(transport)
        attempt.cancel()
        self.assertEqual((self.owner.told, transport.disconnected or transport.disconnecting), ([], True))

    def test_failures(self) -> None:
        """What Twisted's endpoints fail with becomes ours."""
        ours = errors.TLSFailed("mine")
        for problem, kind in (
            (error.ConnectionRefusedError(), errors.ConnectRefused),
            (error.TimeoutError(), errors.ConnectTimedOut),
            (error.TCPTimedOutError(), errors.ConnectTimedOut),
            (error.DNSLookupError("no such name"), errors.NameNotResolved),
            (error.UnknownHostError(), errors.NameNotResolved),
            (error.ConnectError(errno.EMFILE), errors.OutOfResources),
            (error.NoRouteError(), errors.ConnectFailed),
            (ZeroDivisionError(), errors.ConnectFailed),
            (ours, errors.TLSFailed),
        ):
            self.owner.told.clear()
            endpoint = FakeEndpoint()
            endpoint.deferred = fail(problem)
            self.attempt(endpoint)
            self.assertIs(type(self.owner.told[0]), kind)
        self.assertIs(self.owner.told[0], ours)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_endpoint_that_raises(self) -> None:
        """An endpoint that raises has failed."""

        class Broken:
            def connect(self, factory: object) -> None:
                raise ZeroDivisionError("by zero")

        self.attempt(Broken())
        self.assertEqual(str(self.owner.told[0]), "endpoint:x: by zero")

    def test_an_owner_that_fails(self) -> None:
        """A stream that its owner could not take is not left behind."""
        transport = StringTransport()
        self.owner.on_connected = lambda: 1 // 0
        self.attempt()
        self.endpoint.answer(transport)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(transport.disconnected or transport.disconnecting)


class RealEndpointTests(unittest.TestCase):
    """`EndpointAttempt` over Twisted's own sockets."""

    timeout = 20

    async def test_connect_and_refuse(self) -> None:
        """A listener is connected; after it is gone the same endpoint is refused."""
        owner = Owner()
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(Protocol)
        )
        number = port.getHost().port
        for expected in (TransportStream, errors.ConnectRefused):
            owner.told.clear()
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", number)
            EndpointAttempt(reactor, endpoint, "x", Options(), 5, owner).start()  # type: ignore[arg-type]
            outcome = await owner.outcome()
            self.assertIsInstance(outcome, expected)
            if isinstance(outcome, TransportStream):
                self.assertEqual(outcome.address, InetAddress("127.0.0.1", number))
                outcome.abort()
                await port.stopListening()
                await turns()
