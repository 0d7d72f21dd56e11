# -*- test-case-name: tests.streams.sockets.test_socket_stream -*-
"""
The stream over a plain socket that Twisted never sees (Linux).

It stands in the `Poller`'s edge-triggered set once, for everything, and is
never modified there: to be paused is not to be read. Readiness is state:

- ``readable`` and ``writable`` are set by events and cleared only by
  ``EAGAIN``, or by a short read while nothing says that there may be ``more``. An edge
  that came while nobody wanted to read is not lost that way, nor is an end behind it.
- Errors are told once by the kernel, by whichever call comes first, so every
  call's error is looked at: what is in `GONE` marks the peer as gone, and a
  read that then returns nothing is no end.

Bytes are moved by the `SocketFlow`s between two of these.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Final, Protocol, cast

from twisted.python.failure import Failure

from portfwd.kernel.poller import ERROR, EVENTS
from portfwd.kernel.polling import Polling
from portfwd.kernel.sockets import (
    EXHAUSTED,
    GONE,
    has_hung_up,
    keep_urgent,
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
# Names of the module: an attribute of an enum's class takes longer.
_CLIENT: Final = Side.CLIENT
_ORDERLY: Final = Loss.ORDERLY
_UNIX: Final = int(getattr(socket, "AF_UNIX", -1))
_WRITE: Final = 0x1C  # EPOLLOUT | EPOLLHUP | EPOLLERR


class Joiner(Protocol):
    """
    What all streams of a rule have in common.

    :ivar poller: watches their sockets.
    :ivar kind: the relay, as the log names it.
    :ivar paced: the bandwidth of some of their flows is limited.
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
        """Make the flow between two streams; either may be `NotConnected`."""


class SocketStream(ViewedStream):
    """
    One side of a session on a socket of ours.

    :ivar readable: reading may give something.
    :ivar writable: writing may take something.
    :ivar more: why a short read, or a splice that gives nothing, does not mean that there is no more; 0: it
        does. Bits of events: a hang-up was seen, so there is an end to be read; or urgent data, at which
        reads stop. Or `_STOPS`: on a unix socket a read also stops behind bytes that came with a descriptor.
    :ivar dead: the connection broke, as far as events told.
    :ivar lost: the socket is closed.
    :ivar source: the flow whose source this stream is, once joined.
    :ivar drain: the flow that writes here, once joined.
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

    #: There is nothing around what these sockets carry.
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
        :param local: our own address, where somebody wants to know it.
        :param seen: what the poller has told so far, if it watches the socket for `EVENTS` already.
        :raises OSError: the kernel refuses to watch it; it is closed then.
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
            # The edges that came while it was somebody else's do not come again.
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
        """The relay, as the log names it."""
        return self._joiner.kind

    @property
    def hung_up(self) -> bool:
        """Whether the peer ended or is gone."""
        return self.dead or bool(self.more & _HUNG_UP)

    # What the poller tells

    def ready(self, events: int) -> None:
        """An edge: remember what it says, and let the flows that waited for it go on."""
        if events & _READ:
            self.readable = True
            if events & _MORE:
                self.more |= events & _MORE
            flow = self.source
            if flow is not None and self.started and not self.read_ended:
                # Little is done at once, bulk waits for its turn, and so does whoever has one coming.
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
        # HUP without ERR is no death: so looks a connection whose two ends crossed, and a unix
        # socket whose peer closed in order. A write that fails says the rest.
        if events & ERROR and not self.lost and has_hung_up(self.socket):
            self.dead = True
            self.look_for_death()

    def failed(self, failure: Failure) -> None:
        """Our own code failed at an event: this connection ends."""
        self.lose(Loss.FAILED, failure.getErrorMessage())

    def look_for_death(self) -> None:
        """
        Where the connection broke: say that the peer takes no more, if reading does not find out.

        Reading finds out how it died, unless nobody reads yet, or the other side takes nothing, or the
        end was read before, or the flow is made to wait.
        """
        flow = self.source
        if not self.dead or (self.end_out and self.read_ended):
            return
        if not self.started or self.read_ended or flow is None or flow.waits_to_write or flow.is_stopped:
            self.break_writing(errno.EPIPE)

    # What flows find

    def read_failed(self, problem: OSError) -> None:
        """A read had an error: the connection is gone, what came before it was passed on."""
        code = problem.errno or errno.ECONNRESET
        self.gone = code
        how = Loss.EXHAUSTED if code in EXHAUSTED else Loss.RESET
        self.lose(how, error_text(code))

    def read_nothing(self) -> None:
        """A read returned no bytes: the end, unless an error was told to somebody before."""
        if self.gone:
            self.lose(Loss.RESET, error_text(self.gone))
            return
        self.read_ended = True
        self.readable = False
        if self._owner is not None:
            self._owner.ended(self)
        if self.dead:
            # The reset came behind the end. Reads do not find it, and perhaps nobody writes.
            self.look_for_death()

    def break_writing(self, code: int) -> None:
        """A write had an error: this direction is over, reading goes on to its own end."""
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
        """Nothing is kept for this stream any more: an end that waited goes out."""
        if self.end_asked and not self.end_out and not self.write_broken and not self.lost:
            if self.drain is not None and self.drain.keeps_bytes:
                return  # there is something behind what was written
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
        """Close the socket, with a reset unless all was in order, and tell the owner, once."""
        if self.lost:
            return
        self.lost = True
        self._loss = (how, detail)
        if self._last_info is not None:
            self._last_info = tcp_info(self.socket)
        if how is not _ORDERLY:
            # An end in its place would make a broken stream look complete. A socket that is
            # reset already may refuse the option; it needs it no more.
            with contextlib.suppress(OSError):
                reset_on_close(self.socket)
        self._joiner.poller.forget(self.socket)
        drain, source = self.drain, self.source
        if drain is not None:
            if drain.allowance is not None:
                drain.leave()
            if drain.pipe is not None or drain.keeps_bytes or drain.waits_to_write:
                drain.drop()
        if source is not None:
            if source.allowance is not None:
                source.leave()
            if source.pipe is not None:
                source.source_lost()
        owner = self._owner
        if owner is not None:
            # Nothing is told after this; a session and its streams must not wait for the garbage collector.
            self._owner = None
            owner.lost(self, how, detail)

    # What the session asks

    def own(self, owner: StreamOwner) -> None:
        """Tell `owner` from here on, the first one also of what came before; a loss is told to every one."""
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
        """Make the flow from here to `peer`, unless `watch` did."""
        if self.source is None:
            self.source = peer.drain = self._joiner.join(self, peer)

    def start(self) -> None:
        """Read."""
        self.started = True
        self._joiner.poller.look_at_clock()
        if self.readable and self.source is not None:
            self.source.run()

    def unjoin(self) -> None:
        """Forget the flows: this stream and its peer are lost, and their figures were read."""
        self.source = self.drain = None

    def end(self, *, last: bool = False) -> None:
        """Shut writing down, after what is kept for this stream; of the `last` end closing takes care."""
        self.end_asked = True
        self._closes_soon = last
        self.written_out()

    def close(self) -> None:
        """Close; both directions are through."""
        self.lose(_ORDERLY)

    def abort(self) -> None:
        """Reset."""
        self.lose(Loss.ABORTED)

    def discard(self) -> None:
        """Read and throw away."""
        self.started = True
        if self.source is None:
            # A client that was refused has no other side; its end is still waited for.
            self.source = self._joiner.join(self, self)
        self.source.discard()

    def tap(self, saw: Saw | None) -> None:
        """Show a copy of everything that is read; None: no more."""
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
        """Whether bytes wait to be read, before `start`."""
        # What may have to wait for a grant is not promised.
        return not (self.lost or self._joiner.paced) and waiting_bytes(self.socket) > 0

    def last_moved(self) -> float:
        """When bytes were last moved: now, while the flow from here waits for a grant."""
        flow = self.source
        if flow is not None and flow.allowance is not None and flow.allowance.waits:
            self._joiner.poller.look_at_clock()
            return self._joiner.poller.now
        return self.moved_at

    def push(self) -> None:
        """Let go what was held back for an end to leave with it."""
        try:
            push(self.socket)
        except OSError as problem:
            self.break_writing(problem.errno or errno.EPIPE)

    def thrown_away(self, count: int) -> None:
        """Bytes were read that go nowhere."""
        if self._owner is not None:
            self._owner.thrown_away(self, count)

    def keep_tcp_info(self) -> None:
        """Ask the kernel once more before the socket is closed."""
        if not self.lost:
            self._last_info = b""

    def tcp_info(self) -> bytes:
        """What the kernel tells of the connection, or told at last."""
        return (self._last_info or b"") if self.lost else tcp_info(self.socket)

    def undelivered(self) -> int | None:
        """Bytes that are kept for this stream, and those its peer's kernel has not acknowledged."""
        if self.lost or self.write_broken:
            return 0
        queued = unsent_bytes(self.socket)
        if queued is None:
            return None
        return queued + (self.drain.kept_bytes if self.drain is not None else 0)

    def summary(self, source: SocketStream) -> FlowSummary:
        """The flow from `source` to this stream, so far."""
        flow = source.source
        return flow.summary() if flow is not None else FlowSummary()

    # What a viewer asks

    def watch(self, viewer: Viewer, peer: SocketStream | None = None) -> None:
        """
        Show what is read to `viewer`.

        :param peer: the stream that was watched before; its flows are this one's too.
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
        """Write `data` here, behind what was written before."""
        if self.drain is not None:
            self.drain.write(data, answer=answer)

    def answered(self) -> FlowSummary:
        """What was written here while there is no other side."""
        return FlowSummary() if self.drain is None else self.drain.summary()
