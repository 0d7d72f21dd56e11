# -*- test-case-name: tests.service.build.test_build -*-
"""
Twisted's endpoints for listeners: where sockets cannot be our own, and where a rule names one.

A reload keeps the port of an endpoint. An ``ssl:`` endpoint has read its certificate before that, so the new
one is put in its place here.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from portfwd.kernel.reactor import Reactor
from portfwd.listen.unix_files import DEFAULT_MODE
from portfwd.rules.model import Kind, ListenSpec
from portfwd.values import UnixAddress


def portable_endpoints(reactor: Reactor, spec: ListenSpec, port: int) -> list[IStreamServerEndpoint]:
    """What listens for `spec` on `port`."""
    backlog = spec.options.backlog or socket.SOMAXCONN
    if spec.kind is Kind.UNIX:
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


class _Noting:
    """
    Stands for a reactor while an endpoint is asked to listen.

    :ivar context: the endpoint's certificate, once it was asked.
    """

    def __init__(self) -> None:
        self.context: Any = None

    def listenSSL(self, _port: int, _factory: Factory, **how: Any) -> None:  # noqa: N802 - Twisted's
        """See `IReactorSSL`."""
        self.context = how.get("contextFactory")


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
