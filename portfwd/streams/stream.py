# -*- test-case-name: tests.streams.test_stream -*-
"""
The interface of a stream, one side of a session.

A stream calls its owner for events (past tense) and has methods for requests (imperative). It has one owner
at a time: first the dial, then the session.
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
    How a stream was closed.

    ``ORDERLY``: as requested, or by the peer of a transport without half-close. ``RESET``: by the peer or the
    network. ``ABORTED``: as requested. ``EXHAUSTED``: the kernel had no memory. ``FAILED``: by an exception
    of portfwd's code.
    """

    ORDERLY = "orderly"
    RESET = "reset"
    ABORTED = "aborted"
    EXHAUSTED = "exhausted"
    FAILED = "failed"


class StreamOwner(Protocol):
    """The owner of a stream, which gets its events."""

    def began(self, stream: Stream) -> None:
        """The first TLS message of a client is complete. From now on its handshake takes memory."""

    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """
        A PROXY header before TLS has announced `client`, connected to `local`. The handshake has not begun.

        The header itself is the first data that is read later.
        """

    def opened(self, stream: Stream) -> None:
        """The stream can be used; a TLS handshake has succeeded."""

    def ended(self, stream: Stream) -> None:
        """The peer has ended. It may still receive."""

    def end_sent(self, stream: Stream) -> None:
        """`Stream.end` has completed: all bytes and the end were sent."""

    def writing_failed(self, stream: Stream, detail: str) -> None:
        """The peer accepts no more bytes. It may still send. `detail` is the text of the error."""

    def thrown_away(self, stream: Stream, count: int) -> None:
        """After `Stream.discard`: `count` bytes of the peer were read and dropped."""

    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """The stream was closed. No calls follow."""


class Viewer(Protocol):
    """A viewer sees the bytes of a stream before they are passed on."""

    def shown(self, stream: Stream, data: bytes) -> None:
        """`data` was read from `stream`. It is not passed on unless the viewer writes it."""

    def passed(self, stream: Stream, count: int) -> None:
        """The `count` bytes of `Watched.pass_on` have passed. Further bytes are shown again."""


class Stream(Protocol):
    """
    One side of a session.

    :ivar side: the side; set by the session.
    :ivar address: address of the peer.
    :ivar local: local address.
    :ivar moved_at: time of the last read of this side, or of the last write of its bytes, in seconds of the
        reactor.
    :ivar first_at: time of the first read, or None.
    """

    side: Side
    address: Address | None
    local: Address | None
    moved_at: float
    first_at: float | None

    @property
    def kind(self) -> str:
        """The name of the relay in the log. ``splice`` may also have copied bytes."""

    @property
    def hung_up(self) -> bool:
        """Whether the kernel has reported an end or a broken connection, which may not be read yet."""

    @property
    def handshaking(self) -> str:
        """Text about the progress of the TLS handshake before the stream is opened; empty for none."""

    @property
    def tls(self) -> TLSInfo | None:
        """Result of the TLS handshake with the peer; None if there was none."""

    def last_moved(self) -> float:
        """
        `moved_at`, or now while its flow waits for a grant of bandwidth.

        The limit of silence does not include that wait.
        """

    def own(self, owner: StreamOwner) -> None:
        """Call `owner` from now on, also for earlier events."""

    def join(self, peer: Self) -> None:
        """Write all bytes of this stream to `peer` from now on. Called once for each of both streams."""

    def unjoin(self) -> None:
        """Drop the references to the other stream. Both are closed, and their counts were read."""

    def has_input(self) -> bool:
        """Whether bytes of the peer are waiting for `start`; False if unknown."""

    def has_unread(self) -> bool:
        """Whether bytes of the peer are in the kernel's receive queue; False if unknown."""

    def start(self) -> None:
        """Start to read."""

    def end(self, *, last: bool = False) -> None:
        """
        Write the kept bytes, then end this direction (FIN). The other one stays open.

        :param last: whether the other direction has ended and the caller closes the stream after the end was
            sent. Closing may then send the end.
        """

    def close(self) -> None:
        """Close the connection. Both directions have ended."""

    def abort(self) -> None:
        """Reset the connection now, and drop the kept bytes."""

    def discard(self) -> None:
        """Read and drop all further bytes."""

    def undelivered(self) -> int | None:
        """
        Number of bytes for the peer that its kernel has not acknowledged: those kept in this process, in all
        layers, and those in the kernel's send queue. An unacknowledged end counts as one. 0 if the peer
        accepts no more. None if unknown.
        """

    def keep_tcp_info(self) -> None:
        """Read `tcp_info` from the kernel before the connection is closed."""

    def tcp_info(self) -> bytes:
        """
        The kernel's information about the connection (`portfwd.wire.tcp_info`), or the stored one after it
        was closed.

        Empty if there is none.
        """

    def tap(self, saw: Callable[[bytes], None] | None) -> None:
        """
        Show a copy of all further bytes of this stream; None to stop.

        For operators. The stream is slower meanwhile.
        """

    @property
    def carrier(self) -> object:
        """What brings the datagrams of this side, see `portfwd.streams.datagrams.carrier`; None for bytes."""

    def drops(self) -> Mapping[str, int]:
        """Datagrams of this side that were dropped, by cause; empty for a stream of bytes."""

    def summary(self, source: Self) -> FlowSummary:
        """Summary of the flow from `source` to this stream so far."""


def moved_by(kind: str, to_upstream: FlowSummary, to_client: FlowSummary) -> str:
    """
    The relay that moved most of a session's bytes; empty if there were none.

    :param kind: kind of its streams.
    """
    moved = to_upstream.bytes + to_client.bytes
    if kind == "splice" and 2 * (to_upstream.spliced + to_client.spliced) < moved:
        kind = "copy"
    return kind if moved else ""


class Watched(Stream, Protocol):
    """A stream of a session with filters."""

    def watch(self, viewer: Viewer, peer: Self | None = None) -> None:
        """
        Show bytes to `viewer`. Call it before `Stream.join`.

        :param peer: the client's stream, if this is the upstream's.
        """

    def write(self, data: bytes, *, answer: bool = False) -> None:
        """
        Write `data` to this stream after earlier bytes.

        :param answer: whether it answers bytes of this stream. Stop reading from this stream until the peer
            has taken these bytes.
        """

    def answered(self) -> FlowSummary:
        """Summary of the bytes written here while there is no other side."""

    def pass_on(self, count: int | None) -> None:
        """Move the next `count` bytes of this stream without showing them; None for all, when joined."""

    def settle(self) -> int:
        """Show bytes again; return how many were moved without being shown since `pass_on`."""

    def show(self, viewer: Viewer) -> None:
        """Show all further bytes to `viewer`, even if `pass_on` was called before."""

    def hold(self) -> None:
        """Stop reading until `go_on`."""

    def go_on(self) -> None:
        """Read again."""


class Paced(Watched, Protocol):
    """A stream of a rule with limited bandwidth."""

    def go_as(self, client: Address) -> None:
        """Count the bytes of this session for the address `client`."""
