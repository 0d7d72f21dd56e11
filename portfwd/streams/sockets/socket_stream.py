# -*- test-case-name: tests.streams.sockets.test_socket_stream -*-
"""
The stream over a plain socket without a Twisted transport (Linux).

The socket is registered in the `Poller`'s edge-triggered set once, for all events. A paused stream is just
not read. Readiness is stored:

- Events set ``readable`` and ``writable``. Only ``EAGAIN`` clears them, or a short read if nothing tells that
  there may be ``more``. An edge that arrives while the stream is not read is thus not lost, nor an end behind
  it.
- The kernel reports an error once, to the next call, so the error of every call is checked. An error in
  `GONE` marks the peer as gone; a read that then returns no bytes is not an end.

The `SocketFlow`s between two streams move the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Final, Protocol, cast

from twisted.python.failure import Failure

from portfwd.kernel.poller import ERROR, EVENTS
from portfwd.kernel.polling import Polling
from portfwd.kernel.socket_options import keep_urgent
from portfwd.kernel.sockets import (
    EXHAUSTED,
    GONE,
    has_hung_up,
    push,
    reset_on_close,
    tcp_info,
    unsent_bytes,
    waiting_bytes,
)
from portfwd.streams.loss_text import error_text
from portfwd.streams.sockets.socket_end import NotConnected, SocketEnd
from portfwd.streams.sockets.socket_flow import SocketFlow
from portfwd.streams.sockets.tapped import Saw, TappedSocket
from portfwd.streams.stream import Loss, StreamOwner, Viewer
from portfwd.streams.viewed import ViewedStream
from portfwd.values import Address, FlowSummary, Side

_READ: Final = 0x201B  # EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR
_MORE: Final = 0x201A  # EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR
_HUNG_UP: Final = 0x2018  # EPOLLRDHUP | EPOLLHUP | EPOLLERR
_STOPS: Final = 0x1
# Names of the module: access to an enum member is slower.
_CLIENT: Final = Side.CLIENT
_ORDERLY: Final = Loss.ORDERLY
_UNIX: Final = int(getattr(socket, "AF_UNIX", -1))
_WRITE: Final = 0x1C  # EPOLLOUT | EPOLLHUP | EPOLLERR


class Joiner(Protocol):
    """
    The common part of all streams of a rule.

    :ivar poller: watches their sockets.
    :ivar kind: name of the relay in the log.
    :ivar paced: whether the bandwidth of some flows is limited.
    """

    @property
    def poller(self) -> Polling:
        """See the class."""

    @property
    def kind(self) -> str:
        """See the class."""

    @property
    def paced(self) -> bool:
        """See the class."""

    def join(self, source: SocketEnd, destination: SocketEnd) -> SocketFlow:
        """Make the flow between two streams. One of them may be `NotConnected`."""


class SocketStream(ViewedStream):
    """
    One side of a session on a plain socket.

    :ivar readable: whether a read may return bytes.
    :ivar writable: whether a write may accept bytes.
    :ivar more: the reason why a short read, or a splice of 0 bytes, does not mean that the socket is empty; 0
        if it does. Bits of events: a hang-up, so there is an end to read, or urgent data, at which reads
        stop. Or `_STOPS`: a read of a unix socket also stops after bytes that were sent with a descriptor.
    :ivar dead: whether events have reported a broken connection.
    :ivar lost: whether the socket is closed.
    :ivar source: the flow from this stream, after it is joined.
    :ivar drain: the flow to this stream, after it is joined.
    """

    __slots__ = (
        "_closes_soon",
        "_joiner",
        "_last_info",
        "_loss",
        "_owner",
        "address",
        "dead",
        "descriptor",
        "drain",
        "end_asked",
        "end_out",
        "first_at",
        "gone",
        "local",
        "lost",
        "more",
        "moved_at",
        "read_ended",
        "readable",
        "side",
        "socket",
        "source",
        "started",
        "writable",
        "write_broken",
    )

    source: SocketFlow | None
    drain: SocketFlow | None

    #: These sockets have no layers.
    handshaking: Final = ""
    tls: Final = None
    is_connected: Final = True
    carrier: Final = None

    def __init__(
        self,
        sock: socket.socket,
        address: Address | None,
        joiner: Joiner,
        local: Address | None = None,
        seen: int | None = None,
    ) -> None:
        """
        :param sock: connected and non-blocking; the stream owns it.
        :param joiner: makes the flows of its rule.
        :param local: local address, if it is needed.
        :param seen: the events so far, if the poller watches the socket for `EVENTS` already.
        :raises OSError: the kernel refused to watch it; it is closed.
        """
        self.side = _CLIENT
        poller = joiner.poller
        self.address = address
        self.socket = sock
        self.descriptor = sock.fileno()
        self.moved_at = poller.now
        self.first_at: float | None = None
        self.readable = False
        self.writable = True
        self.more = 0
        if sock.family == _UNIX:
            self.more = _STOPS
            keep_urgent(sock)
        self.dead = False
        self.gone = 0
        self.started = False
        self.read_ended = False
        self.write_broken = False
        self.end_asked = False
        self.end_out = False
        self._closes_soon = False
        self.source = None
        self.drain = None
        self._owner: StreamOwner | None = None
        self._loss: tuple[Loss, str] | None = None
        self._last_info: bytes | None = None
        self._joiner = joiner
        self.lost = False
        self.local = local
        if seen is not None:
            # Edges that arrived under the previous owner are not repeated.
            self.readable, self.dead = bool(seen & _READ), bool(seen & ERROR)
            self.more |= seen & _MORE
            poller.hand_over(self.descriptor, self)
        else:
            try:
                poller.watch(self.descriptor, EVENTS, self)
            except OSError:
                sock.close()
                raise

    def __repr__(self) -> str:
        marks = "".join(
            mark
            for mark, there in (
                ("r", self.readable),
                ("w", self.writable),
                ("m", self.more),
                ("E", self.read_ended),
                ("B", self.write_broken),
                ("O", self.end_out),
            )
            if there
        )
        return f"<SocketStream {self.side.value} {self.address} {'lost' if self.lost else marks or '-'}>"

    @property
    def kind(self) -> str:
        """The name of the relay in the log."""
        return self._joiner.kind

    @property
    def hung_up(self) -> bool:
        """Whether the peer has ended or is gone."""
        return self.dead or bool(self.more & _HUNG_UP)

    # Events of the poller

    def ready(self, events: int) -> None:
        """Store the state of an edge, and run the flows that waited for it."""
        if events & _READ:
            self.readable = True
            if events & _MORE:
                self.more |= events & _MORE
            flow = self.source
            if flow is not None and self.started and not self.read_ended:
                # Small amounts are moved at once. Bulk flows, and flows with a queued turn, wait for their
                # turns.
                if flow.bulk:
                    flow.take_turn()
                elif not flow.queued:
                    flow.run()
        if events & _WRITE:
            self.writable = True
            flow = self.drain
            if flow is not None and flow.paused_at is not None:
                if flow.bulk:
                    flow.take_turn()
                elif not flow.queued:
                    flow.run()
        # HUP without ERR does not mean broken: it also occurs after both ends, and when the peer of a unix
        # socket has closed in order. A failed write will tell.
        if events & ERROR and not self.lost and has_hung_up(self.socket):
            self.dead = True
            self.look_for_death()

    def failed(self, failure: Failure) -> None:
        """The handling of an event raised an exception: end this connection."""
        self.lose(Loss.FAILED, failure.getErrorMessage())

    def look_for_death(self) -> None:
        """
        Report that the peer of a broken connection accepts no more, unless reading will report the cause.

        Reading does not report it if it has not started, if the other side accepts no bytes, if the end was
        read before, or if the flow waits for a grant.
        """
        flow = self.source
        if not self.dead or (self.end_out and self.read_ended):
            return
        if not self.started or self.read_ended or flow is None or flow.waits_to_write or flow.is_stopped:
            self.break_writing(errno.EPIPE)

    # Events of flows

    def read_failed(self, problem: OSError) -> None:
        """A read failed: the connection is gone, and all bytes before were passed on."""
        code = problem.errno or errno.ECONNRESET
        self.gone = code
        how = Loss.EXHAUSTED if code in EXHAUSTED else Loss.RESET
        self.lose(how, error_text(code))

    def read_nothing(self) -> None:
        """A read returned no bytes: the end, unless an earlier call has got an error."""
        if self.gone:
            self.lose(Loss.RESET, error_text(self.gone))
            return
        self.read_ended = True
        self.readable = False
        if self._owner is not None:
            self._owner.ended(self)
        if self.dead:
            # The reset followed the end. Reads do not report it, and there may be no writes.
            self.look_for_death()

    def break_writing(self, code: int) -> None:
        """A write failed: this direction has ended. Reading continues to its own end."""
        if code in GONE:
            self.gone = code
        if self.write_broken or self.lost:
            return
        self.write_broken = True
        if self.drain is not None:
            self.drain.drop()
        if code in EXHAUSTED:
            self.lose(Loss.EXHAUSTED, error_text(code))
        elif self._owner is not None:
            self._owner.writing_failed(self, self._why_broken())

    def _why_broken(self) -> str:
        return error_text(self.gone)

    def written_out(self) -> None:
        """No bytes are kept for this stream any more: send a waiting end."""
        if self.end_asked and not self.end_out and not self.write_broken and not self.lost:
            drain = self.drain
            if drain is not None and (drain.kept or drain.in_pipe or drain.view) and drain.keeps_bytes:
                return  # more bytes follow the written ones
            self.end_out = True
            if not self._closes_soon:
                try:
                    self.socket.shutdown(socket.SHUT_WR)
                except OSError as problem:
                    self.break_writing(problem.errno or errno.EPIPE)
                    return
            if self._owner is not None:
                self._owner.end_sent(self)

    def lose(self, how: Loss, detail: str = "") -> None:
        """Close the socket, with a reset unless all ended in order, and call the owner once."""
        if self.lost:
            return
        self.lost = True
        self._loss = (how, detail)
        if self._last_info is not None:
            self._last_info = tcp_info(self.socket)
        if how is not _ORDERLY:
            # An end instead of a reset would make a broken stream look complete. A socket that is reset
            # already may refuse the option and does not need it.
            with contextlib.suppress(OSError):
                reset_on_close(self.socket)
        self._joiner.poller.forget(self.socket)
        drain, source = self.drain, self.source
        if drain is not None:
            if drain.allowance is not None:
                drain.leave()
            view = drain.view
            if drain.kept or drain.pipe or drain.paused_at is not None or (view is not None and view.behind):
                drain.drop()
        if source is not None:
            if source.allowance is not None:
                source.leave()
            if source.pipe is not None:
                source.source_lost()
        owner = self._owner
        if owner is not None:
            # No calls follow. Break reference cycles, so that the session and its streams are freed at once.
            self._owner = None
            owner.lost(self, how, detail)

    # Requests of the session

    def own(self, owner: StreamOwner) -> None:
        """Call `owner` from now on. The first owner also gets earlier events; every owner gets a loss."""
        is_first = self._owner is None
        if self._loss is not None:
            owner.lost(self, *self._loss)
            return
        self._owner = owner
        if is_first:
            if self.write_broken:
                owner.writing_failed(self, self._why_broken())
            if self.read_ended:
                owner.ended(self)

    def join(self, peer: SocketStream) -> None:
        """Make the flow to `peer`, unless `watch` has made it."""
        if self.source is None:
            self.source = peer.drain = self._joiner.join(self, peer)

    def start(self) -> None:
        """Start to read."""
        self.started = True
        self._joiner.poller.look_at_clock()
        if self.readable and self.source is not None:
            self.source.run()

    def unjoin(self) -> None:
        """Drop the flows. Both streams are closed, and their counts were read."""
        self.source = self.drain = None

    def end(self, *, last: bool = False) -> None:
        """Shut down writing after the kept bytes. Closing sends the `last` end."""
        self.end_asked = True
        self._closes_soon = last
        self.written_out()

    def close(self) -> None:
        """Close. Both directions have ended."""
        self.lose(_ORDERLY)

    def abort(self) -> None:
        """Reset."""
        self.lose(Loss.ABORTED)

    def discard(self) -> None:
        """Read and drop all bytes."""
        self.started = True
        if self.source is None:
            # A refused client has no other side, but its end must be read.
            self.source = self._joiner.join(self, self)
        self.source.discard()

    def tap(self, saw: Saw | None) -> None:
        """Show a copy of all bytes that are read; None to stop."""
        if isinstance(self.socket, TappedSocket):
            tapped = self.socket
            self.socket = tapped.inner
            if self.source is not None:
                self.source.splice_again(tapped.pool)
        if saw is not None and not self.lost:
            tapped = TappedSocket(self.socket, saw)
            if self.source is not None:
                tapped.pool = self.source.copy_only()
            self.socket = cast(socket.socket, tapped)

    def drops(self) -> dict[str, int]:
        """There are no datagrams here."""
        return {}

    def has_input(self) -> bool:
        """Whether bytes are waiting to be read, before `start`."""
        # Bytes that may have to wait for a grant do not count.
        return not self._joiner.paced and not self.lost and waiting_bytes(self.socket) > 0

    def has_unread(self) -> bool:
        """Whether bytes of the peer are in the kernel's receive queue."""
        return not self.lost and waiting_bytes(self.socket) > 0

    def last_moved(self) -> float:
        """Time of the last moved bytes; now if the flow from here waits for a grant."""
        flow = self.source
        if flow is not None and flow.allowance is not None and flow.allowance.waits:
            self._joiner.poller.look_at_clock()
            return self._joiner.poller.now
        return self.moved_at

    def push(self) -> None:
        """Send bytes that were held back to be sent together with an end."""
        try:
            push(self.socket)
        except OSError as problem:
            self.break_writing(problem.errno or errno.EPIPE)

    def thrown_away(self, count: int) -> None:
        """Bytes were read and dropped."""
        if self._owner is not None:
            self._owner.thrown_away(self, count)

    def keep_tcp_info(self) -> None:
        """Read `tcp_info` from the kernel before the socket is closed."""
        if not self.lost:
            self._last_info = b""

    def tcp_info(self) -> bytes:
        """The kernel's information about the connection, or the last one before it was closed."""
        return (self._last_info or b"") if self.lost else tcp_info(self.socket)

    def undelivered(self) -> int | None:
        """Number of bytes kept for this stream and of those that its peer has not acknowledged."""
        if self.lost or self.write_broken:
            return 0
        queued = unsent_bytes(self.socket)
        if queued is None:
            return None
        return queued + (self.drain.kept_bytes if self.drain is not None else 0)

    def summary(self, source: SocketStream) -> FlowSummary:
        """Summary of the flow from `source` to this stream so far."""
        flow = source.source
        return flow.summary() if flow is not None else FlowSummary()

    # Requests of a viewer

    def watch(self, viewer: Viewer, peer: SocketStream | None = None) -> None:
        """
        Show all bytes to `viewer`.

        :param peer: the stream that was watched before. Both share their flows.
        """
        if peer is not None:
            self.drain, self.source = peer.source, peer.drain
        if self.drain is not None and self.source is not None:
            self.drain.destination = self.source.source = self
        else:
            nowhere = cast(SocketEnd, NotConnected())
            self.source = self._joiner.join(self, nowhere)
            self.drain = self._joiner.join(nowhere, self)
            self.drain.watch(None)
        self.source.watch(viewer)

    def write(self, data: bytes, *, answer: bool = False) -> None:
        """Write `data` to this stream after earlier bytes."""
        if self.drain is not None:
            self.drain.write(data, answer=answer)

    def answered(self) -> FlowSummary:
        """Summary of the bytes written here while there is no other side."""
        return FlowSummary() if self.drain is None else self.drain.summary()
