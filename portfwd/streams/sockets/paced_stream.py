# -*- test-case-name: tests.streams.sockets.test_paced -*-
"""
The socket stream of a session whose bandwidth is limited.

It differs from a `WatchedStream` where its flow waits for a grant: a flow that waits is not silent, it
does not find out by reading that its source died, and it leaves the queue when one of its streams is
lost.
"""

from __future__ import annotations

import errno

from portfwd.streams.sockets.watched_stream import WatchedStream
from portfwd.streams.stream import Loss
from portfwd.values import Address


class PacedStream(WatchedStream):
    """One side of a session with limited bandwidth, on a socket of ours."""

    __slots__ = ("_moved_at",)

    _moved_at: float

    @property
    def moved_at(self) -> float:
        """
        When bytes of this side were last read, or written to the other.

        While its flow waits for a grant, the time is now: an idle limit must not count that wait.
        """
        flow = self.source
        if flow is not None and flow.waits:
            self._joiner.poller.look_at_clock()
            return self._joiner.poller.now
        return self._moved_at

    @moved_at.setter
    def moved_at(self, now: float) -> None:
        self._moved_at = now

    def has_input(self) -> bool:
        """False: bytes may wait, but must not be read before a grant."""
        return False

    def look_for_death(self) -> None:
        """Where the connection broke, and reading will not find out soon: the peer takes no more."""
        flow = self.source
        if self.dead and not self.read_ended and flow is not None and flow.waits:
            self.break_writing(errno.EPIPE)
        else:
            super().look_for_death()

    def go_as(self, client: Address) -> None:
        """The client turned out to be `client`: both directions count for that address."""
        for flow in (self.source, self.drain):
            if flow is not None:
                flow.go_as(client)

    def lose(self, how: Loss, detail: str = "") -> None:
        """Close the socket; neither flow waits any longer."""
        if not self.lost:
            for flow in (self.source, self.drain):
                if flow is not None:
                    flow.leave()
        super().lose(how, detail)
