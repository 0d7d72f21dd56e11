# -*- test-case-name: tests.listen.test_datagram_port -*-
"""
A listening datagram port of Twisted, for platforms without a poller.

It works as `portfwd.listen.datagram_listener`, except for information that Twisted's ports do not give: the
destination of a datagram (so the system chooses the source address of answers), and the number of dropped
datagrams.
"""

from __future__ import annotations

import socket
from collections.abc import Hashable
from typing import Any, cast

from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol

from portfwd.kernel.datagrams import LARGEST
from portfwd.kernel.reactor import Reactor
from portfwd.kernel.socket_addresses import from_twisted_address
from portfwd.limits.descriptors import Descriptors
from portfwd.listen.datagram_client import DatagramClient, SocketAddress
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.relay.live import LiveRule
from portfwd.values import Address, InetAddress, unmapped


class _Reader(DatagramProtocol):
    """Passes received datagrams to the listener."""

    noisy = False

    def __init__(self, port: DatagramPort) -> None:
        self._port = port

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Pass on one datagram."""
        self._port.received(datagram, addr)


class DatagramPort(DatagramClients):
    """One port."""

    def __init__(
        self, name: str, host: str, port: int, reactor: Reactor, budget: Descriptors, live: LiveRule
    ) -> None:
        """
        Bind. Datagrams that arrive before `begin` wait.

        :param host: a literal, or empty for all addresses.
        :raises OSError: the address cannot be bound.
        """
        super().__init__(name, reactor, budget, live)
        if not host and socket.has_ipv6:
            host = "::"
        self._reader = _Reader(self)
        listen: Any = reactor
        try:
            self._port = listen.listenUDP(port, self._reader, interface=host, maxPacketSize=LARGEST)
        except CannotListenError as problem:
            raise problem.socketError from problem

    @property
    def sock(self) -> socket.socket:
        """The listening socket."""
        sock: socket.socket = self._port.socket
        return sock

    @property
    def address(self) -> Address | None:
        """Its bound address."""
        return None if self._state == "stopped" else from_twisted_address(self._port.getHost())

    def _begin(self) -> None:
        """Do nothing: the port has been reading since it was bound."""

    def _close(self) -> None:
        self._port.stopListening()

    def received(self, data: bytes, sockaddr: SocketAddress) -> None:
        """Handle one datagram."""
        entries = self.table.entries
        one = entries.get(sockaddr) or self._arrived(sockaddr, sockaddr, (), data)
        if one is None:
            return
        entries.move_to_end(sockaddr)
        try:
            one.received(data)
        except BaseException:
            self._failed(one)

    def _address_of(self, sockaddr: SocketAddress) -> Address | None:
        host, port = cast("tuple[str, int]", sockaddr)
        return InetAddress(unmapped(host), port)

    def _local(self, key: Hashable) -> Address | None:
        return self.address

    def send(self, data: bytes, to: DatagramClient) -> bool:
        """Send `data` to a client."""
        transport: IUDPTransport = self._port
        try:
            transport.write(data, to.sockaddr)  # type: ignore[arg-type]
        except (OSError, MessageLengthError):
            self.unsent += 1
            return False
        if to.key in self.table.entries:
            self.table.entries.move_to_end(to.key)
        return True
