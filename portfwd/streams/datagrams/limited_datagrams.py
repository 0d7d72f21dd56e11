# -*- test-case-name: tests.streams.datagrams.test_limited_datagrams -*-
"""
Streams of datagrams for rules with ``bandwidth=`` or ``answers=``. Other rules have no cost.

Bandwidth: datagrams beyond the limit are dropped and counted. Delaying them would not help, because
congestion control of senders reacts to losses. Bytes of a tenth of a second may pass at once
(`portfwd.limits.pacing`).

Answers: as with nginx's ``proxy_responses``, the association ends after this number of answers for each
datagram of the client.
"""

from __future__ import annotations

from collections.abc import Callable

from portfwd.streams.datagrams.carrier import Carrier
from portfwd.streams.datagrams.datagram_stream import DatagramStream
from portfwd.streams.rate_limiters import RateLimiter, RateLimiters
from portfwd.streams.stream import Loss
from portfwd.values import Address, Side


class DatagramMeter:
    """
    Decides whether a datagram of one side may pass.

    :ivar dropped: number of dropped datagrams.
    """

    __slots__ = ("_client", "_first", "_limiters", "_passing", "_side", "dropped")

    def __init__(self, limiters: RateLimiters, side: Side) -> None:
        """:param side: the side that sends the datagrams."""
        self.dropped = 0
        self._limiters = limiters
        self._first = limiters.first()
        self._side = side
        self._client: Address | None = None
        self._passing: tuple[RateLimiter, ...] | None = None

    def passes(self, size: int, client: Address | None) -> bool:
        """
        Whether `size` bytes may pass now. If not, count a dropped datagram.

        :param client: address of the client.
        """
        if self._passing is None or client != self._client:
            self._client = client
            self._passing = self._limiters.limiters_for(self._side, client, self._first)
        for place, limiter in enumerate(self._passing):
            if not limiter.pass_at_once(size):
                for passed in self._passing[:place]:
                    passed.settle(size, 0)
                self.dropped += 1
                return False
        return True


class LimitedDatagramStream(DatagramStream):
    """One side of an association with limits."""

    __slots__ = ("_answers", "_client", "_meter")

    def __init__(
        self,
        carrier: Carrier,
        seconds: Callable[[], float],
        meter: DatagramMeter | None,
        answers: int | None = None,
    ) -> None:
        """
        As `DatagramStream`.

        :param meter: judges datagrams from here; None passes all.
        :param answers: most datagrams for each datagram of the other side; None for no limit.
        """
        self._meter = meter
        self._answers = answers
        self._client: Address | None = None
        super().__init__(carrier, seconds)

    @property
    def client(self) -> Address | None:
        """The address of the client for which this side counts."""
        if self._client is not None or self.side is Side.CLIENT:
            return self._client or self.address
        return None if self._peer is None else self._peer.client

    def go_as(self, client: Address) -> None:
        """See `portfwd.streams.stream.Paced`."""
        self._client = client

    def drops(self) -> dict[str, int]:
        """See `DatagramStream.drops`."""
        return {**super().drops(), "bandwidth": 0 if self._meter is None else self._meter.dropped}

    def received(self, data: bytes) -> None:
        """Handle a datagram."""
        if self._meter is not None and not self._meter.passes(len(data), self.client):
            return
        super().received(data)
        answers, peer = self._answers, self._peer
        if (
            answers is not None
            and peer is not None
            and not self._early
            and self._reads >= answers * peer.reads
        ):
            self._leave(Loss.ORDERLY, "")
