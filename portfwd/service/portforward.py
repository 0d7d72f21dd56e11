# -*- test-case-name: tests.service.test_portforward -*-
"""
A replacement for `twisted.protocols.portforward`, with the same names, arguments and methods.

Unmodified classes use the relay of portfwd: a `ProxyServer` of a listening factory passes its connection to a
session at once, with the bounds of the rule. A plain socket to which the program cannot have a reference is
removed from its transport and relayed in the kernel. TLS connections, and protocols that `buildProtocol` may
have passed to the program, keep Twisted's transports. Modified classes (a subclass of `ProxyServer`, another
``clientProtocolFactory``, a reactor that was set) work like Twisted's, and also forward half-closes.
"""

from __future__ import annotations

import socket
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
from portfwd.rules.addresses import target_host
from portfwd.rules.model import RelayKind, Ruleset
from portfwd.service.build.from_objects import ruleset_from
from portfwd.service.embed import EmbeddedForwarder
from portfwd.values import InetAddress

#: RFC 9293 section 3.1: ports have 16 bits.
MAX_PORT: Final = 0xFFFF
#: Drain limit in seconds after the last port of the factory is closed: a year, because Twisted has no limit.
LASTING: Final = 365 * 86400.0


@implementer(IHalfCloseableProtocol)
class Proxy(protocol.Protocol):
    """One side of a forwarded connection. It writes received bytes to its peer."""

    noisy = True
    peer: Proxy | None = None
    _has_read_all = False
    _has_written_all = False

    def setPeer(self, peer: Proxy | None) -> None:  # noqa: N802 - Twisted's name
        """Set the peer, to which received bytes are written."""
        self.peer = peer

    def dataReceived(self, data: bytes) -> None:
        """Write `data` to the peer."""
        if self.peer is not None:
            cast(Any, self.peer.transport).write(data)

    def readConnectionLost(self) -> None:
        """See `IHalfCloseableProtocol`. The peer ends its writing after the bytes before the end."""
        self._has_read_all = True
        if self.peer is not None:
            self.peer.end()
        self._close_if_done()

    def writeConnectionLost(self) -> None:
        """See `IHalfCloseableProtocol`."""
        self._has_written_all = True
        self._close_if_done()

    def end(self) -> None:
        """End the writing side, or close a transport without half-close."""
        transport: Any = self.transport
        # A wrapper provides the interfaces of its transport, but does not get half-closes.
        has_half_close = IHalfCloseableDescriptor.providedBy(transport) and not isinstance(
            transport, ProtocolWrapper
        )
        # With a paused producer the transport would keep the last bytes.
        transport.unregisterProducer()
        if has_half_close:
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    def _close_if_done(self) -> None:
        if self._has_read_all and self._has_written_all:
            cast(Any, self.transport).loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See `IProtocol`. Closes the peer after it has written the bytes before the end."""
        peer, self.peer = self.peer, None
        if peer is not None and peer.transport is not None:
            transport: Any = peer.transport
            transport.unregisterProducer()
            transport.loseConnection()


class ProxyClient(Proxy):
    """The connection to the upstream."""

    def connectionMade(self) -> None:
        """See `IProtocol`. Registers each side as producer of the other; starts reading from the client."""
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
        """Set the client's side of the connection."""
        self.server = server

    def buildProtocol(self, addr: IAddress | None) -> ProxyClient:
        """See `IProtocolFactory`. The client's side is the peer of the new protocol."""
        built: Any = super().buildProtocol(cast(IAddress, addr))
        built.setPeer(self.server)
        return cast(ProxyClient, built)

    def clientConnectionFailed(  # noqa: N802 - Twisted's name
        self, connector: IConnector, reason: Failure
    ) -> None:
        """See `ClientFactory`. Closes the client."""
        cast(Any, self.server.transport).loseConnection()


class ProxyServer(Proxy):
    """The connection of a client."""

    clientProtocolFactory: Any = ProxyClientFactory  # noqa: N815 - Twisted's name
    reactor: Any = None

    def connectionMade(self) -> None:
        """See `IProtocol`. Connects to the upstream, and reads nothing before that."""
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
        """Pass all calls of the transport to `stream`. The transport looks methods up at each event."""
        methods = vars(self)
        for name in ("dataReceived", "readConnectionLost", "writeConnectionLost", "connectionLost"):
            methods[name] = getattr(stream, name)
        stream.makeConnection(self.transport)


def _check_upstream(host: object, port: object) -> None:
    """
    Refuse an upstream that no connection can have.

    :raises ValueError: with one sentence that names the argument.
    """
    if not isinstance(host, str):
        raise ValueError(f"host must be text, not {host!r}")
    try:
        target_host(host)
    except ValueError as problem:
        raise ValueError(f"host={host!r}: {problem}") from None
    if isinstance(port, str):
        # Twisted's connectTCP takes the name of a service too.
        try:
            socket.getservbyname(port, "tcp")
        except (OSError, ValueError):
            raise ValueError(f"port={port!r}: there is no service of that name") from None
    elif not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= MAX_PORT:
        # Twisted accepts 0 as well; a port that listens then refuses it.
        raise ValueError(f"port must be a number from 0 to {MAX_PORT}, not {port!r}")


class ProxyFactory(protocol.Factory):
    """
    Forwards the connections of the ports that use it.

    :ivar host: host of the upstream.
    :ivar port: port of the upstream.
    """

    protocol = ProxyServer
    noisy = False

    def __init__(self, host: str, port: int, **options: Any) -> None:
        """
        Forward to `host` and `port`.

        :param options: options of a rule, as for `portfwd.forward`. Modified protocols ignore them.
        :raises ValueError: `host` or `port` is not valid; the message names the argument.
        :raises portfwd.errors.RulesError: an option is not valid.
        """
        _check_upstream(host, port)
        self.host = host
        self.port = port
        self._options = options
        if options:
            self._ruleset()
        self._relay: EmbeddedForwarder | None = None
        self._sockets = self._streams = HandedClients(hands_sockets=False)
        self._target = (host, port)

    def _ruleset(self) -> Ruleset:
        """One rule for sockets and one for Twisted's transports, because a rule has one relay."""
        self._sockets, self._streams = HandedClients(hands_sockets=True), HandedClients(hands_sockets=False)
        target = str(InetAddress(self.host, self.port))
        name = f"to-{self.host.replace(':', '-')}-{self.port}"
        pair = {**self._options, "relay": RelayKind.PAIR}
        sockets = ruleset_from(self._sockets, target, name=name, options=self._options)
        streams = ruleset_from(self._streams, target, name=f"{name}-pair", options=pair)
        return evolve(sockets, rules=(*sockets.rules, *streams.rules))

    def startFactory(self) -> None:
        """See `IProtocolFactory`. Starts the forwarder when the first port listens."""
        from twisted.internet import reactor

        ruleset = self._ruleset()
        self._target = (self.host, self.port)
        relay = EmbeddedForwarder(cast(Any, reactor), ruleset, None, LASTING)
        relay.startService()
        self._relay = relay

    def stopFactory(self) -> None:
        """See `IProtocolFactory`. Drains the forwarder when the last port is closed."""
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.stopService()

    def _is_current(self) -> bool:
        """Whether a port listens and the upstream has not changed since."""
        return self._relay is not None and (self.host, self.port) == self._target

    def take_socket(self, transport: Server) -> bool:
        """
        Move the socket of `transport` to a session, if the program cannot have a reference to the transport.

        :returns: whether it was moved. A custom `buildProtocol` may have passed the protocol to the program.
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
        Make the stream of a new session of `client`.

        :returns: None if no port listens, or if the upstream has changed since.
        """
        return self._streams.factory.buildProtocol(client) if self._is_current() else None
