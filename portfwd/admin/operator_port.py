# -*- test-case-name: tests.admin.test_operator_port -*-
"""
Listening sockets for operators, with a bound on the number of clients.

Each client gets a protocol of Twisted. The number of clients is bounded, so that they do not use the
descriptors that sessions need. If a further client connects, the least important client is disconnected: the
oldest inactive one of the source with most clients. So neither inactive clients nor clients that do not read
can keep an operator out.
"""

from __future__ import annotations

import enum
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorSocket
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.admin.tight_files import LooseFile
from portfwd.errors import reason_of
from portfwd.kernel.reactor import Reactor
from portfwd.limits.descriptors import PER_SESSION, RESERVE, DescriptorBudget
from portfwd.limits.source_counts import source_of
from portfwd.listen.listener import Listener
from portfwd.values import Address, UnixAddress, counted

#: Maximum clients of one socket: enough for a team that runs ``top``, and for their scripts.
MAX_CLIENTS: Final = 32

#: Maximum clients above the bound. An evicted connection is closed in the next iteration of the reactor, and
#: accepting does not wait for that.
MAX_EVICTED: Final = 64

#: Clients that wait to be accepted if many connect at once.
BACKLOG: Final = 128

#: Clients accepted per iteration of the reactor. Twisted needs 0.5 to 1 ms for each protocol, which delays
#: sessions.
BATCH: Final = 2

#: Minimum seconds between two log lines about evicted clients, so that they do not fill the log.
LOG_INTERVAL: Final = 60.0

#: Maximum seconds for a client to read the last answer when its socket closes: a round trip within this
#: machine.
CLOSING_TIME: Final = 1.0

_CREDENTIALS: Final = struct.Struct("iII")


def peer_name(sock: socket.socket, address: Address | None) -> str:
    """
    The name of a client in the log. For a unix socket it has the user and process that the kernel reports.

    :param address: the address of the client, used for other sockets.
    """
    peer = getattr(socket, "SO_PEERCRED", None)
    if sock.family == getattr(socket, "AF_UNIX", None) and peer is not None:
        process, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, peer, _CREDENTIALS.size))
        return f"uid {user} (pid {process})"
    return "a local user" if address is None else str(address)


class Priority(enum.IntEnum):
    """The importance of a client, the least important first; the attribute ``priority`` of a protocol."""

    #: It has no request, or does not read its answers.
    INACTIVE = 0
    #: Its request is being served.
    SERVED = 1
    #: It has logged in, and is never evicted.
    LOGGED_IN = 2


@define
class OperatorClient:
    """
    One client.

    :ivar source: its source, as limits count it.
    :ivar is_evicted: whether its connection is being closed in favour of another one.
    """

    protocol: Any
    source: str
    is_evicted: bool = False

    @property
    def priority(self) -> Priority:
        """The priority of its protocol."""
        priority: Priority = getattr(self.protocol, "priority", Priority.INACTIVE)
        return priority


def least_important(clients: Iterable[OperatorClient]) -> OperatorClient | None:
    """
    The client to evict.

    It belongs to the source with most clients. The latest quarter is not considered, because these clients
    had no time to send a request.

    :param clients: in the order of their connections.
    :returns: None if no client can be evicted.
    """
    clients = [one for one in clients if not one.is_evicted and one.priority is not Priority.LOGGED_IN]
    counts = Counter(client.source for client in clients)
    most = max(counts.values(), default=0)
    if most > 1:
        largest = next(source for source, count in counts.items() if count == most)
        clients = [client for client in clients if client.source == largest]
    oldest = clients[: len(clients) - max(1, len(clients) // 4)] or clients
    # `min` returns the first of equal ones.
    return min(oldest, key=lambda client: client.priority, default=None)


class OperatorPort:
    """
    One bound socket and its clients.

    :ivar listener: accepts clients.
    :ivar clients: the open connections.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        reactor: Reactor,
        make: Callable[[str], Protocol],
        most: int | None = None,
        bind: Callable[[], socket.socket] | None = None,
    ) -> None:
        """
        :param sock: bound and non-blocking; this object owns it.
        :param make: makes the protocol of a client with this name. If the protocol has a method ``finish``,
            `close` calls it to end the connection, so that it can send a last answer.
        :param most: maximum clients; None for `MAX_CLIENTS`.
        :param bind: binds the socket again, for `renew`.
        """
        self._reactor = reactor
        self._family = sock.family
        self._make = make
        self.clients: dict[Protocol, OperatorClient] = {}
        self._closed: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None
        most = MAX_CLIENTS if most is None else most
        self._most = most
        self._budget = DescriptorBudget((most + MAX_EVICTED) * PER_SESSION + RESERVE, 0)
        self._bind = bind
        self.listener = self._listening(name, sock)
        self._evicted = 0
        self._logged_at = -LOG_INTERVAL

    def __repr__(self) -> str:
        return f"<OperatorPort {self.listener.name} clients={len(self.clients)}>"

    def _listening(self, name: str, sock: socket.socket) -> Listener:
        return Listener(
            name,
            sock,
            self._reactor,
            self._budget,
            self._accept,
            BACKLOG,
            make_room=self._make_room,
            batch=BATCH,
        )

    def url(self, path: str) -> str:
        """The address for HTTP: the file of a unix socket, or a URL with `path`."""
        where = self.listener.address
        return str(where) if isinstance(where, UnixAddress) else f"http://{where}{path}"

    def renew(self) -> None:
        """
        If the file of the unix socket was removed, bind the socket again. Clients stay connected.

        :raises OSError, LooseFile: it cannot be bound.
        """
        old = self.listener
        if self._bind is None or old.file is None or not old.file.is_gone:
            return
        old.file.step_aside(old.sock)
        try:
            fresh = self._listening(old.name, self._bind())
            fresh.start()
        except BaseException:
            old.file.step_back(old.sock)
            raise
        old.stop()
        self.listener = fresh

    def open(self) -> None:
        """
        Accept clients.

        :raises OSError: another process listens at the address.
        """
        self.listener.start()

    def close(self) -> Deferred[None]:
        """Stop accepting. Close connections when they have sent their last bytes, or after `CLOSING_TIME`."""
        self.listener.stop()
        for protocol in tuple(self.clients):
            finish = getattr(protocol, "finish", None)
            if finish is not None:
                finish()
            else:
                transport: Any = protocol.transport
                transport.unregisterProducer()
                transport.loseConnection()
        closed: Deferred[None] = Deferred()
        if self.clients:
            self._closed = closed
            self._deadline = self._reactor.callLater(CLOSING_TIME, self._abort_clients)
        else:
            closed.callback(None)
        return closed

    def _abort_clients(self) -> None:
        for protocol in tuple(self.clients):
            protocol.transport.abortConnection()  # type: ignore[union-attr]

    def _make_room(self, why: str) -> bool:
        client = least_important(self.clients.values())
        if client is None:
            return False
        self._evicted += 1
        self._log_evicted(client.source)
        client.is_evicted = True
        client.protocol.transport.abortConnection()
        return True

    def _log_evicted(self, source: str) -> None:
        now = self._reactor.seconds()
        if now - self._logged_at < LOG_INTERVAL:
            return
        self._logged_at = now
        count, self._evicted = self._evicted, 0
        self._log.info(
            "{name}: {count} disconnected in favour of others, the last one from {source}",
            name=self.listener.name,
            count=counted(count, "client"),
            source=source,
        )

    def _accept(self, client: socket.socket, address: Address | None) -> None:
        name = peer_name(client, address)
        protocol = self._make(name)
        left = partial(self._left, protocol)
        factory = _OneClient(protocol, left)
        try:
            IReactorSocket(self._reactor).adoptStreamConnection(client.fileno(), self._family, factory)
        finally:
            client.close()
        # The source of a client of a unix socket is its user.
        self.clients[protocol] = OperatorClient(protocol, source_of(address) or name.partition(" (")[0])
        if sum(not one.is_evicted for one in self.clients.values()) > self._most:
            self._make_room("")

    def _left(self, protocol: Protocol) -> None:
        self.clients.pop(protocol, None)
        self._budget.give_back(PER_SESSION)
        if self._closed is not None and not self.clients:
            closed, self._closed = self._closed, None
            if self._deadline is not None and self._deadline.active():
                self._deadline.cancel()
            closed.callback(None)


def renew_all(ports: Iterable[OperatorPort]) -> Iterator[str]:
    """Call `renew` of all `ports`; yield one line for each that cannot be bound."""
    for port in ports:
        try:
            port.renew()
        except (OSError, LooseFile) as problem:
            yield (
                f"{port.listener.name}: its file was removed and cannot be made again: {reason_of(problem)}"
            )


class _OneClient(ServerFactory):
    """Returns the protocol of one connection, and calls `left` when the connection is lost."""

    noisy = False

    def __init__(self, protocol: Protocol, left: Callable[[], None]) -> None:
        self._protocol = protocol
        lost: Any = protocol.connectionLost

        def connection_lost(reason: Failure) -> None:
            left()
            lost(reason)

        vars(protocol)["connectionLost"] = connection_lost

    def buildProtocol(self, address: object) -> Protocol:
        """See `IProtocolFactory`."""
        return self._protocol
