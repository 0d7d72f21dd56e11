"""The classes in the place of `twisted.protocols.portforward`."""

from __future__ import annotations

import inspect
import socket
from types import ModuleType
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.tcp import Server
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.test import test_protocols
from twisted.trial.unittest import SynchronousTestCase, TestCase

import portfwd
from portfwd.errors import RulesError
from portfwd.kernel.platform import find_platform
from portfwd.service import portforward
from portfwd.streams.transports.transport import TransportStream

reactor = cast(Any, installed)
CHUNK = bytes(range(256)) * 16384


def _of_twisted() -> Any:
    """Twisted's own tests, with the classes of `portfwd` under their names."""
    source = inspect.getsource(test_protocols)
    theirs = "from twisted.protocols import portforward, wire"
    assert theirs in source
    module = ModuleType("tests.service.of_twisted")
    ours = "from twisted.protocols import wire\nfrom portfwd.service import portforward"
    exec(source.replace(theirs, ours), vars(module))
    return vars(module)["PortforwardingTests"]


class TwistedTests(_of_twisted()):  # type: ignore[misc]
    """Twisted's own tests pass."""


class Shouting(portforward.ProxyServer):
    """A subclass as a program has it."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data.upper())


class Counting(portforward.ProxyFactory):
    """Looks at each address."""

    count = 0

    def buildProtocol(self, addr: Any) -> Any:
        self.count += 1
        return super().buildProtocol(addr)


class Gone(Protocol):
    """Fires when the connection is over."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.over: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over.callback(None)


class TrafficTests(TestCase):
    """Over real sockets."""

    def setUp(self) -> None:
        self.upstream = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.upstream.close)
        self.number = self.upstream.getsockname()[1]

    def converse(self, factory: Any, sent: bytes) -> Deferred[bytes]:
        """What a client gets that writes `sent` and its end to a server that answers after the end."""
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")

        def work() -> bytes:
            with socket.create_connection(("127.0.0.1", port.getHost().port), 5.0) as client:
                client.settimeout(5.0)
                server, _ = self.upstream.accept()
                with server:
                    server.settimeout(5.0)
                    received, answer = bytearray(), bytearray()
                    client.sendall(sent)
                    client.shutdown(socket.SHUT_WR)
                    while piece := server.recv(65536):
                        received += piece
                    server.sendall(received)
                    server.shutdown(socket.SHUT_WR)
                    while piece := client.recv(65536):
                        answer += piece
                return bytes(answer)

        self.addCleanup(port.stopListening)
        return deferToThread(work)

    async def test_half_close(self) -> None:
        """An end travels alone, and what is answered behind it arrives."""
        for factory in (
            portfwd.ProxyFactory("127.0.0.1", self.number),
            self.changed(portforward.ProxyServer),
        ):
            self.assertEqual(await self.converse(factory, b"hello" * 1000), b"hello" * 1000)

    def changed(self, protocol: Any) -> Any:
        """A factory with another protocol."""
        factory = portfwd.ProxyFactory("127.0.0.1", self.number)
        factory.protocol = type("Changed", (protocol,), {})  # type: ignore[assignment]
        return factory

    async def test_subclass(self) -> None:
        """A subclass that overrides `dataReceived` is asked for every byte."""
        self.assertEqual(await self.converse(self.changed(Shouting), b"hello"), b"HELLO")

    async def test_overridden_build(self) -> None:
        """A factory that overrides `buildProtocol` is asked, and its unchanged protocols become sessions."""
        factory = Counting("127.0.0.1", self.number, max_conns=5)
        self.assertEqual(await self.converse(factory, b"hello"), b"hello")
        self.assertEqual(factory.count, 1)

    async def test_spliced(self) -> None:
        """A plain connection that no program can know is none of the reactor's; any other one is."""
        number = self.number
        kept: list[Any] = []

        def known() -> Any:
            kept.append(portforward.ProxyServer())
            return kept[-1]

        calls = portfwd.ProxyFactory("127.0.0.1", number)
        calls.protocol = known  # type: ignore[assignment]
        behind = portfwd.ProxyFactory("127.0.0.1", number)
        registry = Factory.forProtocol(Protocol)
        registry.buildProtocol = behind.buildProtocol  # type: ignore[method-assign,assignment]
        registry.doStart, registry.doStop = behind.doStart, behind.doStop  # type: ignore[method-assign]
        for factory, is_spliced in (
            (portfwd.ProxyFactory("127.0.0.1", number), True),
            (portfwd.ProxyFactory("127.0.0.1", number, relay="copy", idle="5m"), True),
            (portfwd.ProxyFactory("127.0.0.1", number, relay="pair"), False),
            (Counting("127.0.0.1", number), False),
            (calls, False),
            (registry, False),
        ):
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
            client = await deferToThread(socket.create_connection, ("127.0.0.1", port.getHost().port), 5.0)
            server, _ = await deferToThread(self.upstream.accept)
            client.sendall(b"hello")
            self.assertEqual(await deferToThread(server.recv, 5), b"hello")
            await port.stopListening()
            watched = [one for one in reactor.getReaders() if isinstance(one, Server)]
            self.assertEqual(len(watched), 0 if is_spliced and find_platform(reactor).epoll else 1)
            server.sendall(b"answer")
            server.close()
            self.assertEqual(await deferToThread(client.recv, 6), b"answer")
            self.assertEqual(await deferToThread(client.recv, 6), b"")
            client.close()
            while watched and watched[0] in reactor.getReaders():
                await deferLater(reactor, 0)

    async def test_endpoint(self) -> None:
        """The factory works with `endpoint.listen`; an unchanged protocol becomes a session with bounds."""
        factory = portfwd.ProxyFactory("127.0.0.1", self.number, max_conns=1)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        first, second = Gone(), Gone()
        client = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await connectProtocol(client, first)
        server, _ = await deferToThread(self.upstream.accept)
        self.addCleanup(server.close)
        await connectProtocol(client, second)
        await second.over
        first.transport.loseConnection()  # type: ignore[union-attr]
        await deferToThread(server.recv, 1)
        server.close()
        await first.over

    async def test_no_upstream(self) -> None:
        """A client whose upstream cannot be reached is reset."""
        self.upstream.close()
        port = reactor.listenTCP(0, portfwd.ProxyFactory("127.0.0.1", self.number), interface="127.0.0.1")
        self.addCleanup(port.stopListening)

        def connect() -> None:
            with socket.create_connection(("127.0.0.1", port.getHost().port), 5.0) as client:
                client.recv(1)

        await self.assertFailure(deferToThread(connect), ConnectionResetError)

    async def test_wrapped(self) -> None:
        """The factory works behind Twisted's wrappers, which count its connections."""
        wrapped = WrappingFactory(portfwd.ProxyFactory("127.0.0.1", self.number))
        port = reactor.listenTCP(0, wrapped, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        client = Gone()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), client)
        server, _ = await deferToThread(self.upstream.accept)
        server.sendall(b"hello")
        server.close()
        await client.over
        self.assertEqual(client.received, b"hello")
        self.assertEqual(len(wrapped.protocols), 0)

    async def test_used_again(self) -> None:
        """A factory whose port was closed may listen again."""
        factory = portfwd.ProxyFactory("127.0.0.1", self.number)
        for _ in range(2):
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
            await port.stopListening()
        self.assertEqual(await self.converse(factory, b"hello"), b"hello")

    async def test_backpressure(self) -> None:
        """A client that reads nothing stops the upstream, in both kinds."""
        for factory in (
            portfwd.ProxyFactory("127.0.0.1", self.number),
            self.changed(portforward.ProxyServer),
        ):
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
            self.addCleanup(port.stopListening)

            def flood(number: int = port.getHost().port) -> int:
                with socket.create_connection(("127.0.0.1", number), 5.0):
                    server, _ = self.upstream.accept()
                    with server:
                        server.settimeout(0.2)
                        sent = 0
                        try:
                            while sent < 64 << 20:
                                sent += server.send(CHUNK)
                        except TimeoutError:
                            pass
                        return sent

            self.assertLess(await deferToThread(flood), 32 << 20)


class ProtocolTests(SynchronousTestCase):
    """Without sockets."""

    def test_options(self) -> None:
        """Wrong options are refused when the factory is made."""
        self.assertRaises(RulesError, portfwd.ProxyFactory, "h.example", 80, idel="5m")
        self.assertRaises(TypeError, portfwd.ProxyFactory, "h.example", 80, idle=object())
        portfwd.ProxyFactory("::1", 80, idle="5m")

    def test_upstream(self) -> None:
        """An invalid upstream is refused when the factory is made, in one line that names the argument."""
        wrong: tuple[tuple[Any, Any, str], ...] = (
            ("h.example", 99999, "port"),
            ("h.example", -1, "port"),
            ("h.example", None, "port"),
            ("h.example", True, "port"),
            ("h.example", "no such service", "port"),
            ("no such host", 80, "host"),
            ("", 80, "host"),
            (None, 80, "host"),
            ("a" * 64, 80, "host"),
            ("1.2.3", 80, "host"),
            ("a\n", 80, "host"),
        )
        for host, port, argument in wrong:
            problem = self.assertRaises(ValueError, portfwd.ProxyFactory, host, port)
            self.assertRegex(str(problem), rf"\A{argument}\b[^\n]*\Z")
            self.assertNotIn("<rule>", str(problem))
        good: tuple[tuple[str, Any], ...] = (
            ("::1", 80),
            ("fe80::1%lo", 80),
            ("localhost", 65535),
            ("127.0.0.1", "http"),
        )
        for host, port in good:
            self.assertEqual(portfwd.ProxyFactory(host, port).host, host)

    def test_kinds(self) -> None:
        """Only a protocol of a factory that listens, with nothing changed, becomes a session."""
        factory = portfwd.ProxyFactory("127.0.0.1", 9)
        self.assertIsNone(factory.session_stream(None))
        factory.doStart()
        self.assertIsInstance(factory.session_stream(None), TransportStream)
        factory.host = "127.0.0.2"
        self.assertIsNone(factory.session_stream(None))
        factory.doStop()
        self.assertIsNone(factory.session_stream(None))

    def test_close_without_half_close(self) -> None:
        """A transport without half-close is closed at the other side's end, and lets go of its producer."""
        one, other = portforward.ProxyServer(), portforward.ProxyServer()
        transport = StringTransport()
        transport.registerProducer(StringTransport(), True)
        other.transport = transport
        one.setPeer(other)
        one.readConnectionLost()
        self.assertTrue(transport.disconnecting)
        self.assertIsNone(transport.producer)

    def test_lost(self) -> None:
        """A connection that is lost closes its peer, though that had been paused."""
        one, other = portforward.ProxyServer(), portforward.ProxyServer()
        transport = StringTransport()
        transport.registerProducer(StringTransport(), True)
        other.transport = transport
        one.setPeer(other)
        one.connectionLost()
        self.assertTrue(transport.disconnecting)
        self.assertIsNone(transport.producer)
