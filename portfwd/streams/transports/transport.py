# -*- test-case-name: tests.streams.transports.test_transport -*-
"""
The stream over any Twisted transport: one half of the Protocol pair.

Two of them, joined by `join`, are each registered as the other transport's
push producer; `pauseProducing` is the backpressure. It works for whatever
Twisted or a plug-in can connect; how an end travels depends on what is below:

- sockets: half-close, exactly as `PlainTransport` sees it;
- TLS of ours: half-close too, as `portfwd.streams.transports.tls.TLSLayer` sees it;
- Twisted's TLS: ``close_notify`` ends our direction, and what the peer still sends is
  delivered (RFC 8446 section 6.1); when the peer sends its own, Twisted
  closes the connection, so there both directions are over;
- other wrappers: the end is held back until the other direction has ended.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from types import MappingProxyType

from OpenSSL.SSL import Error as TLSError
from twisted.internet import error
from twisted.internet.interfaces import IHalfCloseableDescriptor, IPushProducer, IReactorTime, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.kernel.sockets import keep_urgent
from portfwd.streams.loss_text import error_text, loss_text
from portfwd.streams.stream import Loss, StreamOwner, Viewer
from portfwd.streams.transports.below import AskedBelow
from portfwd.streams.transports.layers import ILayer
from portfwd.streams.transports.plain import IStreamProtocol, PlainTransport
from portfwd.streams.transports.write_readiness import WriteReadiness
from portfwd.values import Address, FlowSummary, Side, TLSInfo


@implementer(IStreamProtocol, IPushProducer)
class TransportStream(AskedBelow, Protocol):
    """
    A stream whose bytes pass through Twisted.

    :ivar buffer: most bytes of one read, where the transport lets it be set.
    :ivar drops: what `DatagramTransport.drops` said at last, where that was below.
    :ivar paused: seconds for which this side was not read because the other took no more.
    """

    kind = "pair"
    # Of the class: only streams over datagrams have their own.
    drops: Mapping[str, int] = MappingProxyType({})

    def __init__(self, clock: IReactorTime, buffer: int, *, handshake: bool = False) -> None:
        """
        :param buffer: bytes of one read, where the transport lets it be set.
        :param handshake: opened only when a TLS handshake is through.
        """
        self.side = Side.CLIENT
        self.address: Address | None = None
        self.local: Address | None = None
        self.paused = 0.0
        self.moved_at = clock.seconds()
        self.first_at: float | None = None
        self._clock = clock
        self.buffer = buffer
        self._handshake = handshake
        self.tls: TLSInfo | None = None
        self._owner: StreamOwner | None = None
        self._bottom: ITransport | None = None
        self._plain: PlainTransport | None = None
        self._is_bare = False  # nothing is around `_plain`, so what it sent is what was written here
        self._peer: TransportStream | None = None
        self._early: list[bytes] = []
        self._early_failure = False
        self._ended = False
        self._end_told = False
        self._end: tuple[Loss, str] | None = None
        self._written = 0
        self._chunks = 0
        self._paused_at: float | None = None
        self._discarding = False
        self._producing = False
        self._aborted = False
        self._lost = False
        self._viewer: Viewer | None = None
        self._allowance: int | None = None
        self._counted = 0
        self._on_hold = False
        self._showing = False
        self._unanswered = False
        self._write_readiness: WriteReadiness | None = None

    def __repr__(self) -> str:
        state = "lost" if self._lost else "paused" if self._paused_at is not None else "open"
        return f"<TransportStream {self.side.value} {self.address} {state}>"

    @property
    def client_address(self) -> Address | None:
        """The address of the client of the session, as far as the two streams know it."""
        if self.side is Side.CLIENT:
            return self.address
        return None if self._peer is None else self._peer.address

    # What Twisted tells

    def connectionMade(self) -> None:
        """The transport is there; nothing is read before somebody owns the stream."""
        bottom = self.transport
        while isinstance(bottom, ProtocolWrapper) or ILayer.providedBy(bottom):
            bottom = bottom.transport
        self._bottom = bottom
        if isinstance(bottom, PlainTransport):
            self._plain = bottom
            self._is_bare = bottom is self.transport
        elif bottom is not None:
            if hasattr(bottom, "bufferSize"):
                bottom.bufferSize = self.buffer
            handle = bottom.getHandle() if hasattr(bottom, "getHandle") else None
            if isinstance(handle, socket.socket):
                keep_urgent(handle)
        if not self._handshake:
            self._open()

    def handshake_began(self) -> None:
        """The first message of a client of TLS is complete."""
        if self._owner is not None:
            self._owner.began(self)

    def announced(self, client: Address, local: Address | None) -> bool:
        """A header before TLS names the client; say whether its handshake may begin."""
        if self._owner is not None:
            self._owner.announced(self, client, local)
        return not (self._aborted or self._lost)

    def handshakeCompleted(self) -> None:
        """TLS is through and the peer's certificate is good."""
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
        self._pause_transport()
        if self._owner is not None:
            self._owner.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the peer."""
        if self._aborted:  # TLS hands over what it has even then
            return
        if self._discarding:
            # What is thrown away does not move, or a dead session would never be silent.
            self._throw_away(len(data))
            return
        self._chunks += 1
        self.moved_at = now = self._clock.seconds()
        if self.first_at is None:
            self.first_at = now
        if not self._producing or self._early or (self._peer is None and self._viewer is None):
            self._early.append(data)
        else:
            self._deliver(data)

    def _throw_away(self, count: int) -> None:
        if self._owner is not None and count:
            self._owner.thrown_away(self, count)

    def _deliver_early(self) -> None:
        """Pass on, or show, what came before anybody was ready for it."""
        while self._early and not self._on_hold and not self._discarding:
            self._deliver(self._early.pop(0))

    def _deliver(self, data: bytes) -> None:
        """Show `data`, or pass it on."""
        while data and self._allowance and not self._discarding:
            passing, data = data[: self._allowance], data[self._allowance :]
            # First: whoever hears of a failed write may ask how much has passed.
            self._allowance -= len(passing)
            if self._peer is not None:
                self._peer.write(passing)
            if self._allowance == 0 and self._viewer is not None:
                self._viewer.passed(self, self.settle())
        if not data or self._discarding:
            return
        if self._viewer is None:
            if self._peer is not None:
                self._peer.write(data)
            return
        self._showing = True
        try:
            self._viewer.shown(self, data)
        finally:
            self._showing = False

    def readConnectionLost(self) -> None:
        """The peer ended."""
        self._ended = True
        self._tell_end()

    def writeConnectionLost(self) -> None:
        """Our end is out."""
        if self._owner is not None:
            self._owner.end_sent(self)

    def writing_failed(self) -> None:
        """The peer takes no more."""
        self._answers_taken()
        if self._owner is not None:
            self._owner.writing_failed(self, self._why_broken())
        else:
            self._early_failure = True

    def _why_broken(self) -> str:
        return error_text(self._plain.gone if self._plain is not None else 0)

    def wrote(self) -> None:
        """Kept bytes went out: not silent, though nothing was read."""
        if self._peer is not None:
            self._peer.moved_at = self._clock.seconds()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone."""
        self._lost = True
        self._stop_pause()
        if self._viewer is not None and not self._aborted:
            # On hold or not: it is the last opportunity.
            self._on_hold = False
            self._deliver_early()
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
        # Nothing is told after this, nor asked of the transport: neither must keep the other alive.
        owner, self._owner = self._owner, None
        self.transport = self._bottom = self._write_readiness = None
        reason.cleanFailure()  # it knows the frames that it came through, and they know it
        if owner is not None:
            owner.lost(self, *self._end)

    def _tell_end(self) -> None:
        """Once, and not before what came ahead of it was passed on."""
        owner = self._owner
        if self._ended and self._producing and not self._end_told and not self._lost and owner is not None:
            if self._early:
                return  # on hold
            self._end_told = True
            owner.ended(self)

    # Backpressure: this stream as the producer of the other one's transport

    def pauseProducing(self) -> None:
        """The other side takes no more for now."""
        if self._paused_at is None and not self._lost:
            self._paused_at = self._clock.seconds()
            self._pause_transport()

    def resumeProducing(self) -> None:
        """The other side takes bytes again."""
        self._stop_pause()
        if not self._lost and self._producing and not self._on_hold and not self._unanswered:
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def stopProducing(self) -> None:
        """The other side is gone; its stream says so to the session, which decides."""

    def _read_on(self) -> None:
        """Read, unless the other side takes no more."""
        if self._paused_at is None:
            self.resumeProducing()

    def _takes_no_more(self) -> None:
        """The transport keeps what is written here: the other side is not read."""
        if self._peer is not None:
            self._peer.pauseProducing()

    def _takes_more(self) -> None:
        """The transport has written what it kept."""
        if self._peer is not None:
            self._peer.resumeProducing()
        self._answers_taken()

    def _answers_taken(self) -> None:
        """The peer has what it was answered, or will never have it: it may be read again."""
        if self._unanswered:
            self._unanswered = False
            self._read_on()

    def _stop_pause(self) -> None:
        if self._paused_at is not None:
            self.paused += self._clock.seconds() - self._paused_at
            self._paused_at = None

    def _pause_transport(self) -> None:
        self.transport.pauseProducing()  # type: ignore[union-attr]

    # What the session asks

    def own(self, owner: StreamOwner) -> None:
        """Tell `owner` from here on, and of a failure or a loss that came before; of an end once it reads."""
        if self._end is not None:
            owner.lost(self, *self._end)
            return
        self._owner = owner
        if self._early_failure:
            self._early_failure = False
            owner.writing_failed(self, self._why_broken())
        self._tell_end()

    def unjoin(self) -> None:
        """Forget the peer: both are lost."""
        self._peer = self._viewer = self._write_readiness = None

    def join(self, peer: TransportStream) -> None:
        """Write what is read to `peer`, and be the producer of its transport, or told by who is."""
        self._peer = peer
        if peer._write_readiness is not None:
            if peer._write_readiness.full:
                self.pauseProducing()
        elif not peer._lost:
            peer.transport.registerProducer(self, True)  # type: ignore[union-attr]

    def start(self) -> None:
        """Read."""
        self._producing = True
        self._deliver_early()
        self._tell_end()
        self._read_on()

    # Watching

    def watch(self, viewer: Viewer, peer: TransportStream | None = None) -> None:
        """Show what is read to `viewer`."""
        self._viewer = viewer
        if not self._lost:
            self._write_readiness = WriteReadiness(self._takes_no_more, self._takes_more)
            self.transport.registerProducer(self._write_readiness, True)  # type: ignore[union-attr]

    def pass_on(self, count: int | None) -> None:
        """Pass the next `count` bytes on unseen, None: all of them."""
        if count is None:
            self._viewer = None
        else:
            self._counted = self._allowance = count

    def show(self, viewer: Viewer) -> None:
        """Show what is read from here on to `viewer`, whatever `pass_on` said before."""
        self.settle()
        self._viewer = viewer

    def settle(self) -> int:
        """Show again; say how many bytes were passed on unseen since `pass_on`."""
        if self._allowance is None:
            return 0
        passed, self._allowance = self._counted - self._allowance, None
        return passed

    def hold(self) -> None:
        """Read no more until `go_on`."""
        self._on_hold = True
        self._read_little()
        if not self._lost and self._producing:
            self._pause_transport()

    def _read_little(self) -> None:
        if self._plain is not None:
            self._plain.read_little()

    def go_on(self) -> None:
        """Read again."""
        self._on_hold = False
        if self._producing:
            self._deliver_early()
            self._tell_end()
            self._read_on()

    def write(self, data: bytes, *, answer: bool = False) -> None:
        """Give `data` to the transport; `answer`: it came of what was read here."""
        if self._lost:
            return
        self._written += len(data)
        self.transport.write(data)  # type: ignore[union-attr]
        ready = self._write_readiness
        if (answer or self._showing) and ready is not None and ready.full and not self._lost:
            self._unanswered = True
            self._read_little()
            self._pause_transport()

    def end(self, *, last: bool = False) -> None:
        """End this direction as far as the transport can."""
        if self._lost:
            return
        transport = self.transport
        transport.unregisterProducer()  # type: ignore[union-attr]
        self._answers_taken()
        is_wrapped = isinstance(transport, ProtocolWrapper)
        if isinstance(transport, TLSMemoryBIOProtocol):
            transport.loseConnection()
        elif not is_wrapped and (
            ILayer.providedBy(transport) or IHalfCloseableDescriptor.providedBy(transport)
        ):
            transport.loseWriteConnection()
            return  # writeConnectionLost tells when it is out
        if self._owner is not None:
            self._owner.end_sent(self)

    def close(self) -> None:
        """Release the connection after what is kept has been written."""
        if not self._lost:
            self._will_close()
            transport = self.transport
            transport.unregisterProducer()  # type: ignore[union-attr]
            transport.loseConnection()  # type: ignore[union-attr]

    def abort(self) -> None:
        """Reset the connection, past TLS: Twisted's would send a ``close_notify``, which looks complete."""
        if self._lost:
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
        """Read and throw away."""
        self._discarding = True
        self._on_hold = self._unanswered = False
        early = sum(map(len, self._early))
        self._early.clear()
        self._producing = True
        if self._peer is not None and not self._peer._lost:
            self._peer.transport.unregisterProducer()  # type: ignore[union-attr]
            self._peer._answers_taken()
        self.resumeProducing()
        self._tell_end()
        self._throw_away(early)

    def has_input(self) -> bool:
        """It cannot tell."""
        return False

    def tap(self, saw: Callable[[bytes], None] | None) -> None:
        """Show a copy of everything that is read; None: no more."""
        # Twisted looks the method up for each read, so a stream that nobody taps pays nothing.
        vars(self).pop("dataReceived", None)
        if saw is None:
            return

        receive = self.dataReceived

        def received(data: bytes) -> None:
            saw(data)
            receive(data)

        vars(self)["dataReceived"] = received

    # What it did

    def answered(self) -> FlowSummary:
        """What was written here while there is no other side."""
        plain = self._plain
        if plain is not None and self._is_bare:
            return FlowSummary(bytes=plain.sent, writes=plain.writes)
        return FlowSummary(bytes=self._written)

    def summary(self, source: TransportStream) -> FlowSummary:
        """The flow from `source` to this stream, so far."""
        plain, theirs = self._plain, source._plain
        since = source._paused_at
        written = plain.sent if plain is not None and self._is_bare else self._written
        return FlowSummary(
            bytes=written,
            reads=theirs.reads if theirs is not None else source._chunks,
            writes=plain.writes if plain is not None else source._chunks,
            paused=source.paused + (0.0 if since is None else self._clock.seconds() - since),
        )
