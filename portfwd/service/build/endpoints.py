# -*- test-case-name: tests.service.build.test_build -*-
"""
Twisted's endpoints for listeners: where sockets cannot be our own, and where a rule names one.

A reload keeps the port of an endpoint. An ``ssl:`` endpoint has read its certificate before that, so the new
one is put in its place here.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Final

from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from portfwd.kernel.reactor import Reactor
from portfwd.kernel.socket_addresses import inet_family, sockaddr_of
from portfwd.listen.binding import share_port
from portfwd.listen.unix_files import DEFAULT_MODE, try_unix
from portfwd.rules.model import UNIX_KINDS, ListenSpec
from portfwd.values import Address, InetAddress, UnixAddress


def portable_endpoints(reactor: Reactor, spec: ListenSpec, port: int) -> list[IStreamServerEndpoint]:
    """What listens for `spec` on `port`."""
    backlog = spec.options.backlog or socket.SOMAXCONN
    if spec.kind in UNIX_KINDS:
        mode = DEFAULT_MODE if spec.options.mode is None else spec.options.mode
        name = UnixAddress(spec.path).sockaddr
        return [UNIXServerEndpoint(reactor, name, backlog, mode)]
    if spec.host:
        kind = TCP6ServerEndpoint if ":" in spec.host else TCP4ServerEndpoint
        return [kind(reactor, port, backlog, spec.host)]
    # Both families: one dual-stack socket, which "::" is by itself everywhere but on Windows.
    everywhere: list[IStreamServerEndpoint] = []
    if socket.has_ipv6:
        everywhere.append(TCP6ServerEndpoint(reactor, port, backlog, "::"))
    if sys.platform == "win32" or not socket.has_ipv6:
        everywhere.append(TCP4ServerEndpoint(reactor, port, backlog))
    return everywhere


#: Endpoints that listen on what they say, and on nothing else.
KNOWN: Final = ("tcp:", "tcp6:", "ssl:", "unix:")


class _Noting:
    """
    Stands for a reactor while an endpoint is asked to listen.

    :ivar context: the endpoint's certificate, once it was asked.
    :ivar address: where it wants to listen.
    """

    def __init__(self) -> None:
        self.context: Any = None
        self.address: Address | None = None

    def listenTCP(self, port: int, *_: Any, interface: str = "", **__: Any) -> None:  # noqa: N802 - Twisted's
        """See `IReactorTCP`."""
        self.address = InetAddress(interface, port)

    def listenSSL(self, port: int, *_: Any, interface: str = "", **how: Any) -> None:  # noqa: N802 - Twisted's
        """See `IReactorSSL`."""
        self.address = InetAddress(interface, port)
        self.context = how.get("contextFactory")

    def listenUNIX(self, path: str, *_: Any, **__: Any) -> None:  # noqa: N802 - Twisted's
        """See `IReactorUNIX`."""
        self.address = UnixAddress(f"@{path[1:]}" if path.startswith("\0") else path)


def address_of(description: str) -> Address | None:
    """
    Where the endpoint of `description` would listen; None where only its plug-in knows.

    :raises Exception: whatever the endpoint's parser raises.
    """
    if not description.removeprefix("haproxy:").startswith(KNOWN):
        return None
    noting = _Noting()
    listening: Any = serverFromString(noting, description).listen(Factory())
    listening.addErrback(lambda _: None)
    return noting.address


def try_endpoint(description: str) -> None:
    """
    See whether the endpoint of `description` could listen.

    :raises OSError: it could not.
    """
    address = address_of(description)
    if isinstance(address, UnixAddress):
        try_unix(address)
    elif address is not None:
        _bind(address, socket.socket(inet_family(address.host))).close()


def _bind(address: InetAddress, sock: socket.socket) -> socket.socket:
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(sockaddr_of(address.host, address.port))
    except OSError:
        sock.close()
        raise
    return sock


class _Beside:
    """A reactor whose ports are bound beside sockets of this process for which `share_port` was called."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor: Any = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(  # noqa: N802 - Twisted's
        self, port: int, factory: Factory, backlog: int = 50, interface: str = ""
    ) -> Any:
        """See `IReactorTCP`."""
        sock = socket.socket(inet_family(interface))
        try:
            share_port(sock, True)
            _bind(InetAddress(interface, port), sock)
            sock.listen(backlog)
            return self._reactor.adoptStreamPort(sock.fileno(), sock.family, factory)
        except OSError as problem:
            raise CannotListenError(interface, port, problem) from problem
        finally:
            sock.close()

    def listenSSL(  # noqa: N802 - Twisted's
        self,
        port: int,
        factory: Factory,
        contextFactory: Any,  # noqa: N803 - Twisted's
        backlog: int = 50,
        interface: str = "",
    ) -> Any:
        """See `IReactorSSL`."""
        wrapped: Any = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self.listenTCP(port, wrapped, backlog, interface)


def endpoint_beside(reactor: Reactor, description: str) -> IStreamServerEndpoint:
    """
    The endpoint of `description`, which can listen beside sockets of this process.

    :raises Exception: whatever the endpoint's parser raises.
    """
    made: IStreamServerEndpoint = serverFromString(_Beside(reactor), description)
    return made


def renew_certificate(port: IListeningPort, description: str) -> bool:
    """
    Let a port that an ``ssl:`` endpoint made show the certificate that the endpoint's files have now.

    Connections that are there keep theirs.

    :returns: whether it is such a port.
    :raises Exception: whatever the endpoint's parser raises for files that are not good.
    """
    old: Any = getattr(port, "factory", None)
    if not description.startswith("ssl:") or not isinstance(old, TLSMemoryBIOFactory):
        return False
    noting = _Noting()
    serverFromString(noting, description).listen(Factory())
    if noting.context is None:
        return False
    new = TLSMemoryBIOFactory(noting.context, False, old.wrappedFactory)
    new.doStart()
    port.factory = new  # type: ignore[attr-defined]
    old.doStop()
    return True
