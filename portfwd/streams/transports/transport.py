# -*- test-case-name: tests.streams.transports.test_transport -*-
"""
The stream over any Twisted transport: one half of the Protocol pair.

Two streams are joined by a `TransportFlow` for each direction. This works for every transport of Twisted or a
plug-in. How an end is sent depends on the transport:

- sockets: half-close by `PlainTransport`;
- TLS of portfwd: half-close by `portfwd.streams.transports.tls.TLSLayer`;
- Twisted's TLS: ``close_notify`` ends our direction, and further bytes of the peer are delivered (RFC 8446
  section 6.1). When the peer sends its ``close_notify``, Twisted closes the connection, which ends both
  directions;
- other wrappers: the end is held back until the other direction has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from OpenSSL.SSL import Error as TLSError
from twisted.internet import error
from twisted.internet.interfaces import IReactorTime, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.kernel.socket_options import keep_urgent
from portfwd.kernel.sockets import waiting_bytes
from portfwd.streams.allowance import Allowance
from portfwd.streams.loss_text import error_text, loss_text
from portfwd.streams.rate_limiters import RateLimiters
from portfwd.streams.stream import Loss, StreamOwner, Viewer
from portfwd.streams.transports.below import AskedBelow
from portfwd.streams.transports.layers import ILayer
from portfwd.streams.transports.plain import IStreamProtocol, PlainTransport
from portfwd.streams.transports.transport_flow import TransportFlow
from portfwd.streams.transports.transport_kinds import bottom_of, send_end, socket_of
from portfwd.streams.transports.write_readiness import WriteReadiness
from portfwd.streams.viewed import ViewedStream
from portfwd.values import Address, FlowSummary, Side, TLSInfo


@implementer(IStreamProtocol)
class TransportStream(AskedBelow, ViewedStream, Protocol):
    """
    A stream whose bytes pass through Twisted.

    :ivar buffer: most bytes of one read, where the transport lets it be set.
    :ivar lost: the transport is gone.
    :ivar source: the flow whose source this stream is, once joined or watched.
    :ivar drain: the flow that writes here, once joined.
    """

    source: TransportFlow | None
    drain: TransportFlow | None

    kind = "pair"
    # A class attribute, because only streams over datagrams have their own.
    _drops: Mapping[str, int] = MappingProxyType({})

    def __init__(
        self,
        clock: IReactorTime,
        buffer: int,
        limiters: RateLimiters | None = None,
        *,
        handshake: bool = False,
    ) -> None:
        """
        :param buffer: bytes of one read, if the transport allows setting it.
        :param limiters: the rate limiters of the rule, if its bandwidth is limited.
        :param handshake: whether it is opened only after a TLS handshake.
        """
        self.side = Side.CLIENT
        self.address: Address | None = None
        self.local: Address | None = None
        self.moved_at = clock.seconds()
        self.first_at: float | None = None
        self._clock = clock
        self.buffer = buffer if limiters is None else min(buffer, limiters.slice)
        self.source = None
        self.drain = None
        self.lost = False
        self._limiters = limiters
        self._handshake = handshake
        self.tls: TLSInfo | None = None
        self._owner: StreamOwner | None = None
        self._bottom: ITransport | None = None
        self._plain: PlainTransport | None = None
        self._is_bare = False  # `_plain` has no layer, so the bytes it sent are those written here
        self._early: list[bytes] = []
        self._early_failure = False
        self._ended = False
        self._end_told = False
        self._end: tuple[Loss, str] | None = None
        self._written = 0
        self._aborted = False
        self._write_readiness: WriteReadiness | None = None

    def __repr__(self) -> str:
        flow = self.source
        state = "lost" if self.lost else "paused" if flow is not None and flow.is_paused else "open"
        return f"<TransportStream {self.side.value} {self.address} {state}>"

    @property
    def client_address(self) -> Address | None:
        """The address of the session's client, if one of the streams has it."""
        if self.side is Side.CLIENT:
            return self.address
        flow = self.drain
        return None if flow is None else flow.source.address

    @property
    def unsent(self) -> int:
        """Number of bytes that portfwd's transport has not written to the kernel."""
        return 0 if self._plain is None else self._plain.unsent()

    # Events of Twisted

    def connectionMade(self) -> None:
        """The transport is connected. Nothing is read before the stream has an owner."""
        self._bottom = bottom = bottom_of(self.transport)
        if isinstance(bottom, PlainTransport):
            self._plain = bottom
            self._is_bare = bottom is self.transport
        elif bottom is not None:
            if hasattr(bottom, "bufferSize"):
                bottom.bufferSize = self.buffer
            handle = socket_of(bottom)
            if handle is not None:
                keep_urgent(handle)
        if not self._handshake:
            self._open()

    def handshake_began(self) -> None:
        """The first TLS message of a client is complete."""
        if self._owner is not None:
            self._owner.began(self)

    def announced(self, client: Address, local: Address | None) -> bool:
        """A header before TLS has announced the client; return whether its handshake may begin."""
        if self._owner is not None:
            self._owner.announced(self, client, local)
        return not (self._aborted or self.lost)

    def handshakeCompleted(self) -> None:
        """The handshake has succeeded, and the peer's certificate is valid."""
        if self._handshake:
            self._handshake = False
            self._open()

    @property
    def handshaking(self) -> str:
        """See `Stream`."""
        if not self._handshake:
            return ""
        layer = ILayer(self.transport, None)
        return "not connected" if layer is None else str(layer.progress)

    def _open(self) -> None:
        self.read_no_more()
        if self._owner is not None:
            self._owner.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Handle bytes of the peer."""
        if self._aborted:  # TLS delivers its remaining bytes even then
            return
        if self.source is not None:
            self.source.received(data)
            return
        self._early.append(data)
        self.moved_at = now = self._clock.seconds()
        if self.first_at is None:
            self.first_at = now

    def thrown_away(self, count: int) -> None:
        """Bytes were read that go nowhere."""
        if self._owner is not None and count:
            self._owner.thrown_away(self, count)

    def readConnectionLost(self) -> None:
        """The peer has ended."""
        self._ended = True
        self.tell_end()

    def writeConnectionLost(self) -> None:
        """Our end was sent."""
        if self._owner is not None:
            self._owner.end_sent(self)

    def writing_failed(self) -> None:
        """The peer accepts no more bytes."""
        self._answers_taken()
        if self._owner is not None:
            self._owner.writing_failed(self, self._why_broken())
        else:
            self._early_failure = True

    def _why_broken(self) -> str:
        return error_text(self._plain.gone if self._plain is not None else 0)

    def wrote(self) -> None:
        """Kept bytes were sent: the session is not silent, although nothing was read."""
        if self.drain is not None:
            self.drain.source.moved_at = self._clock.seconds()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport was closed."""
        self.lost = True
        flow = self.source
        if flow is not None:
            flow.source_lost(aborted=self._aborted)
            if flow.destination is None:
                self.source = None  # its counts are not needed
        if self._aborted:
            how = Loss.ABORTED
        elif reason.check(error.ConnectionDone):
            how = Loss.ORDERLY
        elif reason.check(error.ConnectionLost, TLSError):
            how = Loss.RESET
        else:
            how = Loss.FAILED
        code = None if self._plain is None else self._plain.gone
        self._end = (how, "" if how is Loss.ORDERLY else loss_text(reason, code))
        # No calls follow in either direction. Break the reference cycle.
        owner, self._owner = self._owner, None
        self.transport = self._bottom = self._write_readiness = None
        reason.cleanFailure()  # its traceback references frames that reference it
        if owner is not None:
            owner.lost(self, *self._end)

    def tell_end(self) -> None:
        """Report the end once, after all earlier bytes were passed on."""
        owner, flow = self._owner, self.source
        if self._end_told or not self._ended or self.lost or owner is None:
            return
        if flow is not None and flow.is_through:
            self._end_told = True
            owner.ended(self)

    # Requests of the flows

    def read_on(self) -> None:
        """Let the transport read."""
        self.transport.resumeProducing()  # type: ignore[union-attr]

    def read_no_more(self) -> None:
        """Stop the transport from reading."""
        self.transport.pauseProducing()  # type: ignore[union-attr]

    def read_little(self) -> None:
        """Make the next read one of usual size."""
        if self._plain is not None:
            self._plain.read_little()

    def leave_producer(self) -> None:
        """The other side is discarding, so nothing more is written here."""
        if not self.lost:
            self.transport.unregisterProducer()  # type: ignore[union-attr]
            self._answers_taken()

    def _takes_no_more(self) -> None:
        """The transport keeps written bytes: stop reading the other side."""
        if self.drain is not None:
            self.drain.pauseProducing()

    def _takes_more(self) -> None:
        """The transport has written its kept bytes."""
        if self.drain is not None:
            self.drain.resumeProducing()
        self._answers_taken()

    def _answers_taken(self) -> None:
        """The peer has accepted its answers, or never will: it may be read again."""
        if self.source is not None:
            self.source.answers_taken()

    # Requests of the session

    def own(self, owner: StreamOwner) -> None:
        """Call `owner` from now on, also for an earlier failure or loss. An end is reported when it reads."""
        if self._end is not None:
            owner.lost(self, *self._end)
            return
        self._owner = owner
        if self._early_failure:
            self._early_failure = False
            owner.writing_failed(self, self._why_broken())
        self.tell_end()

    def unjoin(self) -> None:
        """Drop the flows. Both streams are closed, and their counts were read."""
        self.source = self.drain = self._write_readiness = None

    def join(self, peer: TransportStream) -> None:
        """Write all bytes to `peer`, as the producer of its transport or through its producer."""
        flow = self._flow(peer)
        flow.destination, peer.drain = peer, flow
        readiness = peer._write_readiness
        if readiness is not None:
            if readiness.full:
                flow.pauseProducing()
        elif not peer.lost:
            peer.transport.registerProducer(flow, True)  # type: ignore[union-attr]

    def _flow(self, peer: TransportStream | None) -> TransportFlow:
        """The flow from here. It is made when first needed, because its client is known only then."""
        if self.source is None:
            client, allowance = self.address, None
            if self.side is not Side.CLIENT:
                known = None if peer is None or peer.source is None else peer.source.client
                client = known or (None if peer is None else peer.address)
            if self._limiters is not None:
                ticket = self._limiters.ticket(self.side, client)
                allowance = None if ticket is None else Allowance(grants=ticket)
            early, self._early = self._early, []
            self.source = TransportFlow(self, self._clock, early, allowance, client)
        return self.source

    def start(self) -> None:
        """Read."""
        if self.source is not None:
            self.source.start()

    # Watching

    def watch(self, viewer: Viewer, peer: TransportStream | None = None) -> None:
        """Show bytes to `viewer`."""
        self._flow(peer).watch(viewer)
        if not self.lost:
            self._write_readiness = WriteReadiness(self._takes_no_more, self._takes_more)
            self.transport.registerProducer(self._write_readiness, True)  # type: ignore[union-attr]

    def write(self, data: bytes, *, answer: bool = False) -> None:
        """Write `data` to the transport. `answer`: whether it answers bytes that were read here."""
        if self.lost:
            return
        self._written += len(data)
        self.transport.write(data)  # type: ignore[union-attr]
        ready, flow = self._write_readiness, self.source
        if ready is None or not ready.full or flow is None or self.lost:
            return
        if answer or (flow.view is not None and flow.view.showing):
            flow.wait_for_answer()

    def end(self, *, last: bool = False) -> None:
        """End this direction as far as the transport can."""
        if self.lost:
            return
        transport = self.transport
        transport.unregisterProducer()  # type: ignore[union-attr]
        self._answers_taken()
        # Where an end goes out alone, writeConnectionLost tells when it is out.
        if not send_end(transport) and self._owner is not None:
            self._owner.end_sent(self)

    def close(self) -> None:
        """Close the connection after the kept bytes are written."""
        if not self.lost:
            self._will_close()
            transport = self.transport
            transport.unregisterProducer()  # type: ignore[union-attr]
            transport.loseConnection()  # type: ignore[union-attr]

    def abort(self) -> None:
        """
        Reset the connection below TLS.

        Twisted's TLS would send a ``close_notify``, which looks complete.
        """
        if self.lost:
            return
        self._aborted = True
        self._will_close()
        bottom = self._bottom
        if bottom is None:
            return  # never connected
        if hasattr(bottom, "abortConnection"):
            bottom.abortConnection()
        else:
            bottom.loseConnection()

    def discard(self) -> None:
        """Read and drop all bytes."""
        self._flow(None).discard()

    def last_moved(self) -> float:
        """Time of the last moved bytes; now if the flow from here waits for a grant."""
        waits = self.source is not None and self.source.waits
        return self._clock.seconds() if waits else self.moved_at

    def has_input(self) -> bool:
        """False: it cannot tell."""
        return False

    def has_unread(self) -> bool:
        """Whether bytes of the peer, or of a layer below, are in the kernel's receive queue."""
        return not self.lost and self._plain is not None and waiting_bytes(self._plain.socket) > 0

    def tap(self, saw: Callable[[bytes], None] | None) -> None:
        """Show a copy of all bytes that are read; None to stop."""
        # Twisted looks up the method for each read, so streams without a tap have no cost.
        vars(self).pop("dataReceived", None)
        if saw is None:
            return

        receive = self.dataReceived

        def received(data: bytes) -> None:
            saw(data)
            receive(data)

        vars(self)["dataReceived"] = received

    # Summaries

    def answered(self) -> FlowSummary:
        """Summary of the bytes written here while there is no other side."""
        plain = self._plain
        if plain is not None and self._is_bare:
            return FlowSummary(bytes=plain.sent, writes=plain.writes)
        return FlowSummary(bytes=self._written)

    def summary(self, source: TransportStream) -> FlowSummary:
        """Summary of the flow from `source` to this stream so far."""
        plain, theirs, flow = self._plain, source._plain, source.source
        chunks = 0 if flow is None else flow.reads
        return FlowSummary(
            bytes=plain.sent if plain is not None and self._is_bare else self._written,
            reads=theirs.reads if theirs is not None else chunks,
            writes=plain.writes if plain is not None else chunks,
            paused=0.0 if flow is None else flow.paused,
            paced=0.0 if flow is None else flow.paced,
        )

    # Datagrams below

    @property
    def carrier(self) -> object:
        """What brings the datagrams, where they are below."""
        return getattr(self.transport, "carrier", None)

    def drops(self) -> Mapping[str, int]:
        """Datagrams that were dropped below, by cause; of a stream that is lost, what was noted at last."""
        counts = getattr(self.transport, "drops", None)
        return self._drops if counts is None else counts()

    def note_drops(self, drops: Mapping[str, int]) -> None:
        """What is below will not be there any more."""
        self._drops = drops

    # TLS that begins late

    def put_handshake_below(self) -> tuple[PlainTransport, bytes]:
        """
        Prepare for TLS. The stream is opened again after the handshake.

        :returns: the transport below TLS, and bytes that were read and not passed on.
        :raises ValueError: the transport does not support a layer above it.
        """
        if self._plain is None or not self._is_bare:
            raise ValueError("TLS cannot begin on a connection of this kind")
        early = self._early if self.source is None else self.source.early
        rest = b"".join(early)
        early.clear()
        self._handshake = True
        return self._plain, rest
