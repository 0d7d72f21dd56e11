"""
What stands for the context in tests of the relay: streams of memory, dials that tests answer, a log to read.

A `FakeStream` keeps what it was asked in `calls`, in order, and keeps the
promises of `Stream`: it tells of an end only when it is read, and of nothing
after it is lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, cast
from unittest import mock

from attrs import evolve
from twisted.internet.task import Clock

from portfwd.errors import DialError
from portfwd.kernel.platform import Platform
from portfwd.relay.context import RelayContext
from portfwd.relay.destination import Destination
from portfwd.relay.live import LiveRule
from portfwd.relay.rule import RelayRule
from portfwd.rules.access import AccessList
from portfwd.rules.model import AclEntry, Kind, ListenSpec, Options, PortRange, Rule, TargetSpec
from portfwd.streams.stream import Loss, StreamOwner, Viewer
from portfwd.values import (
    Address,
    CloseReason,
    FailedAttempt,
    FlowSummary,
    InetAddress,
    SessionSummary,
    Side,
    TLSInfo,
)

CLIENT = InetAddress("192.0.2.7", 40000)
UPSTREAM = InetAddress("198.51.100.5", 80)


class Fault(Exception):
    """What a stream raises that a test broke."""


class FakeStream:
    """
    A stream whose peer is the test.

    :ivar calls: what it was asked, in order.
    :ivar asked_too_late: what it was asked when it was lost already.
    :ivar has_spoken: bytes of the peer wait to be read.
    :ivar unsent: bytes that the peer's kernel has not confirmed.
    :ivar faults: names of methods that raise `Fault`.
    :ivar later: what was asked takes effect in the reactor's next turn, not at once.
    :ivar written: all that was written to it.
    :ivar on_hold: it is not read.
    :ivar unseen: how many bytes may pass unseen, None: all.
    :ivar moved: how many did, since that was said.
    """

    kind = "fake"

    def __init__(self, clock: Clock, address: Address | None = CLIENT, *, later: bool = False) -> None:
        self.side = Side.CLIENT
        self.address = address
        self.local: Address | None = InetAddress("192.0.2.1", 8080)
        self.moved_at = clock.seconds()
        self.first_at: float | None = None
        self.handshaking = ""
        self.tls: TLSInfo | None = None
        self.calls: list[str] = []
        self.asked_too_late: list[str] = []
        self.unsent = 0
        self.faults: set[str] = set()
        self.later = later
        self.reading = False
        self.has_spoken = False
        self.has_ended = False
        self.hung_up = False
        self.is_lost = False
        self.lost_before: Loss | None = None
        self.viewer: Viewer | None = None
        self.written = b""
        self.on_hold = False
        self.unseen: int | None = 0
        self.moved = 0
        self._clock = clock
        self._owner: StreamOwner | None = None
        self._ending = False
        self._end_told = False
        self.keeps_tcp_info = False
        self.info = b""

    def last_moved(self) -> float:
        return self.moved_at

    def _asked(self, what: str) -> None:
        self.calls.append(what)
        if self.is_lost:
            self.asked_too_late.append(what)
        if what in self.faults:
            raise Fault(what)

    def _soon(self, call: Callable[[], None]) -> None:
        if self.later:
            self._clock.callLater(0, call)
        else:
            call()

    # What the session asks

    def own(self, owner: StreamOwner) -> None:
        self._asked("own")
        self._owner = owner
        if self.lost_before is not None:
            self.loses(self.lost_before)

    def join(self, peer: FakeStream) -> None:
        self._asked("join")

    def start(self) -> None:
        self._asked("start")
        self.reading = True

    def unjoin(self) -> None:
        """The session is closed."""

    def end(self, *, last: bool = False) -> None:
        self._asked("end")
        self._ending = True
        self._soon(self._tell_end_sent)

    def _tell_end_sent(self) -> None:
        if self._ending and not self._end_told and not self.unsent and not self.is_lost:
            self._end_told = True
            if self._owner is not None:
                self._owner.end_sent(self)

    def close(self) -> None:
        self._asked("close")
        self._soon(lambda: self.loses(Loss.ORDERLY))

    def abort(self) -> None:
        self._asked("abort")
        self.unsent = 0
        self._soon(lambda: self.loses(Loss.ABORTED))

    def discard(self) -> None:
        self._asked("discard")
        self.reading = True

    def has_input(self) -> bool:
        return self.has_spoken

    def has_unread(self) -> bool:
        return self.has_spoken and not self.is_lost

    def keep_tcp_info(self) -> None:
        self.keeps_tcp_info = True

    def tcp_info(self) -> bytes:
        return self.info if self.keeps_tcp_info or not self.is_lost else b""

    def undelivered(self) -> int:
        if "undelivered" in self.faults:
            raise Fault("undelivered")
        return 0 if self.is_lost else self.unsent

    def summary(self, source: FakeStream) -> FlowSummary:
        if "summary" in self.faults:
            raise Fault("summary")
        return FlowSummary(bytes=7)

    # What a session with filters asks

    def watch(self, viewer: Viewer, peer: FakeStream | None = None) -> None:
        self._asked("watch")
        self.viewer = viewer

    def write(self, data: bytes, *, answer: bool = False) -> None:
        if self.is_lost or self._ending:
            self.asked_too_late.append("write")
        if "write" in self.faults:
            raise Fault("write")
        self.written += data

    def answered(self) -> FlowSummary:
        return FlowSummary(bytes=len(self.written))

    def pass_on(self, count: int | None) -> None:
        self._asked("pass on all" if count is None else f"pass on {count}")
        self.unseen = count
        self.moved = 0

    def show(self, viewer: Viewer) -> None:
        self._asked("show")
        self.viewer = viewer
        self.unseen = 0
        self.moved = 0

    def settle(self) -> int:
        moved, self.moved = self.moved, 0
        if self.unseen is not None:
            self.unseen = 0
        return moved

    def hold(self) -> None:
        self._asked("hold")
        self.on_hold = True

    def go_on(self) -> None:
        self._asked("go on")
        self.on_hold = False

    # What the peer does

    def says(self, data: bytes) -> None:
        """Bytes come from the peer, and are shown unless they may pass unseen."""
        assert self.reading
        assert not self.on_hold
        assert self.viewer is not None
        self.speaks()
        if self.unseen is None:
            return
        passing, data = data[: self.unseen], data[self.unseen :]
        if passing:
            self.unseen -= len(passing)
            self.moved += len(passing)
            if not self.unseen:
                self.viewer.passed(self, self.settle())
        if data:
            self.viewer.shown(self, data)

    @property
    def is_owned(self) -> bool:
        """Whether there is somebody to be told."""
        return self._owner is not None

    @property
    def owner(self) -> StreamOwner:
        """Who is told."""
        assert self._owner is not None
        return self._owner

    def speaks(self) -> None:
        """Bytes come from the peer and go to the other side."""
        self.moved_at = self._clock.seconds()
        if self.first_at is None:
            self.first_at = self.moved_at

    def ends(self) -> None:
        """The peer sends its end."""
        assert self.reading
        assert not self.has_ended
        self.has_ended = True
        self.owner.ended(self)

    def takes(self, count: int) -> None:
        """The peer confirms bytes."""
        self.unsent -= min(self.unsent, count)
        self._tell_end_sent()

    def refuses(self) -> None:
        """The peer takes no more bytes: a write fails."""
        self.unsent = 0
        self.owner.writing_failed(self, "Connection reset by peer")

    def babbles(self, count: int = 1) -> None:
        """The peer sends bytes that are thrown away."""
        self.owner.thrown_away(self, count)

    def loses(self, how: Loss, detail: str = "") -> None:
        """The connection is gone."""
        if not self.is_lost:
            self.is_lost = True
            if self._owner is not None:
                self._owner.lost(self, how, detail)

    def resets(self) -> None:
        """The peer resets the connection."""
        self.loses(Loss.RESET, "connection reset")


class FakeDial:
    """A dial that the test answers by `succeeds` or `fails`."""

    def __init__(
        self,
        rule: LiveRule,
        owner: Any,
        target: object = None,
        permits: Callable[[Address], bool] | None = None,
        *,
        will_send: bool = False,
        source: str = "",
        introduction: Callable[[], bytes] | None = None,
        client: TLSInfo | None = None,
    ) -> None:
        self.will_send = will_send
        self.destinations = rule.destinations
        self.target = target
        self.permits = permits
        self.owner = owner
        self.failures: list[FailedAttempt] = []
        self.tried: Address | None = UPSTREAM
        self.started = False
        self.cancelled = False
        self.fault = False

    def start(self) -> None:
        self.started = True

    def cancel(self) -> None:
        self.cancelled = True
        if self.fault:
            raise Fault("cancel")

    def succeeds(self, stream: FakeStream) -> None:
        """The upstream is reached."""
        self.owner.dialled(stream, self.destinations[0])

    def fails(self, problem: DialError) -> None:
        """No target could be reached."""
        self.owner.dial_failed(problem, UPSTREAM)


class SessionLines:
    """A session log that keeps the summaries; with `fault` it breaks its promise not to raise."""

    wants_opened = True
    wants_closed = True

    def __init__(self) -> None:
        self.opened_lines: list[SessionSummary] = []
        self.closed_lines: list[SessionSummary] = []
        self.fault = False

    def opened(self, summary: SessionSummary) -> None:
        if self.fault:
            raise Fault("opened")
        assert not self.closed_lines
        self.opened_lines.append(summary)

    def closed(self, summary: SessionSummary) -> None:
        self.closed_lines.append(summary)
        if self.fault:
            raise Fault("closed")

    @property
    def last(self) -> SessionSummary:
        """The closing line that came last."""
        return self.closed_lines[-1]

    @property
    def reasons(self) -> list[CloseReason | None]:
        """The reasons of the closing lines."""
        return [line.reason for line in self.closed_lines]


def a_rule(options: Options | None = None, access: Sequence[AclEntry] = ()) -> Rule:
    """A rule with one target."""
    options = Options() if options is None else options
    return Rule(
        "web",
        ListenSpec(Kind.TCP, "192.0.2.1", PortRange(8080, 8080)),
        (TargetSpec(Kind.TCP, UPSTREAM.host, PortRange(80, 80), options=options),),
        options=options,
        access=tuple(access),
        written=("192.0.2.1", "8080", UPSTREAM.host, "80"),
    )


def a_live_rule(
    clock: Clock,
    log: SessionLines,
    options: Options | None = None,
    access: Sequence[AclEntry] = (),
    filters: Sequence[tuple[str, Any]] = (),
    **context_parts: Any,
) -> LiveRule:
    """
    That rule at work in a context without sockets.

    :param world_parts: of `RelayContext`, in place of those that are not there.
    """
    rule = a_rule(options, access)
    context = RelayContext(
        reactor=cast(Any, clock),
        platform=Platform(own_sockets=True, epoll=False),
        names=cast(Any, None),
        streams=cast(Any, None),
    )
    context = evolve(context, **context_parts)
    label = f"{UPSTREAM}"
    return LiveRule(
        rule,
        rule.name,
        [Destination(label, rule.options, address=UPSTREAM)],
        AccessList((), rule.access),
        context,
        log,
        lambda: 1_000_000.0 + clock.seconds(),
        itertools.count(1),
        filters=filters,
    )


def changed(options: Options | None, **values: Any) -> Options:
    """`options` with some of them replaced."""
    return evolve(Options() if options is None else options, **values)


def dialled_by(rule: RelayRule, target: object = None, permits: Any = None) -> Destination:
    """The only target of a dial that `rule` makes; nothing is dialled."""
    orders: list[Any] = []
    with mock.patch("portfwd.relay.rule.Dial", lambda _, order, *others: orders.append(order)):
        # Not the method of the object: tests of sessions replace it.
        RelayRule.dial(rule, cast(Any, None), target, permits)
    (destination,) = orders[0].targets
    assert isinstance(destination, Destination)
    return destination
