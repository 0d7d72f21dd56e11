# -*- test-case-name: tests.streams.datagrams.test_datagram_opening -*-
"""
Makes streams of carriers and connected sockets, for rules with datagrams on one or both sides.

With datagrams on both sides, these are streams of datagrams, which pass them on at once. With datagrams on
one side, both are streams of bytes, and the one with datagrams has a `DatagramTransport` below it.
"""

from __future__ import annotations

import socket
from collections import Counter
from typing import Any, Final, Protocol, cast

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from portfwd.kernel.polling import Polling
from portfwd.rules.model import Options
from portfwd.streams.datagrams.carrier import Carrier, UpstreamCarrier
from portfwd.streams.datagrams.datagram_socket import ConnectedSocket
from portfwd.streams.datagrams.datagram_stream import DatagramStream
from portfwd.streams.datagrams.datagram_transport import DatagramTransport
from portfwd.streams.datagrams.limited_datagrams import DatagramMeter, LimitedDatagramStream
from portfwd.streams.datagrams.return_path import Proof
from portfwd.streams.opening import StreamMaker
from portfwd.streams.rate_limiters import RateLimiters
from portfwd.streams.stream import Stream
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import Address, Side


class Targets(Protocol):
    """The watcher of addresses: `portfwd.relay.datagram_targets.DatagramTargets`."""

    def refused(self, carrier: UpstreamCarrier, detail: str) -> None:
        """The peer of `carrier` has answered with ICMP port unreachable."""

    def has_failed(self, destination: Any) -> bool:
        """Whether nobody answers at a destination of late."""


#: Seconds between two log lines about the same problem.
LOG_INTERVAL: Final = 10.0


class DatagramStreams:
    """
    Makes the streams of one rule.

    :ivar mixed: whether one side is a stream of bytes.
    :ivar targets: the watcher of addresses.
    :ivar poller: the poller for attempts at stream upstreams; None for the reactor, as for those streams.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        options: Options,
        poller: Polling | None,
        streams: StreamMaker,
        targets: Targets,
        *,
        mixed: bool,
        limiters: RateLimiters | None = None,
        name: str = "",
        forgeable: bool = False,
    ) -> None:
        """
        :param poller: watches connected sockets; None if all of them are Twisted's.
        :param streams: makes streams of stream sockets.
        :param mixed: whether one side is a stream of bytes.
        :param limiters: the rate limiters of the rule, if its bandwidth is limited.
        :param name: name of the rule.
        :param forgeable: whether addresses of clients may be forged.
        """
        self.poller: Polling | None = None
        self._clock = clock
        self._options = options
        self._watcher = poller
        self._streams = streams
        self.targets = targets
        self._limiters = limiters
        self._name = name
        self._forgeable = forgeable
        self._told_at = -LOG_INTERVAL
        self.mixed = mixed

    def arrived(self, carrier: Carrier) -> DatagramStream | TransportStream:
        """Make a stream over a client's carrier."""
        return self._over(carrier, Side.CLIENT)

    def reached(self, carrier: UpstreamCarrier) -> DatagramStream | TransportStream:
        """
        Make a stream over an upstream's carrier.

        :raises OSError: the kernel refused to watch its socket; it is closed.
        """
        carrier.refused = self.targets.refused
        return self._over(carrier, Side.UPSTREAM)

    def over_messages(self, carrier: Carrier) -> DatagramStream:
        """Make a stream over an upstream's carrier of whole messages, which has no socket of its own."""
        return self._datagrams(carrier, Side.UPSTREAM)

    def _datagrams(self, carrier: Carrier, side: Side) -> DatagramStream:
        seconds, limiters = self._clock.seconds, self._limiters
        answers = self._options.answers if side is Side.UPSTREAM else None
        stream: DatagramStream
        if limiters is None and answers is None:
            stream = DatagramStream(carrier, seconds)
        else:
            meter = None if limiters is None else DatagramMeter(limiters, side)
            stream = LimitedDatagramStream(carrier, seconds, meter, answers)
        if side is Side.UPSTREAM and self._proves:
            stream.demand(self._proof())
        return stream

    @property
    def _proves(self) -> bool:
        """Whether addresses of clients may be forged and the rule limits answers to them."""
        return self._forgeable and self._options.answers_before_reply is not None

    def _proof(self) -> Proof:
        return Proof(self._options.answers_before_reply or 0, self._was_unproven)

    def _was_unproven(self) -> None:
        """Log that answers are dropped, at a limited rate."""
        now = self._clock.seconds()
        if now - self._told_at >= LOG_INTERVAL:
            self._told_at = now
            self._log.warn(
                "{name}: a client got {count} answers and has sent nothing since the first one: it gets no"
                " more until it does, as its address may be forged; answers-before-reply=off lets it",
                name=self._name,
                count=self._options.answers_before_reply,
            )

    def _over(self, carrier: Carrier, side: Side) -> DatagramStream | TransportStream:
        if not self.mixed:
            return self._datagrams(carrier, side)
        stream = TransportStream(self._clock, self._options.buffer)
        meter = None if self._limiters is None else DatagramMeter(self._limiters, side)
        linger = self._options.linger if side is Side.UPSTREAM else None
        proof = self._proof() if side is Side.CLIENT and self._proves else None
        DatagramTransport(carrier, stream, self._options.framing, self._clock, linger, meter, proof)
        return stream

    def accepted(
        self, sock: socket.socket, address: Address | None, options: Options, local: Address | None = None
    ) -> TransportStream:
        """Make a stream over a client's stream socket."""
        return self._streams.accepted(sock, address, options, local)

    def plain(
        self, sock: socket.socket, address: Address | None, buffer: int, *, seen: int | None = None
    ) -> Stream:
        """
        Make a stream over an upstream's connected socket, of either type.

        :raises OSError: the kernel refused to watch the socket; it is closed.
        """
        if sock.type != socket.SOCK_DGRAM:
            return self._streams.plain(sock, address, buffer, seen=seen)
        if self._watcher is None:
            sock.close()
            raise OSError("nothing watches datagram sockets here")
        return self.reached(ConnectedSocket(sock, address, self._watcher))


#: The causes of `drops`.
DROP_CAUSES: Final = ("buffer", "queue", "bandwidth", "long", "unproven", "unanswered")


def drops(*streams: Stream | None) -> Counter[str]:
    """
    Number of datagrams dropped by the sides of a session, by cause.

    ``buffer``: the socket's buffer was full, or the datagram was too large for it. ``queue``: it could not be
    passed on yet, and the queue was full. ``bandwidth``: no bandwidth was left. ``long``: it was too long.
    ``unanswered``: dropped questions of shared connections.
    """
    counts: Counter[str] = Counter()
    for stream in streams:
        if stream is not None:
            counts.update(stream.drops())
    return counts


def carrier_of(stream: Stream) -> UpstreamCarrier:
    """The carrier of an upstream's stream made by this module."""
    return cast(UpstreamCarrier, stream.carrier)
