# -*- test-case-name: tests.streams.test_stream -*-
"""
What a session sees of one of its two sides.

A stream tells its owner what happened (past tense) and does what it is asked
to (imperative). There is one owner at a time: first whoever dials, then the
session.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, Self

from portfwd.values import Side

if TYPE_CHECKING:
    from portfwd.values import Address, FlowSummary, TLSInfo


class Loss(enum.Enum):
    """
    How a stream came to its end.

    ``ORDERLY`` as asked, or by the peer where a transport knows no half-close; ``RESET`` by the peer
    or the network; ``ABORTED`` as asked; ``EXHAUSTED``: the kernel had no memory; ``FAILED``: our mistake.
    """

    ORDERLY = "orderly"
    RESET = "reset"
    ABORTED = "aborted"
    EXHAUSTED = "exhausted"
    FAILED = "failed"


class StreamOwner(Protocol):
    """Who is told what happens to a stream."""

    def began(self, stream: Stream) -> None:
        """A client's first TLS message is complete: from here on its handshake costs memory."""

    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """
        A PROXY header before TLS names `client`, who connected to `local`; the handshake has not begun.

        The header itself is the first that is read later on.
        """

    def opened(self, stream: Stream) -> None:
        """The stream can be used (a TLS handshake is behind it)."""

    def ended(self, stream: Stream) -> None:
        """The peer will send no more; it may still receive."""

    def end_sent(self, stream: Stream) -> None:
        """`Stream.end` is done: all was written and the end behind it."""

    def writing_failed(self, stream: Stream, detail: str) -> None:
        """The peer takes no more bytes; it may still send. `detail` is the error's text."""

    def thrown_away(self, stream: Stream, count: int) -> None:
        """After `Stream.discard`: `count` bytes of the peer were read and go nowhere."""

    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """The stream is gone. Nothing is told after this."""


class Viewer(Protocol):
    """Who sees the bytes of a stream before they are passed on."""

    def shown(self, stream: Stream, data: bytes) -> None:
        """`data` was read from `stream`; it goes nowhere unless somebody writes it."""

    def passed(self, stream: Stream, count: int) -> None:
        """The `count` bytes that `Watched.pass_on` let pass have passed; from here on all are shown again."""


class Stream(Protocol):
    """
    One side of a session.

    :ivar side: which one; set by the session.
    :ivar address: the peer's address.
    :ivar local: our own.
    :ivar moved_at: when bytes of this side were last read, or written to the other; reactor's seconds.
    :ivar first_at: when the first of them were read, or None.
    """

    side: Side
    address: Address | None
    local: Address | None
    moved_at: float
    first_at: float | None

    @property
    def kind(self) -> str:
        """The relay that two of these make, as the log names it; ``splice`` may have copied as well."""

    @property
    def hung_up(self) -> bool:
        """Whether the kernel has told that the peer ended or is gone, though it may not be read yet."""

    @property
    def handshaking(self) -> str:
        """How far a TLS handshake is that has to be through before the stream is opened; empty for none."""

    @property
    def tls(self) -> TLSInfo | None:
        """What the handshake with the peer said; None where there was none of ours."""

    def last_moved(self) -> float:
        """
        `moved_at`, or now while its flow waits for a grant of bandwidth.

        A limit of silence must not count that wait.
        """

    def own(self, owner: StreamOwner) -> None:
        """From here on `owner` is told; it hears of what came before too."""

    def join(self, peer: Self) -> None:
        """What is read here is written to `peer` from now on; both streams are told, once each."""

    def unjoin(self) -> None:
        """Both streams are lost and their figures were read: keep nothing of the other one."""

    def has_input(self) -> bool:
        """Whether bytes of the peer are known to wait for `start`; False also where nobody can tell."""

    def start(self) -> None:
        """Read."""

    def end(self, *, last: bool = False) -> None:
        """
        Write what is kept, then end this direction (FIN). The other one stays open.

        :param last: nothing more comes from this stream, and whoever asks will close it when told
            that the end is sent: closing may carry it.
        """

    def close(self) -> None:
        """Both directions are through: release the connection."""

    def abort(self) -> None:
        """Reset the connection now, dropping what is kept."""

    def discard(self) -> None:
        """From here on read and throw away."""

    def undelivered(self) -> int | None:
        """
        Bytes for the peer that its kernel has not acknowledged: those kept in this process, on every layer,
        and those in the kernel's send queue. An end that was sent and not acknowledged counts as one. 0
        once the peer takes no more; None: the platform or the transport cannot tell.
        """

    def keep_tcp_info(self) -> None:
        """Ask the kernel a last time before the connection is closed, for `tcp_info`."""

    def tcp_info(self) -> bytes:
        """
        What the kernel tells of the connection now (`portfwd.wire.tcp_info`); once it is lost, what was kept.

        Empty where there is nothing to tell.
        """

    def tap(self, saw: Callable[[bytes], None] | None) -> None:
        """
        Show a copy of everything that is read here from now on; None: no more.

        For an operator who looks at one session: that stream is slower meanwhile.
        """

    @property
    def carrier(self) -> object:
        """What brings the datagrams of this side, see `portfwd.streams.datagrams.carrier`; None for bytes."""

    def drops(self) -> Mapping[str, int]:
        """Datagrams of this side that were dropped, by cause; empty for a stream of bytes."""

    def summary(self, source: Self) -> FlowSummary:
        """The flow from `source` to this stream, so far."""


def moved_by(kind: str, to_upstream: FlowSummary, to_client: FlowSummary) -> str:
    """
    The relay that moved most of a session's bytes; empty if none moved.

    :param kind: of its streams.
    """
    moved = to_upstream.bytes + to_client.bytes
    if kind == "splice" and 2 * (to_upstream.spliced + to_client.spliced) < moved:
        kind = "copy"
    return kind if moved else ""


class Watched(Stream, Protocol):
    """A stream of a session with filters."""

    def watch(self, viewer: Viewer, peer: Self | None = None) -> None:
        """
        Show what is read to `viewer`; before `Stream.join`.

        :param peer: the client's stream, where this is the upstream's.
        """

    def write(self, data: bytes, *, answer: bool = False) -> None:
        """
        Write `data` here, behind what was written before.

        :param answer: it came of what was read here, though perhaps not just now: nothing more is read here
            before it is taken.
        """

    def answered(self) -> FlowSummary:
        """What was written here while there is no other side: `Stream.summary` needs one."""

    def pass_on(self, count: int | None) -> None:
        """Move the next `count` bytes that are read here unseen, None: all of them, when joined."""

    def settle(self) -> int:
        """Show again; say how many bytes were moved unseen since `pass_on`."""

    def show(self, viewer: Viewer) -> None:
        """Show what is read from here on to `viewer`, whatever `pass_on` said before."""

    def hold(self) -> None:
        """Read no more until `go_on`."""

    def go_on(self) -> None:
        """Read again."""


class Paced(Watched, Protocol):
    """A stream of a rule whose bandwidth is limited."""

    def go_as(self, client: Address) -> None:
        """The client is `client`, whatever his socket says: his bytes count for that address."""
