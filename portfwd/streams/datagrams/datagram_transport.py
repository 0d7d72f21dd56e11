# -*- test-case-name: tests.streams.datagrams.test_datagram_transport -*-
"""
A transport for datagrams: one side of a session whose other side is a stream of bytes.

Written bytes are sent as datagrams, and received datagrams are delivered as bytes. With ``framing=length16``
every datagram is a message with a length prefix, so messages are never split or joined. With ``framing=none``
each piece of bytes is sent as it was read, as in oxidinetd and rinetd; two writes of the peer may become one
datagram, or one write two.

Datagrams have no end. A client's side ends on request. An upstream's side waits for further answers until it
has been silent for ``linger``; then its end is reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from twisted.internet import error
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableDescriptor, IReactorTime, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.rules.model import Framing
from portfwd.streams.datagrams.carrier import Carrier, EarlyDatagrams
from portfwd.streams.datagrams.limited_datagrams import DatagramMeter
from portfwd.streams.datagrams.return_path import Proof
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import Address
from portfwd.wire.framing import MAX_MESSAGE, Unframer, frame

#: Most bytes of a datagram without framing: the limit of IPv4 (65 535 less 20 and 8 bytes of headers).
MOST_PAYLOAD: Final = 65507


@implementer(ITransport, IHalfCloseableDescriptor)
class DatagramTransport:
    """
    The transport of a `TransportStream` over a carrier.

    :ivar carrier: sends and receives its datagrams.
    :ivar heard_at: time of the last datagram, or of the begin, in seconds of the reactor.
    :ivar asked_at: time of the last write.
    :ivar dropped: number of datagrams not sent to this side, because the kernel's buffer was full or they
        were too large.
    :ivar too_long: number of datagrams of this side that are too long for a length of two bytes.
    """

    def __init__(
        self,
        carrier: Carrier,
        stream: TransportStream,
        framing: Framing,
        clock: IReactorTime,
        answers: float | None,
        meter: DatagramMeter | None = None,
        proof: Proof | None = None,
    ) -> None:
        """
        Connect `stream`.

        :param answers: seconds of silence after which a side that was asked to end has ended; None for at
            once.
        :param meter: judges datagrams from here; None passes all.
        :param proof: judges datagrams to a client; None passes all.
        :raises OSError: the kernel refused to watch the socket; it is closed.
        """
        self.carrier = carrier
        self._stream = stream
        self._clock = clock
        self._answers = answers
        self._meter = meter
        self._proof = proof
        self._reads = 0
        self._unframer = Unframer() if framing is Framing.LENGTH16 else None
        self._keep = EarlyDatagrams()
        self._paused = False
        self._connected = True
        self._ended = False
        self._silence: IDelayedCall | None = None
        self.heard_at = self.asked_at = clock.seconds()
        self.dropped = self.too_long = 0
        carrier.carry(self)
        stream.address, stream.local = carrier.address, carrier.local
        stream.makeConnection(self)

    def __repr__(self) -> str:
        return f"<DatagramTransport {self.carrier!r} {'open' if self._connected else 'closed'}>"

    def drops(self) -> dict[str, int]:
        """Number of dropped datagrams by cause; see `datagram_opening.drops`."""
        return {
            "buffer": self.dropped,
            "queue": self._keep.dropped,
            "bandwidth": 0 if self._meter is None else self._meter.dropped,
            "unproven": 0 if self._proof is None else self._proof.dropped,
            "long": self.too_long + getattr(self.carrier, "too_long", 0),
        }

    # Events of the carrier

    def received(self, data: bytes) -> None:
        """Handle a datagram."""
        if self._unframer is not None and len(data) > MAX_MESSAGE:
            self.too_long += 1
            return
        if self._meter is not None and not self._meter.passes(len(data), self._stream.client_address):
            return
        self._reads += 1
        self.heard_at = self._clock.seconds()
        if self._paused or self._keep:
            self._keep.put(data)
        else:
            self._give(data)

    def _give(self, data: bytes) -> None:
        if self._unframer is not None:
            data = frame(data)
        if data:
            self._stream.dataReceived(data)

    def moved(self, address: Address, local: Address | None) -> None:
        """See `Taker`."""
        self._stream.address, self._stream.local = address, local

    def broken(self, detail: str) -> None:
        """The peer is unreachable."""
        self._lose(error.ConnectionLost(detail))

    def _lose(self, problem: Exception) -> None:
        if self._connected:
            self._connected = False
            self._stop_waiting()
            self._keep.clear()
            self.carrier.close()
            self._stream.note_drops(self.drops())
            self._stream.connectionLost(Failure(problem))

    # The interface of a transport

    def write(self, data: bytes) -> None:
        """Send `data` as datagrams."""
        if not self._connected:
            return
        self.asked_at = self._clock.seconds()
        if self._unframer is not None:
            for message in self._unframer.feed(data):
                self._send(message)
        elif len(data) <= MOST_PAYLOAD:
            self._send(data)
        else:
            for start in range(0, len(data), MOST_PAYLOAD):
                self._send(data[start : start + MOST_PAYLOAD])

    def _send(self, message: bytes) -> None:
        proof = self._proof
        if proof is not None and proof.pending and not proof.allows(self._reads):
            return
        if self._connected and not self.carrier.send(message):
            self.dropped += 1

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send the pieces as one."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close."""
        self._lose(error.ConnectionDone())

    def abortConnection(self) -> None:
        """Close. There is no reset for datagrams."""
        self._lose(error.ConnectionAborted())

    def loseWriteConnection(self) -> None:
        """Stop sending. The other direction ends after a silence, or now."""
        if not self._connected:
            return
        self._stream.writeConnectionLost()
        if self._answers is None:
            self._end()
        elif self._silence is None and self._connected:
            self.heard_at = self._clock.seconds()
            self._silence = self._clock.callLater(self._answers, self._was_silent)

    def _was_silent(self) -> None:
        self._silence = None
        left = self.heard_at + (self._answers or 0.0) - self._clock.seconds()
        if left > 0:
            self._silence = self._clock.callLater(left, self._was_silent)
        else:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._tell_end()

    def _tell_end(self) -> None:
        """Report the end after the kept datagrams."""
        if self._ended and self._connected and not self._keep:
            self._ended = False
            self._stream.readConnectionLost()

    def undelivered(self) -> int:
        """None: sent datagrams are not acknowledged."""
        return 0

    def _stop_waiting(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def readConnectionLost(self, reason: Failure) -> None:
        """Part of the interface; sockets' own business."""

    def writeConnectionLost(self, reason: Failure) -> None:
        """Part of the interface; sockets' own business."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Do nothing: no bytes are kept, so a producer is never paused."""

    def unregisterProducer(self) -> None:
        """See `registerProducer`."""

    def pauseProducing(self) -> None:
        """Keep a few datagrams and drop further ones, until `resumeProducing`."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Deliver the kept datagrams and further ones."""
        self._paused = False
        while self._keep and not self._paused:
            self._give(self._keep.take())
        self._tell_end()

    def getPeer(self) -> Any:
        """The address of the peer, as a value of portfwd."""
        return self.carrier.address

    def getHost(self) -> Any:
        """The local address, as a value of portfwd."""
        return self.carrier.local
