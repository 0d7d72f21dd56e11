# -*- test-case-name: tests.filters.chain.test_chain -*-
"""
What a chain remembers of its filters: one `Stage` each, and a `Link` for either direction.

Records with the few operations that keep them consistent. They decide nothing,
call no filter and make no effects; the chain does.
"""

from __future__ import annotations

from collections import deque

from portfwd.filters.api import HOLD_TIMEOUT, Connection, IFilter, IFilterFactory, Route
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction


class Delayed:
    """
    Bytes that have left a filter and wait for their time, or for those before them.

    :ivar ripe: nothing but what is before them keeps them.
    :ivar replies: how many replies led to them; an answer stays one, however late it is.
    """

    __slots__ = ("data", "replies", "ripe")

    def __init__(self, data: bytes, *, ripe: bool, replies: int) -> None:
        self.data = data
        self.ripe = ripe
        self.replies = replies


class Link:
    """
    One filter in one direction: what waits before it, what is held for it, what waits behind it.

    :ivar next: the link that gets what this one passes; None: it is the last, and the relay gets it.
    :ivar done: the filter is not called for this direction again.
    :ivar bypass: bytes that pass unseen before it is called again.
    :ivar shut: nothing gets in before the upstream is connected.
    :ivar awaits: results that must come before anything gets in.
    :ivar waiting: what came meanwhile; None is the end.
    :ivar pending: bytes in `waiting` that came during an await: replies do, though nothing is read.
    :ivar held: what the filter keeps and was shown before, in pieces.
    :ivar size: of `held`, in bytes.
    :ivar need: it is not called with fewer bytes.
    :ivar hold_timer: the key of the `Arm` that limits how long it is held; 0: there was none.
    :ivar outbox: what is delayed behind the filter.
    :ivar delayed: bytes in `outbox`.
    :ivar pressed: the directions that are not read because these, or those that are pending, are too many.
    :ivar ending: the filter was told of the end.
    :ivar ended: the end has passed; nothing may follow it.
    :ivar cut: the filter ended the direction before its source did: what still comes is dropped here.
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
        """Keep `data` behind what is held."""
        self.held.append(data)
        self.size += len(data)

    def take(self) -> bytes:
        """What is held, which is held no longer."""
        data = self.held[0] if len(self.held) == 1 else b"".join(self.held)
        self.held.clear()
        self.size = self.need = 0
        return data

    @property
    def keeps(self) -> bool:
        """Whether anything is before, in or behind the filter that has still to go on."""
        return bool(
            self.held or self.waiting or self.outbox or (self.ending and (self.cut or not self.ended))
        )

    @property
    def watches(self) -> bool:
        """Whether bytes that come now must be shown."""
        return self.keeps or not (self.done or self.ending)


class Stage:
    """
    One filter of one session.

    :ivar altered: it may have changed the stream, and cannot be left out as if it had never been there.
    :ivar dropped: datagrams that it dropped.
    :ivar dead: it failed, or never was opened: it is called no more.
    :ivar connection: what the filter knows of it: a `Connection` of its own, whose `wake` is for it alone.
    :ivar factory: that of its clause.
    :ivar chooses: it may return `Route`.
    :ivar announces: it may return `Announce`.
    :ivar limits_holding: its factory says how long bytes may be held for it after the dial, too.
    :ivar route: the last `Route` it returned.
    :ivar awaits: its results that have not come.
    :ivar timer: the key of the `Arm` that limits how long it may look; None: it runs no more.
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
        self.timer: int | None = None
        self.up = Link(self, TO_UPSTREAM, done=TO_UPSTREAM not in factory.directions)
        self.down = Link(self, TO_CLIENT, done=TO_CLIENT not in factory.directions)

    @property
    def routes(self) -> bool:
        """Whether the dial waits for it: what it says decides where to, or who is judged before."""
        return self.chooses or self.announces

    @property
    def decided(self) -> bool:
        """Whether the dial need not wait for it any more."""
        return not self.routes or self.route is not None or (self.up.done and not self.awaits)
