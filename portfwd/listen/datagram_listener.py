# -*- test-case-name: tests.listen.test_datagram_listener -*-
"""
A listening datagram socket in the poller.

A datagram belongs to the association with the client's address and, if the socket is bound to all addresses,
the local address to which it was sent. Answers leave from that address. Each turn reads a bounded number of
datagrams, so a flood on this socket does not delay other sessions.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Hashable, Sequence
from contextlib import suppress
from typing import Final

from twisted.python.failure import Failure

from portfwd.kernel.datagrams import (
    CONTROL_ROOM,
    LARGEST,
    LARGEST_UNIX,
    RECEIVE_BUFFER,
    count_drops,
    destination_in,
    enlarge_receive_buffer,
    from_destination,
    loopback_of,
    mapped,
    packed_host,
    to_destination,
)
from portfwd.kernel.failures import log_warning
from portfwd.kernel.polling import Polling
from portfwd.kernel.reactor import Reactor
from portfwd.kernel.socket_addresses import to_address
from portfwd.limits.descriptors import Descriptors
from portfwd.listen.datagram_binding import WILDCARDS
from portfwd.listen.datagram_client import DatagramClient, SocketAddress
from portfwd.listen.datagram_clients import LOG_INTERVAL, DatagramClients
from portfwd.listen.held_datagrams import HeldDatagram
from portfwd.listen.unix_files import SocketFile, socket_file
from portfwd.relay.live import LiveRule
from portfwd.rules.steps import Steps
from portfwd.values import Address, InetAddress, counted

#: Datagrams read in one turn. They take less than a millisecond.
BATCH: Final = 64

#: New clients served in one turn. Beginning an association takes about 100 microseconds if another one must
#: end for it, so a flood of new sources must not use a whole `BATCH`.
NEW_AT_ONCE: Final = 8

#: Errors of an invalid source address for an answer.
_NOT_OURS: Final = frozenset({errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENETUNREACH})

# EPOLLIN; see `portfwd.streams.datagrams.datagram_socket`.
_READABLE: Final = 0x1


class DatagramListener(DatagramClients):
    """
    One bound datagram socket.

    :ivar queued: see `portfwd.kernel.polling.Turn`.
    """

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        reactor: Reactor,
        poller: Polling,
        budget: Descriptors,
        live: LiveRule,
        *,
        inherited: bool = False,
    ) -> None:
        """
        :param sock: bound and non-blocking; the listener owns it.
        :param inherited: whether another program has bound it and owns the file of a unix socket.
        """
        super().__init__(name, reactor, budget, live)
        self._socket = sock
        self._file = None if inherited else socket_file(sock)
        self._family = int(sock.family)
        self._poller = poller
        self.queued = False
        self._drops_told = 0
        self._open = False
        self._asked_for: tuple[int | None, int | None] = (None, None)
        self._unix = sock.family == getattr(socket, "AF_UNIX", None)
        address = self.address
        self._fixed = None if isinstance(address, InetAddress) and address.host in WILDCARDS else address
        self._port = address.port if isinstance(address, InetAddress) else 0

    @property
    def file(self) -> SocketFile | None:
        """See `DatagramClients.file`."""
        return self._file

    @property
    def sock(self) -> socket.socket:
        """The listening socket."""
        return self._socket

    @property
    def address(self) -> Address | None:
        """Its bound address; the wildcard is ``[::]`` or ``0.0.0.0``."""
        return to_address(self._family, self._socket.getsockname()) if self._state != "stopped" else None

    @property
    def drops(self) -> int:
        """Number of datagrams that the kernel dropped because they were not read in time."""
        return count_drops(self._socket) if self._state != "stopped" else 0

    def open(self) -> None:
        """
        Prepare to read. Datagrams sent since the socket was bound are in its buffer.

        :raises OSError: the buffer cannot be set.
        """
        if not self._open:
            self._ask_for_room()
            self._poller.watch(self._socket.fileno(), 0, self)
            self._open = True

    def _begin(self) -> None:
        self._poller.watch(self._socket.fileno(), _READABLE, self)

    def _ask_for_room(self) -> None:
        options = self._live.options
        self._asked_for = options.rcvbuf, options.sndbuf
        if options.sndbuf is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.sndbuf)
        size = enlarge_receive_buffer(self._socket, options.rcvbuf or RECEIVE_BUFFER)
        if options.rcvbuf is not None and size < options.rcvbuf:
            log_warning(
                self._log,
                "{name}: the system caps the receive buffer at {size}; for rcvbuf={wanted} raise"
                " net.core.rmem_max",
                name=self.name,
                size=counted(size, "byte"),
                wanted=options.rcvbuf,
            )

    def resize(self, backlog: int | None) -> None:
        """
        Resize the buffers to the current options of the rule.

        :raises OSError: the kernel refused.
        """
        options = self._live.options
        if (options.rcvbuf, options.sndbuf) != self._asked_for:
            self._ask_for_room()

    def take_waiting(self) -> None:
        """Read one batch of the buffer and serve held datagrams, before a stop."""
        if self._state in ("accepting", "held"):
            for _ in range(BATCH // NEW_AT_ONCE):
                self.run()
            super().take_waiting()

    def _close(self) -> None:
        if self._file is not None:
            self._file.remove()
        # The program that passed the socket may still have it open. Closing alone would leave it in the epoll
        # set.
        self._poller.forget(self._socket, inherited=True)

    # Reading

    def ready(self, events: int) -> None:
        """Read waiting datagrams, unless a turn is queued, which will read them."""
        if not self.queued:
            self.run()

    def run(self) -> None:
        """Read a batch of waiting datagrams, and queue another turn if there are more."""
        more = self._read_with_destinations() if self._fixed is None else self._read()
        if more and self._state != "stopped":
            self._poller.take_turn(self)
            self._tell_of_drops()

    def _read(self) -> bool:
        entries = self.table.entries
        receive = self._receive_whole if self._unix else self._socket.recvfrom
        new = 0
        for _ in range(BATCH):
            if self._state == "stopped":
                return False
            if new == NEW_AT_ONCE:
                break
            try:
                data, key = receive(LARGEST)
            except BlockingIOError:
                return False
            except OSError:
                continue  # a pending error of the socket; no datagram was read
            one = entries.get(key)
            if one is None:
                new += 1
                one = self._arrived(key, key, (), data)
                if one is None:
                    continue
            else:
                entries.move_to_end(key)
            try:
                one.received(data)
            except BaseException:
                self._failed(one)
        return True

    def _receive_whole(self, size: int) -> tuple[bytes, SocketAddress]:
        """
        Read the next datagram of a unix socket that is not too long. `size` is ignored.

        It reads one byte more than allowed, because ``MSG_TRUNC`` needs a slower call.
        """
        while True:
            data, key = self._socket.recvfrom(LARGEST_UNIX + 1)
            if len(data) <= LARGEST_UNIX:
                return data, key
            self.too_long += 1
            self._complain(
                "{name}: a datagram of more than {most} was dropped", most=counted(LARGEST_UNIX, "byte")
            )

    def _read_with_destinations(self) -> bool:
        entries, receive = self.table.entries, self._socket.recvmsg
        new = 0
        for _ in range(BATCH):
            if self._state == "stopped":
                return False
            if new == NEW_AT_ONCE:
                break
            try:
                data, ancillary, flags, client = receive(LARGEST, CONTROL_ROOM)
            except BlockingIOError:
                return False
            except OSError:
                continue
            if flags & socket.MSG_TRUNC:  # pragma: no cover - nothing is longer without jumbograms
                self.too_long += 1
                continue
            key = (client, destination_in(ancillary))
            one = entries.get(key)
            if one is None:
                new += 1
                one = self._arrived(key, client, from_destination(key[1]), data)
                if one is None:
                    continue
            else:
                entries.move_to_end(key)
            try:
                one.received(data)
            except BaseException:
                self._failed(one)
        return True

    def failed(self, failure: Failure) -> None:
        """A turn raised an exception, which is logged. Continue with the remaining datagrams."""
        if self._state != "stopped":
            self._poller.take_turn(self)

    # After a refused reload

    def hand_back(self, others: Sequence[DatagramClients]) -> Steps[None]:
        """See `DatagramClients.hand_back`."""
        if self._state != "bound" or self._unix:
            return
        # Connected to itself, the socket receives no more datagrams, and the kernel delivers them to the
        # others.
        with suppress(OSError):
            self._socket.connect(loopback_of(self._socket))
        own = b"" if self._fixed is None else packed_host(self._socket.getsockname()[0])
        while True:
            for _ in range(BATCH):
                try:
                    data, ancillary, _, client = self._socket.recvmsg(LARGEST, CONTROL_ROOM)
                except BlockingIOError:
                    return
                except OSError:
                    continue
                destination = destination_in(ancillary) or own
                for one in others:
                    if isinstance(one, DatagramListener) and one._get_back(data, client, destination):
                        break
            yield

    def _get_back(self, data: bytes, client: SocketAddress, destination: bytes) -> bool:
        """Accept a datagram received by another socket. False if this one would not have received it."""
        if self._state == "stopped":
            return False
        if self._family == socket.AF_INET6:
            client, destination = mapped(client, destination)
        elif len(destination) != 4:
            return False
        if self._fixed is None:
            key: Hashable = (client, destination)
            self.take(HeldDatagram(self, key, client, from_destination(destination), data))
        elif to_destination(destination, self._port, client) == self._fixed:
            self.take(HeldDatagram(self, client, client, (), data))
        else:
            return False
        return True

    # Clients

    def _address_of(self, sockaddr: SocketAddress) -> Address | None:
        return to_address(self._family, sockaddr)

    def _local(self, key: Hashable) -> Address | None:
        if self._fixed is None and isinstance(key, tuple):
            return to_destination(key[1], self._port, key[0])
        return self._fixed

    def send(self, data: bytes, to: DatagramClient) -> bool:
        """Send `data` to a client from the address that it has used."""
        if to.sockaddr is None:
            return False
        try:
            if to.ancillary:
                self._socket.sendmsg((data,), to.ancillary, 0, to.sockaddr)
            else:
                self._socket.sendto(data, to.sockaddr)
        except OSError as problem:
            if to.ancillary and problem.errno in _NOT_OURS:
                # The address cannot be a source (broadcast, or removed): let the kernel choose.
                ancillary, to.ancillary = to.ancillary, ()
                if self.send(data, to):
                    return True
                to.ancillary = ancillary  # that was not it
                return False
            self.unsent += 1
            return False
        entries = self.table.entries
        if to.key in entries:
            entries.move_to_end(to.key)
        return True

    def _tell_of_drops(self) -> None:
        now = self._reactor.seconds()
        if now - self._logged_at < LOG_INTERVAL:
            return
        drops = self.drops
        if drops > self._drops_told:
            self._complain(
                "{name}: the kernel dropped {count} that came faster than they were read;"
                " a larger rcvbuf= takes longer bursts",
                count=counted(drops - self._drops_told, "datagram"),
            )
            self._drops_told = drops
