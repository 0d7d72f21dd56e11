# -*- test-case-name: tests.admin.test_doors -*-
"""
Sockets that operators come in by, and the bound on how many come at once.

Each client gets a protocol of Twisted's; who comes when `MAX_CLIENTS` are there waits in the
backlog, so that no crowd of them takes the descriptors that sessions need.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorSocket
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.python.failure import Failure

from portfwd.kernel.reactor import Reactor
from portfwd.limits.descriptors import PER_SESSION, RESERVE, DescriptorBudget
from portfwd.listen.listener import Listener
from portfwd.values import Address

#: Clients of one socket at a time: a team that all look at ``top``, and their scripts.
MAX_CLIENTS: Final = 32

#: Seconds that a client gets to read the last answer when its door closes: a round trip within this machine.
FAREWELL: Final = 1.0

_CREDENTIALS: Final = struct.Struct("iII")


def peer_name(sock: socket.socket, address: Address | None) -> str:
    """
    Who a client is, for the log: of a unix socket the kernel knows process and user.

    :param address: what it shows for others.
    """
    peer = getattr(socket, "SO_PEERCRED", None)
    if sock.family == getattr(socket, "AF_UNIX", None) and peer is not None:
        process, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, peer, _CREDENTIALS.size))
        return f"uid {user} (pid {process})"
    return "a local user" if address is None else str(address)


class Door:
    """
    One bound socket and those who came in by it.

    :ivar listener: accepts them.
    """

    def __init__(
        self, name: str, sock: socket.socket, reactor: Reactor, make: Callable[[str], Protocol]
    ) -> None:
        """
        :param sock: bound and non-blocking; the door owns it.
        :param make: a protocol for a client that is called so. If it has a method ``finish``, that is
            asked to end the connection when the door closes: something may be to be said before.
        """
        self._reactor = reactor
        self._family = sock.family
        self._make = make
        self._inside: set[Protocol] = set()
        self._closed: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None
        self._budget = DescriptorBudget(MAX_CLIENTS * PER_SESSION + RESERVE, 0)
        self.listener = Listener(name, sock, reactor, self._budget, self._accept, MAX_CLIENTS)

    def __repr__(self) -> str:
        return f"<Door {self.listener.name} clients={len(self._inside)}>"

    def open(self) -> None:
        """
        Let them in.

        :raises OSError: somebody else listens there by now.
        """
        self.listener.start()

    def close(self) -> Deferred[None]:
        """Let nobody in, and show all out; the last answers are sent, to who reads them within `FAREWELL`."""
        self.listener.stop()
        for protocol in tuple(self._inside):
            finish = getattr(protocol, "finish", None)
            if finish is not None:
                finish()
            else:
                transport: Any = protocol.transport
                transport.unregisterProducer()
                transport.loseConnection()
        closed: Deferred[None] = Deferred()
        if self._inside:
            self._closed = closed
            self._deadline = self._reactor.callLater(FAREWELL, self._show_out)
        else:
            closed.callback(None)
        return closed

    def _show_out(self) -> None:
        for protocol in tuple(self._inside):
            protocol.transport.abortConnection()  # type: ignore[union-attr]

    def _accept(self, client: socket.socket, address: Address | None) -> None:
        protocol = self._make(peer_name(client, address))
        left = partial(self._left, protocol)
        factory = _OneClient(protocol, left)
        try:
            IReactorSocket(self._reactor).adoptStreamConnection(client.fileno(), self._family, factory)
        finally:
            client.close()
        self._inside.add(protocol)

    def _left(self, protocol: Protocol) -> None:
        self._inside.discard(protocol)
        self._budget.give_back(PER_SESSION)
        if self._closed is not None and not self._inside:
            closed, self._closed = self._closed, None
            if self._deadline is not None and self._deadline.active():
                self._deadline.cancel()
            closed.callback(None)


class _OneClient(ServerFactory):
    """Gives one connection its protocol, and says when it is lost."""

    noisy = False

    def __init__(self, protocol: Protocol, left: Callable[[], None]) -> None:
        self._protocol = protocol
        lost: Any = protocol.connectionLost

        def connection_lost(reason: Failure) -> None:
            left()
            lost(reason)

        vars(protocol)["connectionLost"] = connection_lost

    def buildProtocol(self, address: object) -> Protocol:
        """The protocol."""
        return self._protocol
