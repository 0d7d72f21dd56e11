# -*- test-case-name: tests.streams.sockets.test_watched -*-
"""
A flow between two sockets whose bytes somebody wants to see.

What is read is shown to a `Viewer`, who writes what should be passed on; so the
flow starts before there is a destination, and takes bytes from others too. When the
viewer has seen enough of a direction, for a number of bytes or for good, it is a
`SocketFlow` like any other: copied for little, spliced for bulk.

Reading waits for writing: while the destination has not taken what was written, nothing is
read; nor is it while the source has not taken what it was answered. So at most one read, and
what the viewer made of it, is kept here; in bulk a larger one, by some flows at a time (`BulkReads`).
Beyond that the two directions know nothing of each other: who does not read what the other side sends may
still send.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Protocol

from twisted.python.failure import Failure

from portfwd.streams.allowance import UNBOUND, Allowance
from portfwd.streams.sockets.flow_setup import FlowSetup
from portfwd.streams.sockets.socket_end import SocketEnd
from portfwd.streams.sockets.socket_flow import QUANTUM, SocketFlow
from portfwd.values import Address, Side

if TYPE_CHECKING:
    from portfwd.streams.stream import Viewer


class NotConnected:
    """
    Stands for the stream that is not connected yet: it gives nothing, and takes nothing.

    It has what a flow looks at, and no more.
    """

    __slots__ = ("first_at", "moved_at")

    side = Side.UPSTREAM
    is_connected = False
    lost = write_broken = read_ended = dead = more = False
    readable = writable = end_asked = False
    descriptor = -1
    source = None

    def __init__(self) -> None:
        self.moved_at = 0.0
        self.first_at: float | None = None

    def __repr__(self) -> str:
        return "<NotConnected>"

    def written_out(self) -> None:
        """Nobody waits for it."""


class WatchedEnd(SocketEnd, Protocol):
    """An end of a flow with a viewer: its other direction has one, too."""

    @property
    def source(self) -> WatchedFlow | None:
        """The flow whose source this stream is, once joined."""


class WatchedFlow(SocketFlow):
    """
    One direction of a session with filters.

    :ivar viewer: who sees the bytes; None when nobody does any more.
    :ivar on_hold: nothing is read.
    :ivar unanswered: nothing is read before the source has taken what it was answered.
    :ivar unseen: a counted number of bytes passes unseen just now.
    """

    __slots__ = (
        "_behind",
        "_counted",
        "_filled",
        "_has_slot",
        "_showing",
        "on_hold",
        "unanswered",
        "unseen",
        "viewer",
    )

    source: WatchedEnd
    destination: WatchedEnd

    def __init__(self, source: Any, destination: Any, setup: FlowSetup) -> None:
        """As `SocketFlow`; either end may be `NotConnected`."""
        super().__init__(source, destination, setup)
        self.viewer: Viewer | None = None
        self.on_hold = False
        self.unanswered = False
        self.unseen = False
        # What was written while earlier bytes waited, in pieces; None: nothing.
        self._behind: list[bytes] | None = None
        self._counted = 0
        self._showing = False
        self._filled = False
        self._has_slot = False

    @property
    def keeps_bytes(self) -> bool:
        """Whether bytes are to be written yet."""
        return bool(self._kept or self._behind) or self._in_pipe > 0

    @property
    def kept_bytes(self) -> int:
        """How many they are."""
        return len(self._kept) + sum(map(len, self._behind or ())) + self._in_pipe

    # When to run

    def run(self) -> None:
        """Show, or move, up to `QUANTUM` bytes."""
        shows = self.viewer is not None and not self.unseen
        if self._discarding:
            super().run()
            if self._behind and not self._in_pipe:
                self._fetch_behind()
                self.take_turn()
            return
        if self._in_pipe and (shows or self.on_hold or self._behind):
            self._empty_pipe()
            if self._in_pipe:
                return
        self._fetch_behind()
        if shows or self.on_hold or not self.source.is_connected:
            self._return_pipe()
            if self._flush() and shows:
                self._show()
            if self.on_hold and self.source.dead:
                self.source.look_for_death()
        else:
            super().run()

    def _empty_pipe(self) -> None:
        """Write what is in the pipe, and read nothing."""
        source = self.source
        readable, source.readable = source.readable, False
        super().run()
        source.readable = readable and not source.read_ended

    def _fetch_behind(self) -> None:
        """What was written while earlier bytes waited is next."""
        if self._behind is not None:
            self._kept, self._behind = b"".join((self._kept, *self._behind)), None

    def _flush(self) -> bool:
        """Write what is kept; say whether more may be read."""
        if self._paused_at is not None:
            self._paused += self._setup.poller.now - self._paused_at
            self._paused_at = None
        self.waits_to_write = False
        return not self._kept or self._write_kept()

    def _write_kept(self) -> bool:
        written = super()._write_kept()
        if not (self._kept or self._behind):
            self._return_slot()
            self._taken()
        return written

    def _return_slot(self) -> None:
        """Give the slot back, unless something of the last read, or of its answer, waits to be written."""
        bulk = self._setup.bulk
        if self._has_slot and bulk is not None and not (self._kept or self._behind or self.unanswered):
            self._has_slot = False
            bulk.give_back()

    def _taken(self) -> None:
        """The destination has what it was answered, or will never have it: it may be read again."""
        reverse = self.destination.source
        if reverse is not None and reverse.unanswered:
            reverse.unanswered = False
            reverse._return_slot()
            reverse.take_turn()

    def failed(self, failure: Failure) -> None:
        """Our own code failed: a connection of this session ends."""
        (self.source if self.source.is_connected else self.destination).failed(failure)

    def _show(self) -> None:
        source, setup, left = self.source, self._setup, QUANTUM
        size, bulk = len(setup.buffer), setup.bulk
        receive = source.socket.recv
        while source.readable and not source.read_ended and not source.lost:
            viewer = self.viewer
            if viewer is None or self.unseen or left <= 0:
                self.take_turn()
                return
            if self.on_hold or self._discarding:
                return
            if self._kept or self._behind:
                self._pause()
                return
            if self.unanswered:
                if source.dead:
                    source.look_for_death()
                return
            allowance, most = self.allowance, size
            if allowance is not None:
                most = min(size, allowance.left)
                if most <= 0:
                    self.spent()
                    return
            elif self._filled and bulk is not None and bulk.take():
                self._has_slot, most = True, bulk.size
            try:
                data = receive(most)
            except BlockingIOError:
                source.readable = False
                self._return_slot()
                return
            except OSError as problem:
                self._return_slot()
                source.read_failed(problem)
                return
            if not data:
                self._return_slot()
                source.read_nothing()
                return
            count = len(data)
            self._filled = count >= size
            self._reads += 1
            left -= count
            if allowance is not None:
                allowance.take(count)
            source.moved_at = self._setup.poller.now
            if source.first_at is None:
                source.first_at = source.moved_at
            if count < most and not source.more:
                source.readable = False
            self._showing = True
            try:
                viewer.shown(source, data)
            finally:
                self._showing = False
                self._return_slot()
            if self.on_hold or self.unanswered:
                # Whoever keeps or answers what it sees is shown little at a time.
                self._filled = False

    # What the viewer asks

    def write(self, data: bytes, *, answer: bool = False) -> None:
        """
        Write `data` to the destination, behind what was written or moved before.

        :param answer: it came of what the destination sent.
        """
        destination = self.destination
        if destination.lost or destination.write_broken or not data:
            return
        sent = 0
        if self._kept or self._in_pipe or self._behind:
            if self._behind is None:
                self._behind = []
            self._behind.append(data)
            self._was_refused(answer)
            if destination.writable:
                self.take_turn()
            else:
                self._pause()
            return
        if destination.writable:
            try:
                sent = destination.socket.send(data)
            except BlockingIOError:
                destination.writable = False
            except OSError as problem:
                destination.break_writing(problem.errno or errno.EPIPE)
                return
            self._writes += 1
            self._bytes += sent
            self.source.moved_at = self._setup.poller.now
            if sent == len(data):
                return
        self._kept = data[sent:] if sent else data
        self._was_refused(answer)
        if destination.writable:
            self.take_turn()
        else:
            self._pause()

    def _was_refused(self, answer: bool) -> None:
        """Some of what was written is kept: who caused it by asking is not read meanwhile."""
        reverse = self.destination.source
        if reverse is not None and (answer or reverse._showing):
            reverse.unanswered = True

    def pass_on(self, count: int | None) -> None:
        """From here on move `count` bytes unseen, None: all of them."""
        self.unseen = count is not None
        if count is None:
            self.viewer = None
        self._counted = UNBOUND if count is None else count
        self._bound(self._counted)
        self.take_turn()

    def _bound(self, count: int) -> None:
        """Let `count` bytes pass; `UNBOUND`: any number."""
        self.allowance = None if count == UNBOUND else Allowance(count)

    def show(self, viewer: Viewer) -> None:
        """Show what is read from here on to `viewer`, whatever `pass_on` said before."""
        self.settle()
        self.viewer = viewer
        self.take_turn()

    def settle(self) -> int:
        """Show again; say how many bytes were moved unseen."""
        if not self.unseen:
            return 0
        passed = 0 if self.allowance is None else self._counted - self.allowance.counted
        self.unseen = False
        self._bound(UNBOUND)
        return passed

    def spent(self) -> None:
        """What may pass unseen has passed."""
        passed = self.settle()
        if self.viewer is not None:
            self.viewer.passed(self.source, passed)
        self.take_turn()

    # What a flow with a limit has instead of these

    @property
    def waits(self) -> bool:
        """Whether it reads nothing because a rate limiter has granted nothing."""
        return False

    def leave(self) -> None:
        """Wait no more for a grant."""

    def go_as(self, client: Address) -> None:
        """The client turned out to be `client`."""

    def hold(self) -> None:
        """Read no more."""
        self.on_hold = True

    def go_on(self) -> None:
        """Read again."""
        self.on_hold = False
        self.take_turn()

    def drop(self) -> None:
        """The destination takes no more."""
        self._behind = None
        super().drop()
        self._return_slot()
        self._taken()
