# -*- test-case-name: tests.filters.chain.test_chain -*-
"""
The state of the filters in a chain: a `Stage` for each filter, and a `Link` for each of its directions.

These are records with operations that keep them consistent. The chain makes decisions, calls filters and
produces effects.
"""

from __future__ import annotations

from collections import deque

from portfwd.filters.api import HOLD_TIMEOUT, Connection, IFilter, IFilterFactory, Route
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction


class Delayed:
    """
    Bytes delayed by a filter. They wait for their time, or for bytes before them.

    :ivar ripe: whether their time has come, so they only wait for those before them.
    :ivar replies: number of replies that led to them.
    """

    __slots__ = ("data", "replies", "ripe")

    def __init__(self, data: bytes, *, ripe: bool, replies: int) -> None:
        self.data = data
        self.ripe = ripe
        self.replies = replies


class Link:
    """
    One filter in one direction: the bytes that wait before it, are held for it, and are delayed behind it.

    :ivar next: the link that gets the passed bytes; None for the relay.
    :ivar done: whether the filter is not called for this direction any more.
    :ivar bypass: number of bytes that pass before it is called again.
    :ivar shut: whether bytes must wait until the upstream is connected.
    :ivar awaits: pending results for which bytes must wait.
    :ivar waiting: the waiting bytes; None is the end.
    :ivar pending: bytes in `waiting` that arrived during an await. These are replies, because nothing is
        read.
    :ivar held: bytes that the filter has seen and keeps, in pieces.
    :ivar size: number of bytes in `held`.
    :ivar need: least number of bytes with which the filter is called.
    :ivar hold_timer: key of the `Arm` that limits holding; 0 for none.
    :ivar outbox: the bytes delayed by the filter.
    :ivar delayed: number of bytes in `outbox`.
    :ivar pressed: the directions that are not read because too many bytes are delayed or pending.
    :ivar ending: whether the filter was called with the end.
    :ivar ended: whether the end has passed; nothing may follow it.
    :ivar cut: whether the filter has ended the direction before its source; further bytes are dropped.
    """

    __slots__ = (
        "awaits",
        "bypass",
        "cut",
        "delayed",
        "direction",
        "done",
        "ended",
        "ending",
        "held",
        "hold_timer",
        "need",
        "next",
        "outbox",
        "pending",
        "pressed",
        "shut",
        "size",
        "stage",
        "waiting",
    )

    def __init__(self, stage: Stage, direction: Direction, *, done: bool) -> None:
        self.stage = stage
        self.direction = direction
        self.next: Link | None = None
        self.done = done
        self.bypass = 0
        self.shut = False
        self.awaits = 0
        self.waiting: deque[bytes | None] = deque()
        self.pending = 0
        self.held: list[bytes] = []
        self.size = 0
        self.need = 0
        self.hold_timer = 0
        self.outbox: deque[Delayed] = deque()
        self.delayed = 0
        self.pressed: list[Direction] = []
        self.ending = False
        self.ended = False
        self.cut = False

    def hold(self, data: bytes) -> None:
        """Append `data` to the held bytes."""
        self.held.append(data)
        self.size += len(data)

    def take(self) -> bytes:
        """Take the held bytes."""
        data = self.held[0] if len(self.held) == 1 else b"".join(self.held)
        self.held.clear()
        self.size = self.need = 0
        return data

    @property
    def keeps(self) -> bool:
        """Whether any bytes are waiting, held or delayed here."""
        return bool(
            self.held or self.waiting or self.outbox or (self.ending and (self.cut or not self.ended))
        )

    @property
    def watches(self) -> bool:
        """Whether the filter must be called with bytes that arrive now."""
        return self.keeps or not (self.done or self.ending)


class Stage:
    """
    One filter of one session.

    :ivar altered: whether it may have changed the stream, so it cannot be bypassed after a failure.
    :ivar dropped: number of datagrams that it dropped.
    :ivar dead: whether it has failed or was never opened; it is not called any more.
    :ivar connection: the `Connection` of this filter; its `wake` wakes this filter only.
    :ivar factory: the factory of its clause.
    :ivar chooses: whether it may return `Route`.
    :ivar announces: whether it may return `Announce`.
    :ivar limits_holding: whether its factory limits holding after the dial too.
    :ivar route: the last `Route` that it returned.
    :ivar awaits: its pending results.
    :ivar wakes: number of its `Wake` verdicts that are not due yet.
    :ivar timer: key of the `Arm` that limits its time before the dial; None if it is not running.
    """

    __slots__ = (
        "altered",
        "announces",
        "awaits",
        "chooses",
        "connection",
        "dead",
        "down",
        "dropped",
        "factory",
        "filter",
        "hold_timeout",
        "limits_holding",
        "max_hold",
        "name",
        "on_error",
        "on_overflow",
        "on_timeout",
        "route",
        "timer",
        "up",
        "wakes",
    )

    def __init__(
        self,
        name: str,
        factory: IFilterFactory,
        filter: IFilter,  # noqa: A002 - it is one
        connection: Connection,
    ) -> None:
        self.name = name
        self.connection = connection
        self.filter = filter
        self.factory = factory
        self.chooses = factory.routes
        self.announces = bool(getattr(factory, "announces", False))
        self.max_hold = factory.max_hold
        said = factory.hold_timeout
        self.hold_timeout = HOLD_TIMEOUT if said is None else said
        self.limits_holding = said is not None
        self.on_timeout = factory.on_timeout
        self.on_overflow = getattr(factory, "on_overflow", "close")
        self.on_error = factory.on_error
        self.altered = False
        self.dropped = 0
        self.dead = False
        self.route: Route | None = None
        self.awaits = 0
        self.wakes = 0
        self.timer: int | None = None
        self.up = Link(self, TO_UPSTREAM, done=TO_UPSTREAM not in factory.directions)
        self.down = Link(self, TO_CLIENT, done=TO_CLIENT not in factory.directions)

    @property
    def routes(self) -> bool:
        """Whether the dial waits for it, because it may choose the target or announce the client."""
        return self.chooses or self.announces

    @property
    def decided(self) -> bool:
        """Whether it has decided, so the dial does not wait for it any more."""
        return not self.routes or self.route is not None or (self.up.done and not self.awaits)
