# -*- test-case-name: tests.streams.sockets.test_socket_flow -*-
"""
One direction between two sockets: copied for little, spliced for bulk, shown to a viewer if there is one.

At each turn the flow chooses its mover (`copying`, `splicing`, `showing`): it splices while it has bytes in a
pipe or has lately been bulk, shows while its view wants to see, and copies else. What bounds it is composed:
an `Allowance` says how much it may read, a `View` what becomes of it. It has them only if they are needed.

- **With a view** the flow starts before there is a destination, and takes bytes from others too. When the
  viewer has seen enough of a direction, for a number of bytes or for good, it moves bytes like any other.
- **With limited bandwidth** it asks for a slice before it reads (`portfwd.streams.rate_limiters`), and
  returns what it has not used when it stops, so an idle flow holds nothing. While it waits it reads nothing:
  the bytes stay in the kernels of both machines, and TCP slows the sender down. Bytes that a filter sees are
  counted; bytes that a filter writes are not, nor those that are thrown away.

An end that is known to stand right behind the last bytes leaves in one segment with them: ``MSG_MORE`` is for
these bytes only, and whoever held them back lets them go if the end does not follow.
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
    """Moves bytes from `source` to `destination`; with a view either may be `NotConnected`."""

    __slots__ = ()

    # What the poller calls

    def run(self) -> None:
        """Move, or show, bytes until the turn is over."""
        allowance = self.allowance
        if allowance is not None and allowance.is_paced:
            self._run_paced(allowance)
        elif self.view is None and not self.discarding:
            self._move()
        else:
            self._choose()

    def _run_paced(self, allowance: Allowance) -> None:
        """Move, or show, what was granted at most."""
        if not allowance.granted and self.wants_to_read():
            self._ask(allowance)
        had, view = allowance.granted, self.view
        self._choose()
        if had and not allowance.granted and self.pool is not None and not (view and view.is_shown):
            # The source had as much as it was allowed: that is bulk, however small a slice is.
            self.bulk = True
        allowance.settle()

    def _ask(self, allowance: Allowance) -> None:
        waited = allowance.waits
        if not allowance.ask(self) and not waited and self.source.dead and not self.source.lost:
            self.source.look_for_death()

    def _choose(self) -> None:
        view = self.view
        if self.discarding:
            # Whether the destination takes what was read before or not.
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
        """Show, or move; before that, write what is kept in the order in which it came."""
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
        """What was written while earlier bytes waited is next."""
        if view.behind is not None:
            self.kept, view.behind = b"".join((self.kept, *view.behind)), None

    def _flush(self) -> bool:
        """Write what is kept; say whether more may be read."""
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

    # What rate limiters tell

    def granted(self, count: int) -> None:
        """See `portfwd.streams.allowance.Waiter`."""
        self._waited_until_now()
        if self.allowance is not None:
            self.allowance.granted += count
        self.take_turn()

    def _waited_until_now(self) -> None:
        """Do not let a limit of silence count the wait."""
        self.setup.poller.look_at_clock()
        self.source.moved_at = self.setup.poller.now

    def leave(self) -> None:
        """Wait for no grant any more, and return what was granted."""
        if self.allowance is not None:
            if self.allowance.waits:
                self._waited_until_now()
            self.allowance.leave()

    def go_as(self, client: Address) -> None:
        """The client turned out to be `client`: the limits of that address hold from now on."""
        allowance = self.allowance
        if allowance is not None:
            if allowance.waits:
                self._waited_until_now()
            if allowance.go_as(client):
                self.take_turn()

    # What a viewer asks

    def watch(self, viewer: Viewer | None) -> None:
        """Show what is read to `viewer`; None: show nothing yet, but take what is written."""
        self._watched().viewer = viewer

    def _watched(self) -> Watching:
        if self.view is None:
            self.view = Watching()
        return self.view

    def write(self, data: bytes, *, answer: bool = False) -> None:
        """
        Write `data` to the destination, behind what was written or moved before.

        :param answer: it came of what the destination sent.
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
            # Who caused it by asking is not read meanwhile.
            reverse.wait_for_answer()
        if destination.writable:
            self.take_turn()
        else:
            self.pause()

    @property
    def is_showing(self) -> bool:
        """Whether its viewer is shown something just now."""
        return self.view is not None and self.view.showing

    def wait_for_answer(self) -> None:
        """Read nothing before the source has taken what it was answered."""
        self._watched().unanswered = True

    def pass_on(self, count: int | None) -> None:
        """From here on move `count` bytes unseen, None: all of them."""
        self._watched().pass_on(self, count)
        self.take_turn()

    def show(self, viewer: Viewer) -> None:
        """Show what is read from here on to `viewer`, whatever `pass_on` said before."""
        self.settle()
        self.watch(viewer)
        self.take_turn()

    def settle(self) -> int:
        """Show again; say how many bytes were moved unseen."""
        return 0 if self.view is None else self.view.settle(self)

    def hold(self) -> None:
        """Read no more."""
        self._watched().on_hold = True
        self.leave()

    def go_on(self) -> None:
        """Read again."""
        self._watched().on_hold = False
        self.take_turn()

    # Stopping

    def copy_only(self) -> PipePool | None:
        """Splice no more, until `splice_again` is given what this returns."""
        before = self.pool
        copy_from_now_on(self)
        return before

    def splice_again(self, pool: PipePool | None) -> None:
        """Splice as before `copy_only`."""
        self.pool = pool
        self.bulk = self.setup.splice_first and pool is not None

    def drop(self) -> None:
        """The destination takes no more: what is kept is lost."""
        if self.allowance is not None:
            self.leave()
        self.kept = b""
        self.stop_pause()
        self.return_pipe()
        if self.view is not None:
            self.view.behind = None
            self.all_taken()

    def source_lost(self) -> None:
        """The source is gone; what it sent before is still written."""
        if not self.in_pipe:
            self.return_pipe()

    def discard(self) -> None:
        """From here on read and throw away, as fast as it comes; what was read before is still written."""
        self.leave()
        self.discarding = True
        self.take_turn()

    def summary(self) -> FlowSummary:
        """What it did so far."""
        waited = 0.0 if self.allowance is None else self.allowance.waited
        return FlowSummary(self.moved, self.reads, self.writes, self.spliced, self.paused, waited)
