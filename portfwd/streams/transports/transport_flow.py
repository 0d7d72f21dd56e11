# -*- test-case-name: tests.streams.transports.test_transport -*-
"""
One direction between two transports: the push producer of the destination's transport.

`pauseProducing` is the backpressure. What bounds the flow is composed, as between sockets: a `View` says what
becomes of the bytes, an `Allowance` how many of them pass unseen and how many a second may be read. The reads
themselves, larger ones too, are the transport's (`portfwd.streams.transports.plain`).

A transport does not tell beforehand how much it will read, so bytes are counted after a read. While there is
a debt, or other flows wait, the transport is paused and the flow waits in the queue
(`portfwd.streams.rate_limiters`). A read is no larger than a slice, so a session is ahead by one slice at
most. Of TLS, the bytes inside are counted.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from portfwd.kernel.failures import log_failure
from portfwd.streams.allowance import Allowance
from portfwd.streams.stream import Stream, Viewer
from portfwd.streams.view import View
from portfwd.values import Address


class TransportEnd(Stream, Protocol):
    """
    One end of a flow; `portfwd.streams.transports.transport.TransportStream` is one.

    :ivar lost: the transport is gone.
    """

    lost: bool

    def write(self, data: bytes, *, answer: bool = False) -> None:
        """Give `data` to the transport."""

    def read_on(self) -> None:
        """Let the transport read."""

    def read_no_more(self) -> None:
        """Let the transport read nothing."""

    def read_little(self) -> None:
        """The next read is a usual one."""

    def tell_end(self) -> None:
        """Tell the owner of the peer's end, if it is there and everything before it was passed on."""

    def thrown_away(self, count: int) -> None:
        """Bytes were read that go nowhere."""

    def leave_producer(self) -> None:
        """The transport has no producer any more: what the other side sends is thrown away."""


@implementer(IPushProducer)
class TransportFlow:
    """
    Moves bytes from `source` to `destination`.

    :ivar destination: None: there is none yet, or never.
    :ivar early: what was read before anybody was ready for it, or while the viewer wanted nothing.
    :ivar view: who looks at it; None for a flow that nobody ever looked at.
    :ivar allowance: what it may still read; None: any number.
    :ivar client: the client whose limits hold.
    :ivar reads: how often the source gave bytes.
    """

    __slots__ = (
        "_clock",
        "_discarding",
        "_paused",
        "_paused_at",
        "allowance",
        "client",
        "destination",
        "early",
        "reads",
        "source",
        "started",
        "view",
    )

    _log = Logger()

    def __init__(
        self,
        source: TransportEnd,
        clock: IReactorTime,
        early: list[bytes],
        allowance: Allowance | None = None,
        client: Address | None = None,
    ) -> None:
        """
        :param early: what `source` has read so far.
        :param allowance: what its rate limiters let it read.
        """
        self.source = source
        self.destination: TransportEnd | None = None
        self.early = early
        self.reads = len(early)
        self.view: View | None = None
        self.allowance = allowance
        self.client = client
        self.started = False
        self._clock = clock
        self._paused = 0.0
        self._paused_at: float | None = None
        self._discarding = False
        if early:
            self._count(sum(map(len, early)))

    def __repr__(self) -> str:
        state = "paused" if self._paused_at is not None else "moving" if self.started else "not started"
        bound = "" if self.allowance is None else f" {self.allowance!r}"
        return f"<TransportFlow from {self.source.side.value} {state}{bound}>"

    @property
    def paused(self) -> float:
        """Seconds for which the source was not read because the destination took no more."""
        return self._paused + (0.0 if self._paused_at is None else self._clock.seconds() - self._paused_at)

    @property
    def is_paused(self) -> bool:
        """Whether the destination takes no more just now."""
        return self._paused_at is not None

    @property
    def waits(self) -> bool:
        """Whether it reads nothing because no bytes are granted yet."""
        return self.allowance is not None and self.allowance.waits

    @property
    def paced(self) -> float:
        """Seconds for which it has waited for grants."""
        return 0.0 if self.allowance is None else self.allowance.waited

    # Bytes of the source

    def received(self, data: bytes) -> None:
        """The source has read `data`."""
        source, view = self.source, self.view
        if self._discarding:
            # What is thrown away does not move, or a dead session would never be silent.
            source.thrown_away(len(data))
            return
        if self.allowance is not None:
            self._count(len(data))
        self.reads += 1
        source.moved_at = now = self._clock.seconds()
        if source.first_at is None:
            source.first_at = now
        goes_on = self.destination is not None or (view is not None and view.viewer is not None)
        if self.started and goes_on and not self.early:
            self._deliver(data)
        else:
            self.early.append(data)

    def _deliver_early(self) -> None:
        """Pass on, or show, what came before anybody was ready for it."""
        while self.early and not self._is_held and not self._discarding:
            self._deliver(self.early.pop(0))

    @property
    def _is_held(self) -> bool:
        return (self.view is not None and self.view.on_hold) or self.waits

    def _deliver(self, data: bytes) -> None:
        """Show `data`, or pass it on."""
        view = self.view
        if view is not None and view.unseen:
            data = self._pass_unseen(view, data)
            if not data or self._discarding:
                return
        if view is not None and view.viewer is not None:
            view.show(self.source, data)
        elif self.destination is not None:
            self.destination.write(data)

    def _pass_unseen(self, view: View, data: bytes) -> bytes:
        """Pass on what the viewer does not want to see; return the rest."""
        while data and view.unseen and self.allowance is not None and not self._discarding:
            allowance = self.allowance
            passing, data = data[: allowance.counted], data[allowance.counted :]
            # First: whoever hears of a failed write may ask how much has passed.
            allowance.counted -= len(passing)
            if self.destination is not None:
                self.destination.write(passing)
            if view.unseen and self.allowance is allowance and not allowance.counted:
                view.stretch_passed(self, self.source)
        return data

    @property
    def is_through(self) -> bool:
        """Whether everything that was read so far was passed on."""
        return self.started and not self.early

    def start(self) -> None:
        """Read."""
        self.started = True
        self._go_on()

    def _go_on(self) -> None:
        self._deliver_early()
        self.source.tell_end()
        if self._paused_at is None:
            self.resumeProducing()

    def _stop(self) -> None:
        self.source.read_little()
        if self.started and not self.source.lost:
            self.source.read_no_more()

    # Backpressure

    def pauseProducing(self) -> None:
        """The destination takes no more for now."""
        if self._paused_at is None and not self.source.lost:
            self._paused_at = self._clock.seconds()
            self.source.read_no_more()

    def resumeProducing(self) -> None:
        """The destination takes bytes again."""
        self._stop_pause()
        unanswered = self.view is not None and self.view.unanswered
        if self.started and not self.source.lost and not unanswered and not self._is_held:
            self.source.read_on()

    def stopProducing(self) -> None:
        """The destination is gone; its stream says so to the session, which decides."""

    def _stop_pause(self) -> None:
        self._paused, self._paused_at = self.paused, None

    # Rate limiters

    def _count(self, count: int) -> None:
        """`count` bytes were read."""
        allowance = self.allowance
        if allowance is not None and allowance.is_paced:
            allowance.settle(count)
            if not allowance.waits and not allowance.is_open:
                self._wait_or_read(allowance)

    def _wait_or_read(self, allowance: Allowance) -> None:
        if self.source.lost:
            return
        if not allowance.ask(self):
            self._stop()
        elif self.started and not self._is_held:
            self._go_on()

    def granted(self, count: int) -> None:
        """The debt is paid, and `count` more bytes may be read; see `portfwd.streams.allowance.Waiter`."""
        if self.allowance is not None:
            self.allowance.granted = count
        # A limit of silence must not count the wait.
        self.source.moved_at = self._clock.seconds()
        if self.started and not self._is_held:
            self._go_on_by_turn()

    def _go_on_by_turn(self) -> None:
        """Read on. The same call serves other waiters, so a failure here ends this connection only."""
        try:
            self._go_on()
        except BaseException:
            log_failure(self._log, "{stream!r} cannot be read on", stream=self.source)
            self.source.abort()

    def go_as(self, client: Address) -> None:
        """The client turned out to be `client`: the limits of that address hold from now on."""
        self.client = client
        if self.allowance is not None and self.allowance.go_as(client):
            self._wait_or_read(self.allowance)

    # What the session and the viewer ask

    def watch(self, viewer: Viewer) -> None:
        """Show what is read to `viewer`."""
        self._watched().viewer = viewer

    def _watched(self) -> View:
        if self.view is None:
            self.view = View()
        return self.view

    def pass_on(self, count: int | None) -> None:
        """Pass the next `count` bytes on unseen, None: all of them."""
        self._watched().pass_on(self, count)

    def show(self, viewer: Viewer) -> None:
        """Show what is read from here on to `viewer`, whatever `pass_on` said before."""
        self.settle()
        self.watch(viewer)

    def settle(self) -> int:
        """Show again; say how many bytes were passed on unseen since `pass_on`."""
        return 0 if self.view is None else self.view.settle(self)

    def hold(self) -> None:
        """Read no more until `go_on`."""
        self._watched().on_hold = True
        self._stop()

    def go_on(self) -> None:
        """Read again, unless it waits for a grant."""
        self._watched().on_hold = False
        if self.started and not self.waits:
            self._go_on()

    def wait_for_answer(self) -> None:
        """Read nothing before the source has taken what it was answered."""
        self._watched().unanswered = True
        self.source.read_little()
        self.source.read_no_more()

    def answers_taken(self) -> None:
        """The source has what it was answered, or will never have it: it may be read again."""
        if self.view is not None and self.view.unanswered:
            self.view.unanswered = False
            if self._paused_at is None:
                self.resumeProducing()

    def discard(self) -> None:
        """Read and throw away, as fast as it comes."""
        self._leave()
        self._discarding = True
        if self.view is not None:
            self.view.on_hold = self.view.unanswered = False
        count = sum(map(len, self.early))
        self.early.clear()
        self.started = True
        if self.destination is not None:
            self.destination.leave_producer()
        self.resumeProducing()
        self.source.tell_end()
        self.source.thrown_away(count)

    def source_lost(self, *, aborted: bool) -> None:
        """The source is gone: deliver what it sent before, unless it was `aborted`."""
        self._leave()
        self._stop_pause()
        is_seen = self.view is not None and self.view.viewer is not None
        if not aborted and (is_seen or self.started):
            if self.view is not None and is_seen:
                # On hold or not: it is the last opportunity.
                self.view.on_hold = False
            self._deliver_early()

    def _leave(self) -> None:
        """Wait for no grant any more, and return what was granted."""
        if self.allowance is not None:
            self.allowance.leave()
