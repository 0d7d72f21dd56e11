# -*- test-case-name: tests.streams.datagrams.test_datagram_opening -*-
"""
Carriers and connected sockets become streams, for rules that have datagrams on one side or both.

Datagrams on both: streams of datagrams, which pass them on at once. On one: both sides are streams of bytes
as for any other rule, and the one with datagrams has `DatagramTransport` below it.
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
    """What knows which addresses are there: `portfwd.relay.datagram_targets.DatagramTargets`."""

    def refused(self, carrier: UpstreamCarrier, detail: str) -> None:
        """Nobody has the port of the peer of `carrier`."""

    def has_failed(self, destination: Any) -> bool:
        """Whether nobody answers at a destination of late."""


#: Seconds between two log lines about the same trouble.
LOG_INTERVAL: Final = 10.0


class DatagramStreams:
    """
    Makes the streams of one rule.

    :ivar mixed: one side is a stream of bytes.
    :ivar targets: knows which addresses are there.
    :ivar poller: None: attempts to reach stream upstreams wait by the reactor, as those streams do.
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
        :param poller: watches connected sockets; None where all of them are Twisted's.
        :param streams: makes those of sockets that are not for datagrams.
        :param mixed: one side is a stream of bytes.
        :param limiters: the rule's, if its bandwidth is limited.
        :param name: the rule's.
        :param forgeable: clients' addresses may be forged.
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
        """A stream over a client's carrier."""
        return self._over(carrier, Side.CLIENT)

    def reached(self, carrier: UpstreamCarrier) -> DatagramStream | TransportStream:
        """
        A stream over an upstream's carrier.

        :raises OSError: the kernel refuses to watch its socket, which is closed then.
        """
        carrier.refused = self.targets.refused
        return self._over(carrier, Side.UPSTREAM)

    def over_messages(self, carrier: Carrier) -> DatagramStream:
        """A stream over an upstream's carrier of whole messages, which is no socket of its own."""
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
        """Whether clients' addresses can be forged, and the rule bounds what becomes of that."""
        return self._forgeable and self._options.answers_before_reply is not None

    def _proof(self) -> Proof:
        return Proof(self._options.answers_before_reply or 0, self._was_unproven)

    def _was_unproven(self) -> None:
        """Tell the log that answers are dropped, once in a while."""
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
        """A stream over a client's socket, which is one for a stream of bytes."""
        return self._streams.accepted(sock, address, options, local)

    def plain(
        self, sock: socket.socket, address: Address | None, buffer: int, *, seen: int | None = None
    ) -> Stream:
        """
        A stream over an upstream's connected socket, of either type.

        :raises OSError: the kernel refuses to watch the socket; it is closed then.
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
    Datagrams that the sides of a session dropped, by cause.

    ``buffer``: a socket took no more, or the datagram was too large for it. ``queue``: nobody took it yet,
    and as many as are kept were waiting already. ``bandwidth``: there was none left for it. ``long``: longer
    than any that are passed on. ``unanswered``:
    questions over shared connections that were given up.
    """
    counts: Counter[str] = Counter()
    for stream in streams:
        if stream is not None:
            counts.update(stream.drops())
    return counts


def carrier_of(stream: Stream) -> UpstreamCarrier:
    """The carrier of an upstream's stream that was made here."""
    return cast(UpstreamCarrier, stream.carrier)
