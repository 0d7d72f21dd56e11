# -*- test-case-name: tests.streams.datagrams.test_datagram_stream -*-
"""
One side of an association: a stream of whole datagrams.

A session sees it as any other stream; what is different: a datagram is passed on whole and at once
or dropped, never kept for a peer that is slow; there are no ends, so asking for one closes; and a port
unreachable is how the other side resets.
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

    :ivar carrier: what carries its datagrams.
    :ivar dropped: datagrams that were not sent to this side: its kernel's buffer was full, or they were
        too large for it.
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
        Take what `carrier` brings.

        :param seconds: the reactor's clock.
        :raises OSError: the kernel does not watch the socket; it is closed then.
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

    # What the carrier tells

    def received(self, data: bytes) -> None:
        """One whole datagram came."""
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
        """Nothing waits here for a grant."""
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
        """The peer's port is closed, or there is no way to it."""
        self._leave(Loss.RESET, detail)

    def demand(self, proof: Proof) -> None:
        """Pass on no more than `proof` allows; of the upstream's side."""
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
        """Deliver what came before anybody took it, and find the short way for what comes."""
        early = self._early
        while early and self._started and not self._on_hold and self._lost is None:
            self._deliver(early.take())
        self._shorten()

    def _shorten(self) -> None:
        """Pass datagrams on at once from here on, if nobody wants to see them."""
        watched = self._viewer is not None or self._tap is not None
        free = self._started and not self._on_hold and not self._early and self._lost is None
        proven = self._proof is None or not self._proof.pending
        short = free and not watched and proven
        self._forward = self._peer.write if short and self._peer is not None else None

    # What the session asks

    def own(self, owner: StreamOwner) -> None:
        """Tell `owner` from here on, and of a loss that came before."""
        if self._lost is None:
            self._owner = owner
        else:
            owner.lost(self, *self._lost)

    def join(self, peer: DatagramStream) -> None:
        """Pass what comes on to `peer`."""
        self._peer = peer
        self._shorten()

    def unjoin(self) -> None:
        """Forget the peer: both are lost."""
        self._peer = self._viewer = self._forward = self._tap = None

    def start(self) -> None:
        """Deliver."""
        self._started = True
        self._deliver_early()

    def end(self, *, last: bool = False) -> None:
        """Close: a datagram that says that there are no more of them does not exist."""
        self._leave(Loss.ORDERLY, "")

    def close(self) -> None:
        """Neither send nor receive any more."""
        self._leave(Loss.ORDERLY, "")

    def abort(self) -> None:
        """Neither send nor receive any more; there is nothing to tell the peer."""
        self._leave(Loss.ABORTED, "")

    def discard(self) -> None:
        """What comes is thrown away by whoever closes it next."""

    @property
    def hung_up(self) -> bool:
        """Datagrams have no end."""
        return False

    def has_input(self) -> bool:
        """It cannot tell."""
        return False

    def keep_tcp_info(self) -> None:
        """There is none."""

    def tcp_info(self) -> bytes:
        """None: datagrams have no connection."""
        return b""

    def undelivered(self) -> int:
        """None: what was sent is the network's."""
        return 0

    def _leave(self, how: Loss, detail: str) -> None:
        if self._lost is not None:
            return
        self._lost = (how, detail)
        self._forward = None
        if self._early is not None:
            self._early.clear()
        self.carrier.close()
        # Nothing is told after this: neither must keep the other alive.
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.lost(self, how, detail)

    @property
    def reads(self) -> int:
        """Datagrams that came from this side."""
        return self._reads

    def drops(self) -> dict[str, int]:
        """Datagrams that were dropped here, by cause; see `datagram_opening.drops`."""
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
        """Send one datagram to this side's peer; none is kept, so an `answer` holds nothing up."""
        if self._lost is None:
            if self.carrier.send(data):
                self._writes += 1
                self._sent += len(data)
            else:
                self.dropped += 1

    def pass_on(self, count: int | None) -> None:
        """Pass all datagrams on unseen; a number of bytes means nothing here."""
        if count is None:
            self._viewer = None
            self._shorten()

    def show(self, viewer: Viewer) -> None:
        """Show each datagram from here on to `viewer`, whatever `pass_on` said before."""
        self._viewer = viewer
        self._shorten()

    def settle(self) -> int:
        """None were passed on unseen that are to be counted."""
        return 0

    def hold(self) -> None:
        """Keep a few datagrams, and drop what is more, until `go_on`."""
        self._on_hold = True
        self._shorten()

    def go_on(self) -> None:
        """Deliver again."""
        self._on_hold = False
        self._deliver_early()

    def tap(self, saw: Callable[[bytes], None] | None) -> None:
        """Show a copy of every datagram that comes from now on; None: no more."""
        self._tap = saw
        self._shorten()

    # What it did

    def answered(self) -> FlowSummary:
        """What was sent here while there is no other side."""
        return FlowSummary(bytes=self._sent, writes=self._writes)

    def summary(self, source: DatagramStream) -> FlowSummary:
        """The flow from `source` to this stream, so far; reads and writes are datagrams."""
        return FlowSummary(bytes=self._sent, reads=source._reads, writes=self._writes)
