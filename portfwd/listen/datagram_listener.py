# -*- test-case-name: tests.listen.test_datagram_listener -*-
"""
A listening datagram socket of our own.

It has no clients to accept: the first datagram of an address makes an association, and every later
one is that association's, found by the client's address and, on a socket that is bound
to every address, the one it was sent to; answers leave from there. Reading takes a bounded part of
what waits; then others get their turn, so that a client which floods this socket delays nobody elsewhere.

It lasts for as long as there are associations: a listener that is stopped takes no new ones, and is
closed when the last one is over. As there is nobody who ends them, those end then that are silent.
"""

from __future__ import annotations

import socket
from collections.abc import Hashable
from functools import partial
from typing import Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.kernel.datagrams import (
    CONTROL_ROOM,
    LARGEST,
    RECEIVE_BUFFER,
    Ancillary,
    count_drops,
    destination_in,
    enlarge_receive_buffer,
    from_destination,
    to_destination,
)
from portfwd.kernel.poller import Poller
from portfwd.kernel.reactor import Reactor
from portfwd.kernel.sockets import to_address
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.listen.binding import remove_socket_file
from portfwd.listen.correspondent import Correspondent, SocketAddress
from portfwd.listen.datagram_binding import WILDCARDS
from portfwd.relay.associations import Associations
from portfwd.relay.live import LiveRule
from portfwd.relay.states import State
from portfwd.values import REFUSALS, Address, CloseReason, InetAddress

#: Datagrams that are read before others get their turn: as many as keep them waiting for less than a
#: millisecond.
BATCH: Final = 64

#: An association takes one descriptor: its upstream's. Its client has a share of the listening one.
PER_ASSOCIATION: Final = 1

#: Seconds for which a client that was refused is not judged again: a datagram is no
#: connection, and one that floods would have a log line for each.
REFUSED_FOR: Final = 1.0

#: Refused clients that are remembered.
MOST_REFUSED: Final = 1024

#: Seconds of silence after which an association ends when its listener is stopped: longer than
#: an answer of a resolver takes that has to ask others.
LAST_SILENCE: Final = 2.0

#: Seconds between looks at who is silent then.
LAST_LOOK: Final = 0.25

#: Seconds between two log lines about the same trouble.
LOG_INTERVAL: Final = 10.0

# EPOLLIN; see `portfwd.streams.datagram_socket`.
_READABLE: Final = 0x1


class DatagramListener:
    """
    One bound datagram socket and its state: bound, accepting, held, stopping, stopped.

    :ivar accepted: associations that were begun.
    :ivar pauses: 0: the kernel never makes it wait.
    :ivar waits: how often there was no descriptor for another association.
    :ivar limited: 0: nobody waits for a limit.
    :ivar refused: datagrams of clients that had just been refused.
    :ivar unsent: answers that were dropped: the socket's buffer was full, or the kernel did not take them.
    """

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        reactor: Reactor,
        poller: Poller,
        budget: DescriptorBudget,
        live: LiveRule,
    ) -> None:
        """:param sock: bound and non-blocking; the listener owns it."""
        self.name = name
        self._live = live
        self._socket = sock
        self._family = int(sock.family)
        self._poller = poller
        self._reactor = reactor
        self._budget = budget
        self._log = Logger()
        self._state = "bound"
        self._held = False
        self._logged_at = -LOG_INTERVAL
        self._drops_told = 0
        self._look: IDelayedCall | None = None
        self._refused: dict[Hashable, float] = {}
        address = self.address
        self._fixed = None if isinstance(address, InetAddress) and address.host in WILDCARDS else address
        self._port = address.port if isinstance(address, InetAddress) else 0
        self.table: Associations[Correspondent] = Associations(live.options.max_assocs)
        self.accepted = self.pauses = self.waits = self.limited = self.refused = self.unsent = 0

    def __repr__(self) -> str:
        return (
            f"<DatagramListener {self.name} {self.address} {self._state} {len(self.table)} associations"
            f" accepted={self.accepted} evicted={self.table.evicted} drops={self.drops}>"
        )

    @property
    def sock(self) -> socket.socket:
        """What listens."""
        return self._socket

    @property
    def state(self) -> str:
        """What it does, in a word."""
        return self._state

    @property
    def held(self) -> bool:
        """Whether `hold` was called, and `release` was not."""
        return self._held

    @property
    def address(self) -> Address | None:
        """Where it is bound; the wildcard as ``[::]`` or ``0.0.0.0``."""
        return to_address(self._family, self._socket.getsockname()) if self._state != "stopped" else None

    @property
    def drops(self) -> int:
        """Datagrams that the kernel dropped because they were not read in time."""
        return count_drops(self._socket) if self._state != "stopped" else 0

    # As any listener

    def start(self) -> None:
        """
        Take datagrams.

        :raises OSError: the kernel does not let it.
        """
        self.open()
        self.begin()

    def open(self) -> None:
        """
        Be ready: what was sent since the socket was bound waits in its buffer already.

        :raises OSError: the buffer cannot be had.
        """
        self._ask_for_room()

    def begin(self) -> None:
        """Take datagrams."""
        self._state = "held" if self._held else "accepting"
        self._poller.watch(self._socket.fileno(), _READABLE, self)

    def _ask_for_room(self) -> None:
        options = self._live.options
        if options.sndbuf is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.sndbuf)
        size = enlarge_receive_buffer(self._socket, options.rcvbuf or RECEIVE_BUFFER)
        if options.rcvbuf is not None and size < options.rcvbuf:
            self._log.warn(
                "{name}: the system caps the receive buffer at {size} bytes; for rcvbuf={wanted} raise"
                " net.core.rmem_max",
                name=self.name,
                size=size,
                wanted=options.rcvbuf,
            )

    def hold(self) -> None:
        """Begin no association until `release`; those that are there go on."""
        self._held = True
        if self._state == "accepting":
            self._state = "held"

    def release(self) -> None:
        """Begin associations again."""
        self._held = False
        if self._state == "held":
            self._state = "accepting"

    def serve(self, live: LiveRule) -> None:
        """Give the next clients to `live`; associations that are there stay where they are."""
        before, self.name, self._live = self._live.options, live.name, live
        if (before.rcvbuf, before.sndbuf) != (live.options.rcvbuf, live.options.sndbuf):
            self._ask_for_room()
        self.table.most = live.options.max_assocs

    def resize(self, backlog: int | None) -> None:
        """Nobody waits in a backlog here."""

    def take_waiting(self) -> None:
        """Take what waits in the buffer, one part of it, before the listener is stopped."""
        if self._state == "accepting":
            self.run()

    def stop(self) -> None:
        """Begin no association any more; close when those that are there are over."""
        if self._state in ("stopping", "stopped"):
            return
        self._state = "stopping"
        if len(self.table):
            self._look = self._reactor.callLater(LAST_LOOK, self._end_silent)
        else:
            self._close()

    def _end_silent(self) -> None:
        self._look = None
        for one in self.table:
            if one.session is None or one.session.silent_for() >= LAST_SILENCE:
                one.end(CloseReason.DRAIN)
        if len(self.table):
            self._look = self._reactor.callLater(LAST_LOOK, self._end_silent)

    def _close(self) -> None:
        if self._state == "stopped":
            return
        if self._look is not None:
            self._look.cancel()
            self._look = None
        remove_socket_file(self._socket)
        self._state = "stopped"
        self._poller.release(self._socket.fileno(), self._socket)

    # Reading

    def ready(self, events: int) -> None:
        """Datagrams wait."""
        self.run()

    def run(self) -> None:
        """Read what waits, and ask for another turn for what is more than a part."""
        more = self._read_with_destinations() if self._fixed is None else self._read()
        if more and self._state != "stopped":
            self._poller.take_turn(self)
            self._tell_of_drops()

    def _read(self) -> bool:
        entries, receive = self.table.entries, self._socket.recvfrom
        for _ in range(BATCH):
            if self._state == "stopped":
                return False
            try:
                data, key = receive(LARGEST)
            except BlockingIOError:
                return False
            except OSError:
                continue  # an error that waited; there is no datagram in it
            one = entries.get(key)
            if one is None:
                one = self._arrived(key, key, ())
                if one is None:
                    continue
            else:
                entries.move_to_end(key)
            try:
                one.received(data)
            except Exception:
                self._failed(one)
        return True

    def _read_with_destinations(self) -> bool:
        entries, receive = self.table.entries, self._socket.recvmsg
        for _ in range(BATCH):
            if self._state == "stopped":
                return False
            try:
                data, ancillary, _, client = receive(LARGEST, CONTROL_ROOM)
            except BlockingIOError:
                return False
            except OSError:
                continue
            key = (client, destination_in(ancillary))
            one = entries.get(key)
            if one is None:
                one = self._arrived(key, client, from_destination(key[1]))
                if one is None:
                    continue
            else:
                entries.move_to_end(key)
            try:
                one.received(data)
            except Exception:
                self._failed(one)
        return True

    def _failed(self, one: Correspondent) -> None:
        """One client's accident; it is not the others'."""
        self._log.failure("{name}: a datagram of {client} failed", name=self.name, client=one.address)
        one.end(CloseReason.INTERNAL)

    def failed(self, failure: Failure) -> None:
        """Our own mistake, which is logged already; what was not read yet still is to be."""
        if self._state != "stopped":
            self._poller.take_turn(self)

    # Clients

    def _arrived(self, key: Hashable, sockaddr: SocketAddress, ancillary: Ancillary) -> Correspondent | None:
        """A client that has no association: a new one's first datagram, unless it may not have one."""
        if self._state != "accepting":
            return None
        if self._refused and self._is_refused(key):
            self.refused += 1
            return None
        address = to_address(self._family, sockaddr)
        if isinstance(address, InetAddress) and not address.port:
            return None  # nobody can be answered there
        self.table.make_room()
        if not self._has_descriptor():
            return None
        local = self._fixed
        if local is None and isinstance(key, tuple):
            local = to_destination(key[1], self._port)
        one = Correspondent(self, key, sockaddr, ancillary, address, local)
        self.table.add(key, one)
        self.accepted += 1
        give_back = partial(self._budget.give_back, PER_ASSOCIATION)
        one.session = session = self._live.arrive(one, give_back)
        if session.state is State.CLOSED:
            if session.reason in REFUSALS:
                self._refuse(key)
            return None
        return one

    def _has_descriptor(self) -> bool:
        if self._budget.take(PER_ASSOCIATION):
            return True
        self.waits += 1
        self._complain("{name}: no descriptors for more associations ({budget!r}); the oldest go")
        return self.table.evict_oldest() and self._budget.take(PER_ASSOCIATION)

    def _refuse(self, key: Hashable) -> None:
        if len(self._refused) >= MOST_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._refused[key] = self._reactor.seconds() + REFUSED_FOR

    def _is_refused(self, key: Hashable) -> bool:
        until = self._refused.get(key)
        if until is None:
            return False
        if until > self._reactor.seconds():
            return True
        del self._refused[key]
        return False

    # What correspondents ask

    def send(self, data: bytes, to: Correspondent) -> bool:
        """Send `data` to a client, from where it sent to."""
        try:
            if to.ancillary:
                self._socket.sendmsg((data,), to.ancillary, 0, to.sockaddr)
            else:
                self._socket.sendto(data, to.sockaddr)
        except OSError as problem:
            if to.ancillary and not isinstance(problem, BlockingIOError):
                # No address to answer from (a broadcast, or one that was taken away): let the kernel choose.
                to.ancillary = ()
                return self.send(data, to)
            self.unsent += 1
            return False
        entries = self.table.entries
        if to.key in entries:
            entries.move_to_end(to.key)
        return True

    def left(self, who: Correspondent) -> None:
        """An association is over."""
        self.table.forget(who.key, who)
        if self._state == "stopping" and not len(self.table):
            self._close()

    # What it tells

    def _tell_of_drops(self) -> None:
        now = self._reactor.seconds()
        if now - self._logged_at < LOG_INTERVAL:
            return
        drops = self.drops
        if drops > self._drops_told:
            self._complain(
                "{name}: the kernel dropped {count} datagrams that came faster than they were read;"
                " a larger rcvbuf= takes longer bursts",
                count=drops - self._drops_told,
            )
            self._drops_told = drops

    def _complain(self, text: str, **values: object) -> None:
        now = self._reactor.seconds()
        if now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            self._log.warn(text, name=self.name, budget=self._budget, **values)
