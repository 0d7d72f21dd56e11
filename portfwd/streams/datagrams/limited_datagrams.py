# -*- test-case-name: tests.streams.datagrams.test_limited_datagrams -*-
"""
Streams of datagrams for rules with ``bandwidth=`` or ``answers=``; others pay nothing for these.

Bandwidth: a datagram for which there are no bytes left is dropped, and counted. To keep it until there are
some would only make it late: a sender that cares has a congestion control of its own, which goes by losses.
A tenth of a second's worth of bytes may come at once (`portfwd.limits.pacing`).

Answers: as nginx's ``proxy_responses``, the association ends when there were so many answers for each of the
client's datagrams.
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
    Whether a datagram of one side may pass.

    :ivar dropped: how many could not.
    """

    __slots__ = ("_client", "_first", "_limiters", "_passing", "_side", "dropped")

    def __init__(self, limiters: RateLimiters, side: Side) -> None:
        """:param side: whose datagrams they are."""
        self.dropped = 0
        self._limiters = limiters
        self._first = limiters.first()
        self._side = side
        self._client: Address | None = None
        self._passing: tuple[RateLimiter, ...] | None = None

    def passes(self, size: int, client: Address | None) -> bool:
        """
        Whether `size` bytes may pass now; else they are counted as a dropped datagram.

        :param client: who the client is.
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
    """One side of an association whose rule limits it."""

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

        :param meter: judges what comes from here; None: all of it passes.
        :param answers: how many there may be for each datagram of the other side; None: any number.
        """
        self._meter = meter
        self._answers = answers
        self._client: Address | None = None
        super().__init__(carrier, seconds)

    @property
    def client(self) -> Address | None:
        """Who the client is for whom this side counts."""
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
        """One whole datagram came."""
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
