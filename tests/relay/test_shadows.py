"""Tests of `portfwd.relay.shadows`: a copy goes there, and nobody waits for it."""

from __future__ import annotations

import socket
import threading
from typing import Any, cast

from twisted.internet import error
from twisted.internet import reactor as real_reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from portfwd.relay.loops import Loops, PassedSession
from portfwd.relay.shadows import (
    CONNECT_TIMEOUT,
    LINGER,
    SLICE,
    NamedEndpoint,
    Shadow,
    ShadowPassage,
    shadow_endpoint,
)
from portfwd.upstreams.names import Names
from portfwd.values import Address, CloseReason, InetAddress, UnixAddress
from tests.upstreams.test_names import FakeResolver

#: Of addresses that are none.
NO_NAMES = Names(FakeResolver(), Clock())
#: No listener of this process.
LOOPS = Loops(lambda: 0.0)
PASSAGE = PassedSession(ShadowPassage(()), "a", is_chosen=False, is_copy=True)


class FakeTransport:
    """Takes bytes until it has had enough."""

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.written = b""
        self.calls: list[str] = []
        self.producer: Any = None

    def write(self, data: bytes) -> None:
        assert not self.calls
        self.written += data
        if len(self.written) >= self.enough:
            self.producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseWriteConnection(self) -> None:
        assert self.producer is None
        self.calls.append("end")

    def loseConnection(self) -> None:
        self.calls.append("close")

    def abortConnection(self) -> None:
        self.calls.append("abort")


class FakeEndpoint:
    """An endpoint that connects when the test says so."""

    def __init__(self) -> None:
        self.cancelled = False
        self.connecting: Deferred[Any] = Deferred(lambda _: self.cancel())
        self.factory: Any = None

    def cancel(self) -> None:
        self.cancelled = True

    def connect(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        return self.connecting

    def connects(self, enough: int = 10**9) -> FakeTransport:
        """The connection is there."""
        transport = FakeTransport(enough)
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        self.connecting.callback(protocol)
        return transport


class ShadowTests(SynchronousTestCase):
    """One shadow, and a connection that does what the test says."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = FakeEndpoint()
        self.lost: list[int] = []
        self.problems: list[str] = []
        self.over: list[Shadow] = []
        self.shadow = self.make(100)

    def make(self, limit: int) -> Shadow:
        """A shadow that is being connected."""
        endpoint = cast(Any, self.endpoint)
        return Shadow(self.clock, endpoint, limit, self.lost.append, self.problems.append, self.over.append)

    def is_gone(self) -> None:
        """The connection is lost."""
        self.shadow.connectionLost(Failure(error.ConnectionDone()))

    def test_waits_for_the_connection(self) -> None:
        """What comes before the connection goes out when it is there."""
        self.shadow.write(b"x" * 60)
        self.shadow.write(b"z" * 40)
        self.assertEqual(repr(self.shadow), "<Shadow open: 100 bytes waiting, 0 dropped>")
        transport = self.endpoint.connects()
        self.assertEqual(transport.written, b"x" * 60 + b"z" * 40)
        self.shadow.write(b"more")
        self.assertTrue(transport.written.endswith(b"more"))
        self.shadow.dataReceived(b"an answer")
        self.assertEqual((transport.calls, self.lost), ([], []))

    def test_slow(self) -> None:
        """A connection that takes no more for a while gets what was kept; later it goes on."""
        transport = self.endpoint.connects(enough=10)
        self.shadow.write(b"x" * 10)
        self.shadow.write(b"y" * 100)
        self.assertEqual(transport.written, b"x" * 10)
        transport.enough = 10**9
        self.shadow.resumeProducing()
        self.shadow.write(b"z")
        self.assertEqual((transport.written, self.lost), (b"x" * 10 + b"y" * 100 + b"z", []))

    def test_too_slow(self) -> None:
        """When more is to be kept than may be, the stream is torn there: nothing follows but a reset."""
        self.shadow.write(b"x" * 60)
        self.shadow.write(b"y" * 60)
        self.shadow.write(b"z")
        self.assertEqual((self.lost, len(self.problems)), ([20, 1], 1))
        self.assertIn("slower than the session", self.problems[0])
        transport = self.endpoint.connects()
        self.assertEqual((transport.written, transport.calls), (b"x" * 60 + b"y" * 40, ["abort"]))
        self.is_gone()
        self.assertEqual((self.over, len(self.problems)), ([self.shadow], 1))

    def test_too_slow_later(self) -> None:
        """So it is when the connection has taken more than enough, and a piece fits not even in part."""
        transport = self.endpoint.connects(enough=1)
        self.shadow.write(b"x")
        self.shadow.write(b"y" * 100)
        self.shadow.write(b"z")
        self.assertEqual((self.lost, transport.calls), ([1], []))
        transport.enough = 10**9
        self.shadow.resumeProducing()
        self.assertEqual((transport.written, transport.calls), (b"x" + b"y" * 100, ["abort"]))

    def test_large(self) -> None:
        """A piece of any size goes to a connection that takes it at once."""
        transport = self.endpoint.connects()
        self.shadow.write(b"x" * 1000)
        self.assertEqual((transport.written, self.lost), (b"x" * 1000, []))

    def test_slices(self) -> None:
        """A large piece is given to the transport in slices, no more than it asks for."""
        shadow = self.make(10**6)
        transport = self.endpoint.connects(enough=SLICE)
        shadow.write(b"x" * (SLICE + 5))
        self.assertEqual(len(transport.written), SLICE)
        transport.enough = 10**9
        shadow.resumeProducing()
        self.assertEqual(len(transport.written), SLICE + 5)

    def test_finish(self) -> None:
        """What waits is written, then the end; when the shadow has ended too, it is closed, silently."""
        transport = self.endpoint.connects(enough=1)
        self.shadow.write(b"xx")
        self.shadow.write(b"yy")
        self.shadow.finish()
        self.assertEqual(transport.calls, [])
        self.assertIn("finishing", repr(self.shadow))
        transport.enough = 10**9
        self.shadow.resumeProducing()
        self.assertEqual((transport.written, transport.calls), (b"xxyy", ["end"]))
        self.shadow.writeConnectionLost()
        self.shadow.finish()
        self.shadow.write(b"late")
        self.shadow.readConnectionLost()
        self.assertEqual(transport.calls, ["end", "close"])
        self.is_gone()
        self.assertEqual((self.problems, self.lost, self.over), ([], [4], [self.shadow]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ends_first(self) -> None:
        """A shadow that has ended its side still gets what comes."""
        transport = self.endpoint.connects()
        self.shadow.readConnectionLost()
        self.shadow.write(b"x")
        self.assertEqual((transport.written, transport.calls), (b"x", []))
        self.shadow.finish()
        self.shadow.writeConnectionLost()
        self.assertEqual(transport.calls, ["end", "close"])

    def test_lingers(self) -> None:
        """A shadow that does not take what is left, or does not close, is given up in the end."""
        transport = self.endpoint.connects(enough=1)
        self.shadow.write(b"xx")
        self.shadow.write(b"yy")
        self.shadow.finish()
        self.clock.advance(LINGER)
        self.assertEqual((transport.calls, self.lost, self.shadow.is_over), (["abort"], [2], True))
        self.is_gone()
        self.assertEqual((self.problems, self.over), ([], [self.shadow]))

    def test_lingers_unconnected(self) -> None:
        """So is one that does not connect."""
        self.shadow.write(b"xx")
        self.shadow.finish()
        self.clock.advance(LINGER)
        self.assertTrue(self.endpoint.cancelled)
        self.assertEqual((self.problems, self.lost), ([], [2]))

    def test_connects_too_late(self) -> None:
        """An endpoint that connects though it was given up has its connection aborted."""
        self.shadow.abort()
        transport = FakeTransport(10)
        protocol = self.endpoint.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        self.assertEqual(transport.calls, ["abort"])

    def test_cannot_connect(self) -> None:
        """What cannot be connected to is told once, and costs what waited for it and what comes."""
        self.shadow.write(b"xx")
        self.endpoint.connecting.errback(Failure(error.ConnectionRefusedError()))
        self.shadow.write(b"yyy")
        self.shadow.finish()
        self.assertEqual((self.lost, self.shadow.dropped), ([2, 3], 5))
        self.assertEqual(len(self.problems), 1)
        self.assertIn("refused", self.problems[0])

    def test_breaks(self) -> None:
        """A connection that is lost before the session is over is told once."""
        self.endpoint.connects()
        self.shadow.stopProducing()
        self.is_gone()
        self.shadow.write(b"x")
        self.assertEqual(self.lost, [1])
        self.assertIn("closed the connection", self.problems[0])

    def test_endpoint_raises(self) -> None:
        """An endpoint that raises is one that cannot connect."""
        self.patch(self.endpoint, "connect", None)
        shadow = self.make(100)
        self.assertEqual((shadow.is_over, len(self.problems)), (True, 1))


class EndpointTests(SynchronousTestCase):
    """How a shadow is connected to."""

    def test_kinds(self) -> None:
        """Literals by their family, names by the resolver, paths as unix sockets."""
        kinds: list[tuple[Address, type[Any]]] = [
            (InetAddress("192.0.2.1", 80), TCP4ClientEndpoint),
            (InetAddress("::1", 80), TCP6ClientEndpoint),
            (InetAddress("shadow.example", 80), NamedEndpoint),
            (UnixAddress("@shadow"), UNIXClientEndpoint),
        ]
        for address, kind in kinds:
            self.assertIsInstance(shadow_endpoint(real_reactor, NO_NAMES, LOOPS, address, PASSAGE), kind)

    def test_own_listener(self) -> None:
        """A listener of this process knows the connection before it accepts it; who refuses it says why."""
        loops, problems = Loops(lambda: 0.0), list[str]()
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = InetAddress(*server.getsockname())
            loops.listens(address)
            passage = ShadowPassage((PASSAGE,))
            passed = PassedSession(passage, "b", is_chosen=False, is_copy=True)
            endpoint = shadow_endpoint(real_reactor, NO_NAMES, loops, address, passed)
            self.assertIn(str(address), repr(endpoint))
            passage.kill(CloseReason.LOOP)
            passage.shadow = Shadow(
                Clock(), endpoint, 10, lambda _: None, problems.append, lambda _: loops.left(passage)
            )
            accepted, client = server.accept()
            with accepted:
                self.assertEqual(loops.passages_of(InetAddress(*client), address), (PASSAGE, passed))
            for _ in range(2):
                passage.kill(CloseReason.LOOP)
        self.assertEqual(len(problems), 1)
        self.assertIn("comes back to a rule", problems[0])
        self.assertFalse(loops.open)

    def named(self) -> tuple[FakeResolver, MemoryReactorClock, Deferred[Any]]:
        """A connection to a name, whose look-up has begun."""
        resolver, clock = FakeResolver(), MemoryReactorClock()
        names = Names(resolver, clock)
        endpoint = shadow_endpoint(clock, names, LOOPS, InetAddress("shadow.example", 80), PASSAGE)
        self.assertEqual(repr(endpoint), "<NamedEndpoint shadow.example:80>")
        connecting = endpoint.connect(Factory.forProtocol(Protocol))
        self.assertEqual(resolver.asked, ["shadow.example"])
        return resolver, clock, connecting

    def refuse(self, clock: MemoryReactorClock) -> None:
        """The address that was tried last refuses."""
        factory = clock.tcpClients[-1][2]
        factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))

    def test_name(self) -> None:
        """The name is looked up as those of targets are, and its addresses are tried in their order."""
        resolver, clock, connecting = self.named()
        resolver.answer("192.0.2.1", "192.0.2.2")
        self.refuse(clock)
        host, port, factory, timeout, _ = clock.tcpClients[-1]
        self.assertEqual((host, port, timeout), ("192.0.2.2", 80, CONNECT_TIMEOUT))
        factory.buildProtocol(None).makeConnection(StringTransport())
        self.assertIsInstance(self.successResultOf(connecting), Protocol)

    def test_name_of_nobody(self) -> None:
        """Without an address, or where all of them fail, there is no connection."""
        resolver, clock, connecting = self.named()
        resolver.answer()
        self.failureResultOf(connecting, error.DNSLookupError)
        resolver, clock, connecting = self.named()
        resolver.answer("192.0.2.1")
        self.refuse(clock)
        self.failureResultOf(connecting, error.ConnectionRefusedError)

    def test_too_many_names(self) -> None:
        """A look-up that is refused says why."""
        clock = MemoryReactorClock()
        names = Names(FakeResolver(), clock, limit=0)
        connecting = NamedEndpoint(names, "shadow.example", 80, cast(Any, None)).connect(Factory())
        problem = self.failureResultOf(connecting, error.DNSLookupError)
        self.assertIn("0 names are being looked up", str(problem.value))

    def test_cancelled(self) -> None:
        """A session that ends during the look-up waits no longer."""
        resolver, clock, connecting = self.named()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        resolver.answer("192.0.2.1")
        self.assertEqual(clock.tcpClients, [])


class SocketTests(TestCase):
    """A shadow over a real connection."""

    @inlineCallbacks
    def test_all_of_it(self) -> Any:
        """Every byte arrives, then an end in order, though the shadow answers what nobody reads."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        got = threading.Event()

        def serve() -> bytes:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                connection.sendall(b"hello " * 1000)
                received = b""
                while piece := connection.recv(65536):
                    received += piece
                    got.set()
                return received

        serving = deferToThread(serve)
        address = InetAddress("127.0.0.1", listener.getsockname()[1])
        lost: list[int] = []
        problems: list[str] = []
        clock = cast(Any, real_reactor)
        gone: Deferred[Shadow] = Deferred()
        endpoint = shadow_endpoint(clock, NO_NAMES, LOOPS, address, PASSAGE)
        shadow = Shadow(clock, endpoint, 10**7, lost.append, problems.append, gone.callback)
        data = bytes(range(256)) * 4000
        shadow.write(data)
        yield deferToThread(got.wait, 30)
        shadow.write(b"the rest")
        shadow.finish()
        received = yield serving
        self.assertEqual((received, lost, problems), (data + b"the rest", [], []))
        yield gone
        self.assertTrue(shadow.is_over)
