# -*- test-case-name: tests.streams.transports.test_transport -*-
"""
One direction between two transports: the push producer of the destination's transport.

`pauseProducing` is the backpressure. As between sockets, a `View` decides what is shown, and an `Allowance`
limits the bytes that pass without being shown and the bytes per second. The transport reads
(`portfwd.streams.transports.plain`), also larger reads.

The size of a read is not known before, so bytes are counted after it. While there is a debt, or other flows
wait, the transport is paused and the flow waits in the queue (`portfwd.streams.rate_limiters`). A read is not
larger than a slice, so a session is ahead by at most one slice. With TLS, decrypted bytes are counted.
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
    One end of a flow, such as `portfwd.streams.transports.transport.TransportStream`.

    :ivar lost: whether the transport is closed.
    """

    lost: bool

    def write(self, data: bytes, *, answer: bool = False) -> None:
        """Write `data` to the transport."""

    def read_on(self) -> None:
        """Let the transport read."""

    def read_no_more(self) -> None:
        """Stop the transport from reading."""

    def read_little(self) -> None:
        """Make the next read one of usual size."""

    def tell_end(self) -> None:
        """Report the peer's end to the owner, if it has arrived and all bytes before it were passed on."""

    def thrown_away(self, count: int) -> None:
        """Bytes were read and dropped."""

    def leave_producer(self) -> None:
        """Remove the producer, because the other side is discarding."""


@implementer(IPushProducer)
class TransportFlow:
    """
    Moves bytes from `source` to `destination`.

    :ivar destination: the destination; None if there is none (yet).
    :ivar early: bytes read before the destination or the viewer was ready.
    :ivar view: its view; None if it never had a viewer.
    :ivar allowance: bytes that it may still read; None for no limit.
    :ivar client: the client whose limits apply.
    :ivar reads: number of reads of the source.
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
        :param early: bytes that `source` has read so far.
        :param allowance: the allowance from its rate limiters.
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
        """Seconds in which the source was not read because the destination accepted no more."""
        return self._paused + (0.0 if self._paused_at is None else self._clock.seconds() - self._paused_at)

    @property
    def is_paused(self) -> bool:
        """Whether the destination accepts no more now."""
        return self._paused_at is not None

    @property
    def waits(self) -> bool:
        """Whether it waits for a grant."""
        return self.allowance is not None and self.allowance.waits

    @property
    def paced(self) -> float:
        """Seconds of waiting for grants."""
        return 0.0 if self.allowance is None else self.allowance.waited

    # Bytes of the source

    def received(self, data: bytes) -> None:
        """Handle `data` from the source."""
        source, view = self.source, self.view
        if self._discarding:
            # Dropped bytes are not progress, or a dead session would never be silent.
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
        """Pass on or show the early bytes."""
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
        """Pass on the bytes that the viewer does not need; return the rest."""
        while data and view.unseen and self.allowance is not None and not self._discarding:
            allowance = self.allowance
            passing, data = data[: allowance.counted], data[allowance.counted :]
            # Count first: a failed write may cause a query of the count.
            allowance.counted -= len(passing)
            if self.destination is not None:
                self.destination.write(passing)
            if view.unseen and self.allowance is allowance and not allowance.counted:
                view.stretch_passed(self, self.source)
        return data

    @property
    def is_through(self) -> bool:
        """Whether all bytes read so far were passed on."""
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
        """The destination accepts no more now."""
        if self._paused_at is None and not self.source.lost:
            self._paused_at = self._clock.seconds()
            self.source.read_no_more()

    def resumeProducing(self) -> None:
        """The destination accepts bytes again."""
        self._stop_pause()
        unanswered = self.view is not None and self.view.unanswered
        if self.started and not self.source.lost and not unanswered and not self._is_held:
            self.source.read_on()

    def stopProducing(self) -> None:
        """Do nothing: the stream reports the closed destination to the session."""

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
        """`count` bytes were granted, after the debt; see `portfwd.streams.allowance.Waiter`."""
        if self.allowance is not None:
            self.allowance.granted = count
        # Exclude the wait from the limit of silence.
        self.source.moved_at = self._clock.seconds()
        if self.started and not self._is_held:
            self._go_on_by_turn()

    def _go_on_by_turn(self) -> None:
        """Continue to read. The caller serves other waiters too, so a failure ends only this connection."""
        try:
            self._go_on()
        except BaseException:
            log_failure(self._log, "{stream!r} cannot be read on", stream=self.source)
            self.source.abort()

    def go_as(self, client: Address) -> None:
        """The client was announced as `client`: apply the limits of that address."""
        self.client = client
        if self.allowance is not None and self.allowance.go_as(client):
            self._wait_or_read(self.allowance)

    # Requests of the session and the viewer

    def watch(self, viewer: Viewer) -> None:
        """Show bytes to `viewer`."""
        self._watched().viewer = viewer

    def _watched(self) -> View:
        if self.view is None:
            self.view = View()
        return self.view

    def pass_on(self, count: int | None) -> None:
        """Pass on the next `count` bytes without showing them; None for all."""
        self._watched().pass_on(self, count)

    def show(self, viewer: Viewer) -> None:
        """Show all further bytes to `viewer`, even if `pass_on` was called before."""
        self.settle()
        self.watch(viewer)

    def settle(self) -> int:
        """Show bytes again; return how many were passed on without being shown since `pass_on`."""
        return 0 if self.view is None else self.view.settle(self)

    def hold(self) -> None:
        """Stop reading until `go_on`."""
        self._watched().on_hold = True
        self._stop()

    def go_on(self) -> None:
        """Read again, unless the flow waits for a grant."""
        self._watched().on_hold = False
        if self.started and not self.waits:
            self._go_on()

    def wait_for_answer(self) -> None:
        """Stop reading until the source has accepted its answers."""
        self._watched().unanswered = True
        self.source.read_little()
        self.source.read_no_more()

    def answers_taken(self) -> None:
        """The source has accepted its answers, or never will: it may be read again."""
        if self.view is not None and self.view.unanswered:
            self.view.unanswered = False
            if self._paused_at is None:
                self.resumeProducing()

    def discard(self) -> None:
        """Read and drop all bytes without limits."""
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
        """The source is closed: deliver its earlier bytes, unless it was `aborted`."""
        self._leave()
        self._stop_pause()
        is_seen = self.view is not None and self.view.viewer is not None
        if not aborted and (is_seen or self.started):
            if self.view is not None and is_seen:
                # Even on hold, because it is the last opportunity.
                self.view.on_hold = False
            self._deliver_early()

    def _leave(self) -> None:
        """Stop waiting for a grant, and return the unused one."""
        if self.allowance is not None:
            self.allowance.leave()
