# -*- test-case-name: tests.service.test_portforward -*-
"""
Factory and protocols in the place of `twisted.protocols.portforward`: the same names, arguments and methods.

What a program has not changed is relayed by portfwd: a `ProxyServer` of a factory that listens gives its
connection to a session as soon as it is there, with the rule's bounds. A plain socket that nobody else can
know is taken away from its transport, and relayed in the kernel; TLS, and what a factory's `buildProtocol`
may have given to the program, stays with Twisted's transports. Everything else (a subclass of
`ProxyServer`, another ``clientProtocolFactory``, a reactor that was set) works as Twisted's does, and passes
ends on: when one side is done writing, the other is told, and may go on.
"""

from __future__ import annotations

from typing import Any, Final, cast

from attrs import evolve
from twisted.internet import protocol
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Server
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.kernel.socket_addresses import from_twisted_address
from portfwd.listen.handed_clients import HandedClients
from portfwd.rules.model import RelayKind, Ruleset
from portfwd.service.build.from_objects import ruleset_from
from portfwd.service.embed import EmbeddedForwarder
from portfwd.values import InetAddress

#: Seconds for which sessions go on when the factory's last port is closed; Twisted's have no limit.
LASTING: Final = 365 * 86400.0


@implementer(IHalfCloseableProtocol)
class Proxy(protocol.Protocol):
    """One side of a connection that is forwarded; what it reads it writes to its peer."""

    noisy = True
    peer: Proxy | None = None
    _has_read_all = False
    _has_written_all = False

    def setPeer(self, peer: Proxy | None) -> None:  # noqa: N802 - Twisted's name
        """Write to `peer` from now on."""
        self.peer = peer

    def dataReceived(self, data: bytes) -> None:
        """Write `data` to the peer."""
        if self.peer is not None:
            cast(Any, self.peer.transport).write(data)

    def readConnectionLost(self) -> None:
        """The other end is done writing: so is the peer, once it has written what came before."""
        self._has_read_all = True
        if self.peer is not None:
            self.peer.end()
        self._close_if_done()

    def writeConnectionLost(self) -> None:
        """All that was to be written is."""
        self._has_written_all = True
        self._close_if_done()

    def end(self) -> None:
        """Write no more; close, where the transport has no half-close."""
        transport: Any = self.transport
        # A wrapper provides what its transport does, and never hears of an end by itself.
        has_half_close = IHalfCloseableDescriptor.providedBy(transport) and not isinstance(
            transport, ProtocolWrapper
        )
        # A producer that is paused would never let go of what is written last.
        transport.unregisterProducer()
        if has_half_close:
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    def _close_if_done(self) -> None:
        if self._has_read_all and self._has_written_all:
            cast(Any, self.transport).loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Close the peer once it has written what came before."""
        peer, self.peer = self.peer, None
        if peer is not None and peer.transport is not None:
            transport: Any = peer.transport
            transport.unregisterProducer()
            transport.loseConnection()


class ProxyClient(Proxy):
    """The connection to the upstream."""

    def connectionMade(self) -> None:
        """Let each side pause the other, and read from the client."""
        assert self.peer is not None, "setPeer comes first"
        mine, theirs = cast(Any, self.transport), cast(Any, self.peer.transport)
        self.peer.setPeer(self)
        mine.registerProducer(theirs, True)
        theirs.registerProducer(mine, True)
        theirs.resumeProducing()


class ProxyClientFactory(protocol.ClientFactory):
    """Makes the connection to the upstream."""

    protocol = ProxyClient
    server: ProxyServer

    def setServer(self, server: ProxyServer) -> None:  # noqa: N802 - Twisted's name
        """The client's side, for which this connects."""
        self.server = server

    def buildProtocol(self, addr: IAddress | None) -> ProxyClient:
        """The upstream's side, with the client's as its peer."""
        built: Any = super().buildProtocol(cast(IAddress, addr))
        built.setPeer(self.server)
        return cast(ProxyClient, built)

    def clientConnectionFailed(  # noqa: N802 - Twisted's name
        self, connector: IConnector, reason: Failure
    ) -> None:
        """There is no upstream: close the client."""
        cast(Any, self.server.transport).loseConnection()


class ProxyServer(Proxy):
    """The connection of a client."""

    clientProtocolFactory: Any = ProxyClientFactory  # noqa: N815 - Twisted's name
    reactor: Any = None

    def connectionMade(self) -> None:
        """Connect to the upstream, and read nothing before that."""
        factory = self.factory
        if isinstance(factory, ProxyFactory) and self._is_unchanged():
            if type(self.transport) is Server and factory.take_socket(self.transport):
                self.transport = None
                return
            stream = factory.session_stream(cast(Any, self.transport).getPeer())
            if stream is not None:
                self._become(stream)
                return
        cast(Any, self.transport).pauseProducing()
        client = self.clientProtocolFactory()
        client.setServer(self)
        if self.reactor is None:
            from twisted.internet import reactor

            self.reactor = reactor
        to = cast(Any, factory)
        self.reactor.connectTCP(to.host, to.port, client)

    def _is_unchanged(self) -> bool:
        return (
            type(self) is ProxyServer
            and (
                isinstance(self.transport, TLSMemoryBIOProtocol)
                or not isinstance(self.transport, ProtocolWrapper)
            )
            and self.reactor is None
            and self.clientProtocolFactory is ProxyClientFactory
            and not vars(self).keys() & vars(Proxy).keys()
        )

    def _become(self, stream: Any) -> None:
        """Let the transport tell `stream`, not this protocol: it looks methods up at each event."""
        methods = vars(self)
        for name in ("dataReceived", "readConnectionLost", "writeConnectionLost", "connectionLost"):
            methods[name] = getattr(stream, name)
        stream.makeConnection(self.transport)


class ProxyFactory(protocol.Factory):
    """
    Forwards the connections of the ports that it is given to.

    :ivar host: of the upstream.
    :ivar port: of the upstream.
    """

    protocol = ProxyServer
    noisy = False

    def __init__(self, host: str, port: int, **options: Any) -> None:
        """
        Forward to `host` and `port`.

        :param options: of a rule, as those of `portfwd.forward`; changed protocols do not know them.
        :raises portfwd.errors.RulesError: an option is not good.
        """
        self.host = host
        self.port = port
        self._options = options
        if options:
            self._ruleset()
        self._relay: EmbeddedForwarder | None = None
        self._sockets = self._streams = HandedClients(hands_sockets=False)
        self._target = (host, port)

    def _ruleset(self) -> Ruleset:
        """One rule for sockets and one for what is left to Twisted: a rule's relay is of one kind."""
        self._sockets, self._streams = HandedClients(hands_sockets=True), HandedClients(hands_sockets=False)
        target = str(InetAddress(self.host, self.port))
        name = f"to-{self.host.replace(':', '-')}-{self.port}"
        pair = {**self._options, "relay": RelayKind.PAIR}
        sockets = ruleset_from(self._sockets, target, name=name, options=self._options)
        streams = ruleset_from(self._streams, target, name=f"{name}-pair", options=pair)
        return evolve(sockets, rules=(*sockets.rules, *streams.rules))

    def startFactory(self) -> None:
        """The first port listens: sessions may come."""
        from twisted.internet import reactor

        ruleset = self._ruleset()
        self._target = (self.host, self.port)
        relay = EmbeddedForwarder(cast(Any, reactor), ruleset, None, LASTING)
        relay.startService()
        self._relay = relay

    def stopFactory(self) -> None:
        """The last port is closed: sessions go on until they end."""
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.stopService()

    def _is_current(self) -> bool:
        """Whether a port listens, and the upstream has not been changed since."""
        return self._relay is not None and (self.host, self.port) == self._target

    def take_socket(self, transport: Server) -> bool:
        """
        Make the socket of `transport` a session's, which nobody else may know.

        :returns: whether that could be: whoever builds the protocol may have told the program of it.
        """
        built_here = (
            self.protocol is ProxyServer
            and getattr(self.buildProtocol, "__func__", None) is protocol.Factory.buildProtocol
            and transport.server.factory is self
        )
        if self._sockets.accept is None or not built_here or not self._is_current():
            return False
        transport.stopReading()
        self._sockets.accept(transport.getHandle(), from_twisted_address(transport.getPeer()))
        return True

    def session_stream(self, client: IAddress | None) -> Any:
        """
        Make what becomes a session of `client`.

        :returns: None where no port listens, or where the upstream has been changed since.
        """
        return self._streams.factory.buildProtocol(client) if self._is_current() else None
