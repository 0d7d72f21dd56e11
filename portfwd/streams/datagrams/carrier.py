# -*- test-case-name: tests.streams.datagrams.test_datagram_stream -*-
"""
What carries the datagrams of one side of a session, and who takes them.

A carrier is a connected socket, a client's share of a listening one, or a port of Twisted's. Whoever
takes its datagrams is a stream of datagrams, or the transport that makes a stream of bytes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from portfwd.values import Address

#: Datagrams and bytes of them that are kept while nobody takes them: an upstream's name is looked up, or
#: a stream takes no more. A client that gets no answer sends again; more would only be older.
MOST_KEPT: Final = 32
MOST_KEPT_BYTES: Final = 128 * 1024


class Taker(Protocol):
    """
    Who takes what comes.

    :ivar heard_at: when the last datagram came, or the taker was made; in the reactor's seconds.
    :ivar asked_at: when the other side of the session was last heard of; likewise.
    """

    @property
    def heard_at(self) -> float:
        """See the class."""

    @property
    def asked_at(self) -> float:
        """See the class."""

    def moved(self, address: Address, local: Address | None) -> None:
        """The carrier has another peer, and another address of ours."""

    def received(self, data: bytes) -> None:
        """One whole datagram; an empty one is one."""

    def broken(self, detail: str) -> None:
        """The peer is not there. The carrier is still to be closed."""


class Carrier(Protocol):
    """
    Carries datagrams to one peer, and from it.

    :ivar address: the peer's.
    :ivar local: our own.
    """

    @property
    def address(self) -> Address | None:
        """See the class."""

    @property
    def local(self) -> Address | None:
        """See the class."""

    def carry(self, taker: Taker) -> None:
        """
        Tell `taker` of what comes from now on.

        :raises OSError: the kernel does not let us; the carrier is closed then.
        """

    def send(self, data: bytes) -> bool:
        """Send one datagram; False where it was dropped. Must not raise."""

    def close(self) -> None:
        """Neither send nor receive any more."""


class UpstreamCarrier(Carrier, Protocol):
    """
    An upstream's.

    :ivar is_open: it was not closed yet.
    :ivar taker: who takes what comes.
    :ivar refused: told when the peer's kernel says that nobody has its port; decides what becomes of the
        taker.
    """

    @property
    def is_open(self) -> bool:
        """See the class."""

    @property
    def taker(self) -> Taker | None:
        """See the class."""

    refused: Callable[[UpstreamCarrier, str], None]


def end_refused(carrier: UpstreamCarrier, detail: str) -> None:
    """End what `carrier` carries for; the default of `UpstreamCarrier.refused`."""
    if carrier.taker is not None:
        carrier.taker.broken(detail)


class EarlyDatagrams:
    """
    Datagrams that nobody takes yet, in their order, and no more than a few.

    :ivar dropped: those for which there was no room.
    """

    __slots__ = ("_bytes", "_kept", "dropped")

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._bytes = 0
        self.dropped = 0

    def __repr__(self) -> str:
        return f"<EarlyDatagrams of {len(self._kept)} datagrams, {self._bytes} bytes>"

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, data: bytes) -> bool:
        """Keep `data`, if there is room; else it is counted as dropped, and False is returned."""
        # One of any size is kept: those of unix sockets may be larger than the bound.
        if self._kept and (len(self._kept) >= MOST_KEPT or self._bytes + len(data) > MOST_KEPT_BYTES):
            self.dropped += 1
            return False
        self._kept.append(data)
        self._bytes += len(data)
        return True

    def take(self) -> bytes:
        """The oldest one; there must be one."""
        data = self._kept.pop(0)
        self._bytes -= len(data)
        return data

    def clear(self) -> None:
        """Throw all away."""
        self._kept.clear()
        self._bytes = 0
