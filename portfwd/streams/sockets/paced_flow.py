# -*- test-case-name: tests.streams.sockets.test_paced -*-
"""
A flow between two sockets that reads no more bytes a second than its rule allows.

Before it reads, the flow asks for a slice (`portfwd.streams.rate_limiters`). When it stops, it returns
what it has not used, so an idle flow holds nothing. While it waits it reads nothing: the bytes stay in
the kernels of both machines, and TCP slows the sender down. Bytes move as in any other flow: bulk is
spliced, slice by slice.

It is a `WatchedFlow`, which without a viewer moves bytes as any flow does. With filters, two bounds of
its `Allowance` hold at once: the bytes that filters let pass unseen, and the bytes that were granted.
Bytes that a filter sees are counted; bytes that a filter writes are not, nor those that are thrown away.
"""

from __future__ import annotations

from typing import Any

from portfwd.streams.allowance import Allowance
from portfwd.streams.rate_limiters import Ticket
from portfwd.streams.sockets.flow_setup import FlowSetup
from portfwd.streams.sockets.watched_flow import WatchedFlow
from portfwd.values import Address, FlowSummary


class PacedFlow(WatchedFlow):
    """One direction of a session whose bandwidth is limited; it always has an allowance."""

    __slots__ = ("_bounds", "_ticket")

    _bounds: Allowance
    _ticket: Ticket

    def __init__(self, source: Any, destination: Any, setup: FlowSetup, ticket: Ticket) -> None:
        """
        As `WatchedFlow`.

        :param ticket: of this flow alone.
        """
        super().__init__(source, destination, setup)
        self._ticket = ticket
        self._bounds = self.allowance = Allowance(granted=0)

    def __repr__(self) -> str:
        return f"<PacedFlow {self._ticket!r} {super().__repr__()}>"

    def _bound(self, count: int) -> None:
        self._bounds.counted = count

    # When to run

    @property
    def waits(self) -> bool:
        """Whether it reads nothing because no bytes are granted yet."""
        return self._ticket.waits

    def _wants_to_read(self) -> bool:
        source = self.source
        return (
            source.readable
            and not (source.read_ended or source.lost or self.on_hold or self.unanswered or self._discarding)
            and not self.keeps_bytes
        )

    def run(self) -> None:
        """Move, or show, what was granted at most."""
        bounds = self._bounds
        if not bounds.granted and self._wants_to_read():
            self._ask()
        had = bounds.granted
        super().run()
        if had and not bounds.granted and self._pool is not None and (self.viewer is None or self.unseen):
            # The source had as much as it was allowed: that is bulk, however small a slice is.
            self.bulk = True
        self._give_back()

    def _ask(self) -> None:
        waited = self._ticket.waits
        self._bounds.granted = self._ticket.ask(self)
        if self._ticket.waits and not waited and self.source.dead and not self.source.lost:
            self.source.look_for_death()

    def spent(self) -> None:
        """A bound is reached: tell the viewer of the counted one; the next run asks for the granted one."""
        if self.unseen and not self._bounds.counted:
            super().spent()
        elif not self._ticket.waits and self._wants_to_read():
            self.take_turn()

    def granted(self, count: int) -> None:
        """See `portfwd.streams.rate_limiters.Waiter`."""
        self._waited_until_now()
        self._bounds.granted += count
        self.take_turn()

    def _give_back(self) -> None:
        granted, self._bounds.granted = self._bounds.granted, 0
        if granted:
            self._ticket.settle(granted, 0)

    # Bulk is what many slices have brought, not one of them

    def _source_is_dry(self, moved: int) -> None:
        super()._source_is_dry(self._bounds.taken)
        self._bounds.taken = 0

    # Stopping

    def leave(self) -> None:
        """Stop waiting, and return what was granted."""
        if self._ticket.waits:
            self._waited_until_now()
            self._ticket.leave()
        self._give_back()

    def _waited_until_now(self) -> None:
        """Do not let a limit of silence count the wait."""
        self._setup.poller.look_at_clock()
        self.source.moved_at = self._setup.poller.now

    def go_as(self, client: Address) -> None:
        """The client turned out to be `client`: the limits of that address hold from now on."""
        waited = self._ticket.waits
        self.leave()
        self._ticket.go_as(client)
        if waited:
            self.take_turn()

    def hold(self) -> None:
        """Read no more."""
        super().hold()
        self.leave()

    def drop(self) -> None:
        """The destination takes no more."""
        self.leave()
        super().drop()

    def discard(self) -> None:
        """From here on read and throw away, as fast as it comes."""
        self.leave()
        super().discard()

    def summary(self) -> FlowSummary:
        """What it did so far."""
        return super().summary()._replace(paced=self._ticket.waited)
