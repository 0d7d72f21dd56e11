# -*- test-case-name: tests.service.test_portforward -*-
"""
Clients that a program accepts by itself and hands in: as sockets, or as connections of Twisted's.

It listens nowhere. A rule whose relay is of sockets takes sockets, any other one takes connections.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from zope.interface import implementer

from portfwd.listen.accept_limit import Accept


@implementer(IStreamServerEndpoint)
class HandedClients:
    """
    An endpoint in the place of a listener.

    :ivar hands_sockets: see `ListenSpec.is_plain`.
    :ivar accept: takes a socket, once its rule listens and relays sockets; it must be nobody else's.
    :ivar factory: makes the stream of a connection, once its rule listens and relays no sockets.
    """

    def __init__(self, *, hands_sockets: bool) -> None:
        """:param hands_sockets: clients may come as plain sockets."""
        self.hands_sockets = hands_sockets
        self.accept: Accept | None = None
        self.factory: Any = None

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """See `IStreamServerEndpoint`."""
        self.factory = protocolFactory
        return succeed(cast(IListeningPort, _NoPort()))


@implementer(IListeningPort)
class _NoPort:
    """The port of a `HandedClients`."""

    def startListening(self) -> None:
        """See `IListeningPort`."""

    def stopListening(self) -> None:
        """See `IListeningPort`."""

    def getHost(self) -> IAddress:
        """See `IListeningPort`; it has no address."""
        return cast(IAddress, None)
