# -*- test-case-name: tests.listen.test_datagram_listener -*-
"""One client of a listening datagram socket: the carrier of its association's datagrams."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, Protocol

from portfwd.kernel.datagrams import Ancillary
from portfwd.streams.datagrams.carrier import Taker
from portfwd.values import Address, CloseReason

if TYPE_CHECKING:
    from portfwd.relay.session import Session

#: A client's address as the socket module has it: tuples for IP, names for unix sockets, None for one of
#: these that has none and cannot be answered.
SocketAddress = tuple[Any, ...] | str | bytes | None


class DatagramClientOwner(Protocol):
    """The listener, as its correspondents see it."""

    def send(self, data: bytes, to: DatagramClient) -> bool:
        """Send `data` from where the client sent to; False where it was dropped."""

    def left(self, who: DatagramClient) -> None:
        """`who` neither sends nor receives any more."""


class DatagramClient:
    """
    A client.

    :ivar key: how the listener knows it again: its address, and the one of ours that it sends to.
    :ivar sockaddr: where answers go.
    :ivar ancillary: makes them leave from where the client sent to.
    :ivar session: its session, as soon as there is one.
    :ivar received: what gets each datagram of this client.
    """

    __slots__ = (
        "_also_left",
        "_open",
        "_owner",
        "address",
        "ancillary",
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
        self.received: Callable[[bytes], None] = _ignore

    def __repr__(self) -> str:
        return f"<DatagramClient {self.address} at {self.local} {'open' if self._open else 'closed'}>"

    @property
    def is_open(self) -> bool:
        """Whether it is in a listener's table."""
        return self._open

    def hand_over(self, left: Callable[[], object]) -> None:
        """Another listener gets its datagrams from now on, and answers go the old way; `left` at its end."""
        self._also_left = left

    def carry(self, taker: Taker) -> None:
        """Tell `taker` of what comes."""
        self.received = taker.received

    def send(self, data: bytes) -> bool:
        """Answer."""
        return self._open and self._owner.send(data, self)

    def close(self) -> None:
        """Leave the listener's table."""
        if self._open:
            self._open = False
            self.received = _ignore
            self.session = None
            self._owner.left(self)
            if self._also_left is not None:
                self._also_left()

    def evict(self) -> None:
        """Another client needs the room."""
        self.end(CloseReason.LIMIT)

    def end(self, reason: CloseReason) -> None:
        """End the session, if there is one."""
        if self.session is not None:
            self.session.kill(reason)
        self.close()


def _ignore(data: bytes) -> None:
    """Nobody takes it."""
