# -*- test-case-name: tests.listen.test_datagram_listener -*-
"""One client of a listening datagram socket, and the transport of its association."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, Protocol

from portfwd.kernel.datagrams import Ancillary
from portfwd.relay.first_datagram import FirstDatagram
from portfwd.streams.datagrams.carrier import Taker
from portfwd.values import Address, CloseReason

if TYPE_CHECKING:
    from portfwd.relay.session import Session

#: The address of a client in the socket module: a tuple for IP, a name for unix sockets, None for a unix
#: socket without a name, which cannot be answered.
SocketAddress = tuple[Any, ...] | str | bytes | None


class DatagramClientOwner(Protocol):
    """The interface of the listener to its clients."""

    def send(self, data: bytes, to: DatagramClient) -> bool:
        """Send `data` from the address that the client has used. False if it was dropped."""

    def left(self, who: DatagramClient, reason: CloseReason | None) -> None:
        """`who` does not send or receive any more; `reason` is its session's, if it had one."""


class DatagramClient:
    """
    A client.

    :ivar key: its key in the table of the listener: its address, and the local address that it has used.
    :ivar sockaddr: destination of answers.
    :ivar ancillary: control message that sets the source of answers to the address that the client has used.
    :ivar session: its session, if it has begun.
    :ivar first: its first datagram, if that may be given to another target; None once it was answered.
    :ivar received: called with each datagram of this client.
    """

    __slots__ = (
        "_also_left",
        "_open",
        "_owner",
        "address",
        "ancillary",
        "first",
        "key",
        "local",
        "received",
        "session",
        "sockaddr",
    )

    def __init__(
        self,
        owner: DatagramClientOwner,
        key: Hashable,
        sockaddr: SocketAddress,
        ancillary: Ancillary,
        address: Address | None,
        local: Address | None,
    ) -> None:
        self._owner = owner
        self._open = True
        self._also_left: Callable[[], object] | None = None
        self.key: Final = key
        self.sockaddr: Final = sockaddr
        self.ancillary = ancillary
        self.address = address
        self.local = local
        self.session: Session | None = None
        self.first: FirstDatagram | None = None
        self.received: Callable[[bytes], None] = _ignore

    def __repr__(self) -> str:
        return f"<DatagramClient {self.address} at {self.local} {'open' if self._open else 'closed'}>"

    @property
    def is_open(self) -> bool:
        """Whether it is in the table of a listener."""
        return self._open

    def hand_over(self, left: Callable[[], object]) -> None:
        """
        Another listener receives its datagrams from now on.

        Answers use the old one; `left` is called last.
        """
        self._also_left = left

    def carry(self, taker: Taker) -> None:
        """Pass received datagrams to `taker`."""
        self.received = taker.received

    def send(self, data: bytes) -> bool:
        """Send a datagram to the client."""
        self.first = None
        return self._open and self._owner.send(data, self)

    def close(self) -> None:
        """Leave the table of the listener."""
        if self._open:
            self._open = False
            self.received = _ignore
            session, self.session = self.session, None
            self._owner.left(self, None if session is None else session.reason)
            if self._also_left is not None:
                self._also_left()

    def evict(self) -> None:
        """End the association to make room for another client."""
        self.end(CloseReason.LIMIT)

    def end(self, reason: CloseReason) -> None:
        """End the session, if there is one."""
        if self.session is not None:
            self.session.kill(reason)
        self.close()


def _ignore(data: bytes) -> None:
    """Drop a datagram, because there is no receiver."""
