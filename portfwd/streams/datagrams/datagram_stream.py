# -*- test-case-name: tests.streams.datagrams.test_datagram_stream -*-
"""
One side of an association: a stream of whole datagrams.

It has the interface of any stream, with these differences: a datagram is passed on at once or dropped, and
never kept for a slow peer; there are no ends, so `end` closes; and a port unreachable counts as a reset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from portfwd.streams.datagrams.carrier import Carrier, EarlyDatagrams
from portfwd.streams.datagrams.return_path import Proof
from portfwd.streams.stream import Loss, StreamOwner, Viewer
from portfwd.values import Address, FlowSummary, Side


class DatagramStream:
    """
    A stream over a carrier.

    :ivar carrier: sends and receives its datagrams.
    :ivar dropped: number of datagrams not sent to this side, because the kernel's buffer was full or they
        were too large.
    """

    kind = "datagrams"
    #: There is nothing around what these sockets carry.
    handshaking: Final = ""
    tls: Final = None

    __slots__ = (
        "_early",
        "_forward",
        "_lost",
        "_on_hold",
        "_owner",
        "_peer",
        "_proof",
        "_reads",
        "_seconds",
        "_sent",
        "_started",
        "_tap",
        "_viewer",
        "_writes",
        "address",
        "carrier",
        "dropped",
        "first_at",
        "local",
        "moved_at",
        "side",
    )

    def __init__(self, carrier: Carrier, seconds: Callable[[], float]) -> None:
        """
        Receive the datagrams of `carrier`.

        :param seconds: the reactor's clock.
        :raises OSError: the kernel refused to watch the socket; it is closed.
        """
        self.side = Side.CLIENT
        self.address: Address | None = carrier.address
        self.local: Address | None = carrier.local
        self.moved_at = seconds()
        self.first_at: float | None = None
        self.dropped = 0
        self._seconds = seconds
        self.carrier = carrier
        self._owner: StreamOwner | None = None
        self._peer: DatagramStream | None = None
        self._viewer: Viewer | None = None
        self._tap: Callable[[bytes], None] | None = None
        self._early: EarlyDatagrams | None = None
        self._proof: Proof | None = None
        self._forward: Callable[[bytes], None] | None = None
        self._lost: tuple[Loss, str] | None = None
        self._started = self._on_hold = False
        self._reads = self._writes = self._sent = 0
        carrier.carry(self)

    def __repr__(self) -> str:
        state = "open" if self._lost is None else "lost"
        return f"<DatagramStream {self.side.value} {self.address} {state}>"

    # Events of the carrier

    def received(self, data: bytes) -> None:
        """Handle a datagram."""
        self._reads += 1
        self.moved_at = now = self._seconds()
        if self.first_at is None:
            self.first_at = now
        forward = self._forward
        if forward is not None:
            forward(data)
        elif self._started and not self._on_hold and not self._early:
            self._deliver(data)
        elif self._lost is None:
            if self._early is None:
                self._early = EarlyDatagrams()
            self._early.put(data)

    @property
    def client(self) -> Address | None:
        """The client for whom this side's datagrams count; None: they are not counted."""
        return None

    def last_moved(self) -> float:
        """The same as `moved_at`, because datagrams do not wait for grants."""
        return self.moved_at

    @property
    def heard_at(self) -> float:
        """See `Taker`."""
        return self.moved_at

    @property
    def asked_at(self) -> float:
        """See `Taker`."""
        return self.moved_at if self._peer is None else self._peer.moved_at

    def moved(self, address: Address, local: Address | None) -> None:
        """See `Taker`."""
        self.address, self.local = address, local

    def broken(self, detail: str) -> None:
        """The port of the peer is closed, or there is no route to it."""
        self._leave(Loss.RESET, detail)

    def demand(self, proof: Proof) -> None:
        """Limit the passed datagrams by `proof`. For the upstream's side."""
        self._proof = proof

    def _deliver(self, data: bytes) -> None:
        """Show `data`, or pass it on."""
        proof = self._proof
        if proof is not None and proof.pending and self._peer is not None:
            if not proof.allows(self._peer.reads):
                return
            if not proof.pending:
                self._shorten()
        if self._tap is not None:
            self._tap(data)
        if self._viewer is not None:
            self._viewer.shown(self, data)
        elif self._peer is not None:
            self._peer.write(data)

    def _deliver_early(self) -> None:
        """Deliver the kept datagrams, and use the direct path for further ones if possible."""
        early = self._early
        while early and self._started and not self._on_hold and self._lost is None:
            self._deliver(early.take())
        self._shorten()

    def _shorten(self) -> None:
        """Pass datagrams directly from now on, if they need not be shown."""
        watched = self._viewer is not None or self._tap is not None
        free = self._started and not self._on_hold and not self._early and self._lost is None
        proven = self._proof is None or not self._proof.pending
        short = free and not watched and proven
        self._forward = self._peer.write if short and self._peer is not None else None

    # What the session asks

    def own(self, owner: StreamOwner) -> None:
        """Call `owner` from now on, also for an earlier loss."""
        if self._lost is None:
            self._owner = owner
        else:
            owner.lost(self, *self._lost)

    def join(self, peer: DatagramStream) -> None:
        """Pass datagrams to `peer`."""
        self._peer = peer
        self._shorten()

    def unjoin(self) -> None:
        """Drop the reference to the peer. Both are closed."""
        self._peer = self._viewer = self._forward = self._tap = None

    def start(self) -> None:
        """Start to deliver."""
        self._started = True
        self._deliver_early()

    def end(self, *, last: bool = False) -> None:
        """Close, because datagrams have no end."""
        self._leave(Loss.ORDERLY, "")

    def close(self) -> None:
        """Close."""
        self._leave(Loss.ORDERLY, "")

    def abort(self) -> None:
        """Close. There is no reset for datagrams."""
        self._leave(Loss.ABORTED, "")

    def discard(self) -> None:
        """Do nothing: the stream is closed next."""

    @property
    def hung_up(self) -> bool:
        """False: datagrams have no end."""
        return False

    def has_input(self) -> bool:
        """False: it cannot tell."""
        return False

    def has_unread(self) -> bool:
        """False: datagrams have no reset after which it matters."""
        return False

    def keep_tcp_info(self) -> None:
        """There is none."""

    def tcp_info(self) -> bytes:
        """None: datagrams have no connection."""
        return b""

    def undelivered(self) -> int:
        """None: sent datagrams are not acknowledged."""
        return 0

    def _leave(self, how: Loss, detail: str) -> None:
        if self._lost is not None:
            return
        self._lost = (how, detail)
        self._forward = None
        if self._early is not None:
            self._early.clear()
        self.carrier.close()
        # No calls follow. Break the reference cycle.
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.lost(self, how, detail)

    @property
    def reads(self) -> int:
        """Number of datagrams from this side."""
        return self._reads

    def drops(self) -> dict[str, int]:
        """Number of dropped datagrams by cause; see `datagram_opening.drops`."""
        return {
            "buffer": self.dropped,
            "queue": 0 if self._early is None else self._early.dropped,
            "long": getattr(self.carrier, "too_long", 0),
            "unproven": 0 if self._proof is None else self._proof.dropped,
            "unanswered": getattr(self.carrier, "unanswered", 0),
        }

    # Watching

    def watch(self, viewer: Viewer, peer: DatagramStream | None = None) -> None:
        """Show each datagram to `viewer` instead of passing it on."""
        self._viewer = viewer
        self._shorten()

    def write(self, data: bytes, *, answer: bool = False) -> None:
        """Send one datagram to this side's peer. None is kept, so `answer` has no effect."""
        if self._lost is None:
            if self.carrier.send(data):
                self._writes += 1
                self._sent += len(data)
            else:
                self.dropped += 1

    def pass_on(self, count: int | None) -> None:
        """Pass all datagrams without showing them. A number of bytes has no meaning here."""
        if count is None:
            self._viewer = None
            self._shorten()

    def show(self, viewer: Viewer) -> None:
        """Show all further datagrams to `viewer`, even if `pass_on` was called before."""
        self._viewer = viewer
        self._shorten()

    def settle(self) -> int:
        """0, because passed datagrams are not counted."""
        return 0

    def hold(self) -> None:
        """Keep a few datagrams and drop further ones, until `go_on`."""
        self._on_hold = True
        self._shorten()

    def go_on(self) -> None:
        """Deliver again."""
        self._on_hold = False
        self._deliver_early()

    def tap(self, saw: Callable[[bytes], None] | None) -> None:
        """Show a copy of all further datagrams; None to stop."""
        self._tap = saw
        self._shorten()

    # Summaries

    def answered(self) -> FlowSummary:
        """Summary of the datagrams sent here while there is no other side."""
        return FlowSummary(bytes=self._sent, writes=self._writes)

    def summary(self, source: DatagramStream) -> FlowSummary:
        """Summary of the flow from `source` to this stream so far. Reads and writes count datagrams."""
        return FlowSummary(bytes=self._sent, reads=source._reads, writes=self._writes)
