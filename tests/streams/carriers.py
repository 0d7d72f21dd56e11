"""A carrier without a socket, and an owner that writes down what it is told."""

from __future__ import annotations

from portfwd.streams.datagrams.carrier import Taker
from portfwd.streams.stream import Loss, Stream
from portfwd.values import Address, InetAddress


class FakeCarrier:
    """Writes down what it is to send."""

    def __init__(self, address: Address | None = None) -> None:
        self.address: Address | None = address or InetAddress("192.0.2.7", 7)
        self.local: Address | None = InetAddress("192.0.2.1", 53)
        self.sent: list[bytes] = []
        self.full = False
        self.closed = 0
        self.taker: Taker | None = None

    def carry(self, taker: Taker) -> None:
        self.taker = taker

    def send(self, data: bytes) -> bool:
        if self.full:
            return False
        self.sent.append(data)
        return True

    def close(self) -> None:
        self.closed += 1

    def brings(self, *datagrams: bytes) -> None:
        """These come from the peer."""
        assert self.taker is not None
        for data in datagrams:
            self.taker.received(data)

    def breaks(self, detail: str = "Connection refused") -> None:
        """The peer's port is closed."""
        assert self.taker is not None
        self.taker.broken(detail)


class Owner:
    """Writes down what a stream tells."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def began(self, stream: Stream) -> None:
        self.told.append("began")

    def opened(self, stream: Stream) -> None:
        self.told.append("opened")

    def ended(self, stream: Stream) -> None:
        self.told.append("ended")

    def end_sent(self, stream: Stream) -> None:
        self.told.append("end sent")

    def writing_failed(self, stream: Stream, detail: str) -> None:
        self.told.append("writing failed")

    def thrown_away(self, stream: Stream, count: int) -> None:
        """Nobody counts them."""

    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        self.told.append((how, detail))
