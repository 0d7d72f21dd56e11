# -*- test-case-name: tests.streams.sockets.test_socket_flow -*-
"""
One direction between two sockets: copied for small amounts, spliced for bulk, shown to a viewer if there is
one.

At each turn the flow chooses its mover (`copying`, `splicing`, `showing`). It splices while it has bytes in a
pipe or was recently bulk, shows while its view needs bytes, and copies otherwise. An `Allowance` limits what
it may read, a `View` decides what is shown. A flow has these objects only if it needs them.

- **With a view**, the flow starts before there is a destination, and also accepts bytes of the viewer. When
  the viewer needs no more bytes of a direction, for a number of bytes or for good, the flow moves bytes like
  any other.
- **With limited bandwidth**, it requests a slice before it reads (`portfwd.streams.rate_limiters`), and
  returns the unused part when it stops, so an idle flow holds none. While it waits it does not read: the
  bytes stay in the kernels of both machines, and TCP slows the sender down. Bytes that a filter sees are
  counted; bytes that a filter writes, and dropped bytes, are not.

If an end directly follows the last bytes, both are sent in one segment: ``MSG_MORE`` is used for these bytes
only, and they are sent if the end does not follow.
"""

from __future__ import annotations

import errno

from portfwd.kernel.pipes import PipePool
from portfwd.streams.allowance import Allowance
from portfwd.streams.sockets.copying import copy, throw_away
from portfwd.streams.sockets.flow_state import FlowState, Watching
from portfwd.streams.sockets.showing import show
from portfwd.streams.sockets.splicing import copy_from_now_on, empty_pipe, splice
from portfwd.streams.stream import Viewer
from portfwd.values import Address, FlowSummary


class SocketFlow(FlowState):
    """Moves bytes from `source` to `destination`. With a view, one of them may be `NotConnected`."""

    __slots__ = ()

    # Called by the poller

    def run(self) -> None:
        """Move or show bytes until the turn ends."""
        allowance = self.allowance
        if allowance is not None and allowance.is_paced:
            self._run_paced(allowance)
        elif self.view is None and not self.discarding:
            # The most common case of `_move`, which nothing precedes.
            destination = self.destination
            if allowance is None and not (
                self.bulk
                or self.kept
                or self.in_pipe
                or self.paused_at is not None
                or destination.lost
                or destination.write_broken
            ):
                copy(self)
            else:
                self._move()
        else:
            self._choose()

    def _run_paced(self, allowance: Allowance) -> None:
        """Move or show at most the granted bytes."""
        if not allowance.granted and self.wants_to_read():
            self._ask(allowance)
        had, view = allowance.granted, self.view
        self._choose()
        if had and not allowance.granted and self.pool is not None and not (view and view.is_shown):
            # The source had more than the grant: that is bulk, even if a slice is small.
            self.bulk = True
        allowance.settle()

    def _ask(self, allowance: Allowance) -> None:
        waited = allowance.waits
        if not allowance.ask(self) and not waited and self.source.dead and not self.source.lost:
            self.source.look_for_death()

    def _choose(self) -> None:
        view = self.view
        if self.discarding:
            # Regardless of whether the destination accepts earlier bytes.
            throw_away(self)
            self._move()
            if view is not None and view.behind and not self.in_pipe:
                self._fetch_behind(view)
                self.take_turn()
        elif view is None:
            self._move()
        else:
            self._run_viewed(view)

    def _run_viewed(self, view: Watching) -> None:
        """Write the kept bytes in order, then show or move."""
        shows = view.viewer is not None and not view.unseen
        if self.in_pipe and (shows or view.on_hold or view.behind):
            destination = self.destination
            if not (destination.lost or destination.write_broken) and self._flush():
                empty_pipe(self)
            if self.in_pipe:
                return
        if view.behind is not None:
            self._fetch_behind(view)
        if shows or view.on_hold or not self.source.is_connected:
            if self.pipe is not None:
                self.return_pipe()
            if self._flush() and shows:
                show(self, view)
            if view.on_hold and self.source.dead:
                self.source.look_for_death()
        else:
            self._move()

    def _fetch_behind(self, view: Watching) -> None:
        """Continue with bytes that were written while earlier ones waited."""
        if view.behind is not None:
            self.kept, view.behind = b"".join((self.kept, *view.behind)), None

    def _flush(self) -> bool:
        """Write kept bytes; return whether more may be read."""
        self.stop_pause()
        return not self.kept or self.write_kept()

    def _move(self) -> None:
        """Splice or copy."""
        destination = self.destination
        if destination.lost or destination.write_broken:
            return
        if self.paused_at is not None:
            self.stop_pause()
        if self.kept and not self.write_kept():
            return
        allowance = self.allowance
        if allowance is not None and allowance.left <= 0 and not self.in_pipe and not self.discarding:
            self.return_pipe()
            self.spent()
            return
        if self.in_pipe or (self.bulk and not self.discarding and self.has_pipe()):
            splice(self)
        elif not self.discarding:
            copy(self)

    # Calls of rate limiters

    def granted(self, count: int) -> None:
        """See `portfwd.streams.allowance.Waiter`."""
        self._waited_until_now()
        if self.allowance is not None:
            self.allowance.granted += count
        self.take_turn()

    def _waited_until_now(self) -> None:
        """Exclude the wait from the limit of silence."""
        self.setup.poller.look_at_clock()
        self.source.moved_at = self.setup.poller.now

    def leave(self) -> None:
        """Stop waiting for a grant, and return the unused one."""
        if self.allowance is not None:
            if self.allowance.waits:
                self._waited_until_now()
            self.allowance.leave()

    def go_as(self, client: Address) -> None:
        """The client was announced as `client`: apply the limits of that address."""
        allowance = self.allowance
        if allowance is not None:
            if allowance.waits:
                self._waited_until_now()
            if allowance.go_as(client):
                self.take_turn()

    # Requests of a viewer

    def watch(self, viewer: Viewer | None) -> None:
        """Show bytes to `viewer`. None: show nothing yet, but accept written bytes."""
        self._watched().viewer = viewer

    def _watched(self) -> Watching:
        if self.view is None:
            self.view = Watching()
        return self.view

    def write(self, data: bytes, *, answer: bool = False) -> None:
        """
        Write `data` to the destination after earlier bytes.

        :param answer: whether it answers bytes of the destination.
        """
        destination = self.destination
        if destination.lost or destination.write_broken or not data:
            return
        view = self._watched()
        if self.kept or self.in_pipe or view.behind:
            if view.behind is None:
                view.behind = []
            view.behind.append(data)
        else:
            sent = 0
            if destination.writable:
                try:
                    sent = destination.socket.send(data)
                except BlockingIOError:
                    destination.writable = False
                except OSError as problem:
                    destination.break_writing(problem.errno or errno.EPIPE)
                    return
                self.writes += 1
                self.moved += sent
                self.source.moved_at = self.setup.poller.now
                if sent == len(data):
                    return
            self.kept = data[sent:] if sent else data
        reverse = destination.source
        if reverse is not None and (answer or reverse.is_showing):
            # The destination is not read until it has accepted the answer.
            reverse.wait_for_answer()
        if destination.writable:
            self.take_turn()
        else:
            self.pause()

    @property
    def is_showing(self) -> bool:
        """Whether its viewer is being called."""
        return self.view is not None and self.view.showing

    def wait_for_answer(self) -> None:
        """Stop reading until the source has accepted its answers."""
        self._watched().unanswered = True

    def pass_on(self, count: int | None) -> None:
        """Move the next `count` bytes without showing them; None for all."""
        self._watched().pass_on(self, count)
        self.take_turn()

    def show(self, viewer: Viewer) -> None:
        """Show all further bytes to `viewer`, even if `pass_on` was called before."""
        self.settle()
        self.watch(viewer)
        self.take_turn()

    def settle(self) -> int:
        """Show bytes again; return how many were moved without being shown."""
        return 0 if self.view is None else self.view.settle(self)

    def hold(self) -> None:
        """Stop reading."""
        self._watched().on_hold = True
        self.leave()

    def go_on(self) -> None:
        """Read again."""
        self._watched().on_hold = False
        self.take_turn()

    # Stopping

    def copy_only(self) -> PipePool | None:
        """Stop splicing, until `splice_again` is called with the result."""
        before = self.pool
        copy_from_now_on(self)
        return before

    def splice_again(self, pool: PipePool | None) -> None:
        """Splice as before `copy_only`."""
        self.pool = pool
        self.bulk = self.setup.splice_first and pool is not None

    def drop(self) -> None:
        """The destination accepts no more: drop the kept bytes."""
        if self.allowance is not None:
            self.leave()
        self.kept = b""
        self.stop_pause()
        self.return_pipe()
        if self.view is not None:
            self.view.behind = None
            self.all_taken()

    def source_lost(self) -> None:
        """The source is closed. Its earlier bytes are still written."""
        if not self.in_pipe:
            self.return_pipe()

    def discard(self) -> None:
        """Read and drop all further bytes without limits. Earlier bytes are still written."""
        self.leave()
        self.discarding = True
        self.take_turn()

    def summary(self) -> FlowSummary:
        """Summary so far."""
        waited = 0.0 if self.allowance is None else self.allowance.waited
        return FlowSummary(self.moved, self.reads, self.writes, self.spliced, self.paused, waited)
