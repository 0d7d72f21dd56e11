# -*- test-case-name: tests.streams.datagrams.test_datagram_stream -*-
"""
The interfaces of carriers and takers of datagrams.

A carrier sends and receives the datagrams of one side of a session: a connected socket, a client's share of a
listening one, or a port of Twisted. A taker gets them: a stream of datagrams, or the transport that converts
them to bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from portfwd.values import Address

#: Most datagrams, and their bytes, that are kept while they cannot be passed on: during the dial, or while a
#: stream accepts no more. Clients without an answer repeat, so more would only be outdated.
MOST_KEPT: Final = 32
MOST_KEPT_BYTES: Final = 128 * 1024


class Taker(Protocol):
    """
    A receiver of datagrams.

    :ivar heard_at: time of the last datagram, or of the begin, in seconds of the reactor.
    :ivar asked_at: time of the last datagram or bytes of the other side.
    """

    @property
    def heard_at(self) -> float:
        """See the class."""

    @property
    def asked_at(self) -> float:
        """See the class."""

    def moved(self, address: Address, local: Address | None) -> None:
        """The carrier has another peer and another local address."""

    def received(self, data: bytes) -> None:
        """A datagram has arrived. It may be empty."""

    def broken(self, detail: str) -> None:
        """The peer is unreachable. The carrier must still be closed."""


class Carrier(Protocol):
    """
    Sends datagrams to one peer and receives from it.

    :ivar address: address of the peer.
    :ivar local: local address.
    """

    @property
    def address(self) -> Address | None:
        """See the class."""

    @property
    def local(self) -> Address | None:
        """See the class."""

    def carry(self, taker: Taker) -> None:
        """
        Pass datagrams to `taker` from now on.

        :raises OSError: the kernel refused; the carrier is closed.
        """

    def send(self, data: bytes) -> bool:
        """Send a datagram. False if it was dropped. Must not raise."""

    def close(self) -> None:
        """Close."""


class UpstreamCarrier(Carrier, Protocol):
    """
    The carrier of an upstream.

    :ivar is_open: whether it is open.
    :ivar taker: receiver of its datagrams.
    :ivar refused: called when the peer has answered with ICMP port unreachable. It decides about the taker.
    """

    @property
    def is_open(self) -> bool:
        """See the class."""

    @property
    def taker(self) -> Taker | None:
        """See the class."""

    refused: Callable[[UpstreamCarrier, str], None]


def end_refused(carrier: UpstreamCarrier, detail: str) -> None:
    """End the association of `carrier`: the default of `UpstreamCarrier.refused`."""
    if carrier.taker is not None:
        carrier.taker.broken(detail)


class EarlyDatagrams:
    """
    A short queue of datagrams that cannot be passed on yet.

    :ivar dropped: number of datagrams that did not fit.
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
        """Append `data`. If there is no room, count it as dropped and return False."""
        # A single datagram of any size fits: those of unix sockets may exceed the bound.
        if self._kept and (len(self._kept) >= MOST_KEPT or self._bytes + len(data) > MOST_KEPT_BYTES):
            self.dropped += 1
            return False
        self._kept.append(data)
        self._bytes += len(data)
        return True

    def take(self) -> bytes:
        """Take the oldest datagram. There must be one."""
        data = self._kept.pop(0)
        self._bytes -= len(data)
        return data

    def clear(self) -> None:
        """Drop all datagrams."""
        self._kept.clear()
        self._bytes = 0
