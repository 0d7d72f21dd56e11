# -*- test-case-name: tests.upstreams.test_datagram_port -*-
"""A connected datagram port of Twisted to an upstream, for platforms without portfwd's own sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.protocol import DatagramProtocol

from portfwd.errors import ConnectFailed
from portfwd.kernel.datagrams import LARGEST
from portfwd.kernel.socket_addresses import from_twisted_address
from portfwd.rules.model import Options
from portfwd.streams.datagrams.carrier import Taker, UpstreamCarrier, end_refused
from portfwd.streams.datagrams.datagram_stream import DatagramStream
from portfwd.streams.transports.transport import TransportStream
from portfwd.upstreams.connect import AttemptOwner, dial_error
from portfwd.values import Address, InetAddress, UnixAddress

#: The most likely cause of an error of a connected port; Twisted does not report the cause.
REFUSED: Final = "Connection refused"


class ConnectedPort(DatagramProtocol):
    """
    Carries the datagrams of a port.

    :ivar address: the peer's address.
    :ivar local: the local address.
    :ivar is_open: whether the port was not closed yet.
    :ivar taker: receives the datagrams.
    :ivar refused: called if the peer's port is closed; it decides whether the taker ends.
    """

    noisy = False

    def __init__(self, address: Address) -> None:
        self.address: Address | None = address
        self.local: Address | None = None
        self.taker: Taker | None = None
        self.is_open = True
        self._port: Any = None
        self.refused: Callable[[UpstreamCarrier, str], None] = end_refused

    def startProtocol(self) -> None:
        """The port is bound."""
        self._port = self.transport

    def __repr__(self) -> str:
        return f"<ConnectedPort to {self.address} {'open' if self.is_open else 'closed'}>"

    def carry(self, taker: Taker) -> None:
        """Pass received datagrams to `taker`."""
        self.taker = taker

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """A datagram was received."""
        if self.is_open and self.taker is not None:
            self.taker.received(datagram)

    def connectionRefused(self) -> None:
        """The peer's port is closed."""
        if self.is_open:
            self._refused()

    def _refused(self) -> None:
        self.refused(self, REFUSED)

    def stopProtocol(self) -> None:
        """The port was closed, by us or after an error: an epoll reactor closes the port then."""
        if self.is_open:
            self.is_open = False
            self._refused()

    def send(self, data: bytes) -> bool:
        """Send one datagram; return whether the kernel accepted it."""
        try:
            self._port.write(data)
        except (OSError, MessageLengthError):
            return False
        return True

    def close(self) -> None:
        """Close the port."""
        if self.is_open:
            self.is_open = False
            self._port.stopListening()


#: Makes the stream that a session sees.
Reach = Callable[[UpstreamCarrier], DatagramStream | TransportStream]


class PortAttempt:
    """An attempt whose outcome is reported before `start` returns."""

    def __init__(
        self, reactor: Any, address: Address, options: Options, owner: AttemptOwner, reach: Reach
    ) -> None:
        """
        :param address: an IP address and port.
        :param reach: makes a stream for a carrier.
        """
        self.seen: int | None = None
        self.address: Address | None = address
        self._reactor = reactor
        self._target = address
        self._options = options
        self._owner = owner
        self._reach = reach

    def __repr__(self) -> str:
        return f"<PortAttempt {self._target}>"

    def start(self) -> None:
        """Bind any port and connect it."""
        target = self._target
        if isinstance(target, UnixAddress):
            self._owner.failed(self, ConnectFailed(f"{target}: no datagrams to unix sockets here"))
            return
        try:
            carrier = self._connected(target)
        except OSError as problem:
            self._owner.failed(self, dial_error(problem, target))
        else:
            self._owner.connected(self, self._reach(carrier))

    def _connected(self, target: InetAddress) -> ConnectedPort:
        carrier = ConnectedPort(target)
        interface = self._options.src or ("::" if ":" in target.host else "")
        try:
            port = self._reactor.listenUDP(0, carrier, interface=interface, maxPacketSize=LARGEST)
        except CannotListenError as problem:
            raise problem.socketError from problem
        try:
            port.connect(target.host, target.port)
        except OSError:
            port.stopListening()
            raise
        carrier.local = from_twisted_address(port.getHost())
        return carrier

    def cancel(self) -> None:
        """Do nothing: the attempt is over when `start` returns."""
