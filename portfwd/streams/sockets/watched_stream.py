# -*- test-case-name: tests.streams.sockets.test_watched -*-
"""
The socket stream of a session with filters: what it reads is shown before it is passed on.

It differs from its base only in that its flows are `WatchedFlow`s, which exist from the
moment that somebody watches.
"""

from __future__ import annotations

import errno
from typing import Any

from portfwd.streams.sockets.socket_stream import SocketStream
from portfwd.streams.sockets.watched_flow import NotConnected, WatchedFlow
from portfwd.streams.stream import Viewer
from portfwd.values import FlowSummary


class WatchedStream(SocketStream):
    """One side of a session with filters, on a socket of ours."""

    __slots__ = ()

    source: WatchedFlow | None
    drain: WatchedFlow | None

    def watch(self, viewer: Viewer, peer: WatchedStream | None = None) -> None:
        """
        Show what is read to `viewer`.

        :param peer: the stream that was watched before; its flows are this one's too.
        """
        if peer is not None:
            self.drain, self.source = peer.source, peer.drain
        if self.drain is not None and self.source is not None:
            self.drain.destination = self.source.source = self
            self.source.viewer = viewer
            return
        nowhere: Any = NotConnected()
        self.source = up = self._make_flow(self, nowhere)
        self.drain = self._make_flow(nowhere, self)
        up.viewer = viewer

    def look_for_death(self) -> None:
        """As its base; and reading finds out nothing while the flow is made to wait."""
        flow = self.source
        if flow is not None and (flow.on_hold or flow.unanswered) and not self.read_ended:
            if self.dead:
                self.break_writing(errno.EPIPE)
        else:
            super().look_for_death()

    def _make_flow(self, source: Any, destination: Any) -> WatchedFlow:
        flow = self._joiner.join(source, destination)
        if not isinstance(flow, WatchedFlow):
            raise TypeError(f"{flow!r} cannot be watched")
        return flow

    def join(self, peer: SocketStream) -> None:
        """Make the flow from here to `peer`, unless watching did."""
        if self.source is None:
            super().join(peer)

    def write(self, data: bytes, *, answer: bool = False) -> None:
        """Write `data` here, behind what was written before."""
        if self.drain is not None:
            self.drain.write(data, answer=answer)

    def answered(self) -> FlowSummary:
        """What was written here while there is no other side."""
        return FlowSummary() if self.drain is None else self.drain.summary()

    def pass_on(self, count: int | None) -> None:
        """Move the next `count` bytes that are read here unseen, None: all of them."""
        if self.source is not None:
            self.source.pass_on(count)

    def settle(self) -> int:
        """Show again; say how many bytes were moved unseen since `pass_on`."""
        return 0 if self.source is None else self.source.settle()

    def show(self, viewer: Viewer) -> None:
        """Show what is read from here on to `viewer`, whatever `pass_on` said before."""
        if self.source is not None:
            self.source.show(viewer)

    def hold(self) -> None:
        """Read no more until `go_on`."""
        if self.source is not None:
            self.source.hold()

    def go_on(self) -> None:
        """Read again."""
        if self.source is not None:
            self.source.go_on()
