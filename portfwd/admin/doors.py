# -*- test-case-name: tests.admin.test_doors -*-
"""
Sockets that operators come in by, and the bound on how many come at once.

Each client gets a protocol of Twisted's. A bounded number of them are inside, so that many of them does
not take the descriptors that sessions need. When another one comes, the least important one inside leaves:
of the source that has most, one that does nothing, the oldest. So neither silent clients nor clients that
do not read can keep an operator out.
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

#: Clients of one socket at a time: a team that all look at ``top``, and their scripts.
MAX_CLIENTS: Final = 32

#: Clients beyond the bound that there may be for a moment: a connection that is ended for another one is gone
#: in the next turn of the reactor, and accepting does not wait for that.
LEAVING: Final = 64

#: Clients that wait for the next turn of the reactor: those of many that come at once.
BACKLOG: Final = 128

#: Clients accepted in one turn of the reactor. Twisted takes half a millisecond to one for each
#: protocol: sessions must not wait for many of them.
BATCH: Final = 2

#: Seconds between two log lines that clients left for others: many clients must not fill the log.
LOG_INTERVAL: Final = 60.0

#: Seconds that a client gets to read the last answer when its door closes: a round trip within this machine.
CLOSING_TIME: Final = 1.0

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


class Standing(enum.IntEnum):
    """What a client is doing, the least important first; a protocol's attribute ``standing``."""

    #: It asks for nothing, or does not read its answers.
    SILENT = 0
    #: It is being served.
    SERVED = 1
    #: It has proven who it is: it never leaves for another one.
    LOGGED_IN = 2


@define
class Guest:
    """
    One client.

    :ivar source: where it comes from, as limits count it.
    :ivar leaves: its connection is being ended for another one.
    """

    protocol: Any
    source: str
    leaves: bool = False

    @property
    def standing(self) -> Standing:
        """What its protocol says it is doing."""
        standing: Standing = getattr(self.protocol, "standing", Standing.SILENT)
        return standing


def least_important(guests: Iterable[Guest]) -> Guest | None:
    """
    Who leaves for another one, of `guests` in the order in which they came; None: nobody.

    It is one of the source that has most. The latest ones, which have had no time to ask for anything, stay.
    """
    guests = [guest for guest in guests if not guest.leaves and guest.standing is not Standing.LOGGED_IN]
    counts = Counter(guest.source for guest in guests)
    most = max(counts.values(), default=0)
    if most > 1:
        largest = next(source for source, count in counts.items() if count == most)
        guests = [guest for guest in guests if guest.source == largest]
    oldest = guests[: len(guests) - max(1, len(guests) // 4)] or guests
    # Of equal ones `min` takes the first.
    return min(oldest, key=lambda guest: guest.standing, default=None)


class Door:
    """
    One bound socket and those who came in by it.

    :ivar listener: accepts them.
    :ivar inside: the connections that are open.
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
        :param bind: makes another such socket, for `renew`.
        :param most: how many are inside at a time; None for `MAX_CLIENTS`.
        :param sock: bound and non-blocking; the door owns it.
        :param make: a protocol for a client that is called so. If it has a method ``finish``, that is
            asked to end the connection when the door closes: something may be to be said before.
        """
        self._reactor = reactor
        self._family = sock.family
        self._make = make
        self.inside: dict[Protocol, Guest] = {}
        self._closed: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None
        most = MAX_CLIENTS if most is None else most
        self._most = most
        self._budget = DescriptorBudget((most + LEAVING) * PER_SESSION + RESERVE, 0)
        self._bind = bind
        self.listener = self._listening(name, sock)
        self._left_for_others = 0
        self._logged_at = -LOG_INTERVAL

    def __repr__(self) -> str:
        return f"<Door {self.listener.name} clients={len(self.inside)}>"

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
        """Where it listens for HTTP: the file of a unix socket, else a URL with `path`."""
        where = self.listener.address
        return str(where) if isinstance(where, UnixAddress) else f"http://{where}{path}"

    def renew(self) -> None:
        """
        If the file of the socket is gone, bind another one; who is inside stays.

        :raises OSError, LooseFile: it cannot be had.
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
        Let them in.

        :raises OSError: somebody else listens there by now.
        """
        self.listener.start()

    def close(self) -> Deferred[None]:
        """Accept no more clients, and close those inside once they have read, within `CLOSING_TIME`."""
        self.listener.stop()
        for protocol in tuple(self.inside):
            finish = getattr(protocol, "finish", None)
            if finish is not None:
                finish()
            else:
                transport: Any = protocol.transport
                transport.unregisterProducer()
                transport.loseConnection()
        closed: Deferred[None] = Deferred()
        if self.inside:
            self._closed = closed
            self._deadline = self._reactor.callLater(CLOSING_TIME, self._show_out)
        else:
            closed.callback(None)
        return closed

    def _show_out(self) -> None:
        for protocol in tuple(self.inside):
            protocol.transport.abortConnection()  # type: ignore[union-attr]

    def _make_room(self, why: str) -> bool:
        leaver = least_important(self.inside.values())
        if leaver is None:
            return False
        self._left_for_others += 1
        self._tell(leaver.source)
        leaver.leaves = True
        leaver.protocol.transport.abortConnection()
        return True

    def _tell(self, source: str) -> None:
        now = self._reactor.seconds()
        if now - self._logged_at < LOG_INTERVAL:
            return
        self._logged_at = now
        count, self._left_for_others = self._left_for_others, 0
        self._log.info(
            "{name}: {count} had to leave for others, the last one from {source}",
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
        # Of a unix socket the user is the source, whatever process it is.
        self.inside[protocol] = Guest(protocol, source_of(address) or name.partition(" (")[0])
        if sum(not guest.leaves for guest in self.inside.values()) > self._most:
            self._make_room("")

    def _left(self, protocol: Protocol) -> None:
        self.inside.pop(protocol, None)
        self._budget.give_back(PER_SESSION)
        if self._closed is not None and not self.inside:
            closed, self._closed = self._closed, None
            if self._deadline is not None and self._deadline.active():
                self._deadline.cancel()
            closed.callback(None)


def renew_all(doors: Iterable[Door]) -> Iterator[str]:
    """Renew each of `doors` that needs it; a line for each that cannot be had."""
    for door in doors:
        try:
            door.renew()
        except (OSError, LooseFile) as problem:
            yield f"{door.listener.name}: its file is gone, and no other can be made: {reason_of(problem)}"


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
