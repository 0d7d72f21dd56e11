# -*- test-case-name: tests.relay.test_farewell -*-
"""
How one stream is brought to its end, once the session's reason is fixed.

Four ways, from the kindest:

- `CLOSE`: both directions are through; release it.
- `END_AND_DISCARD`: write what is kept, end, then read and throw away until
  the peer ends too. A socket that is closed with unread input sends a reset,
  and the peer may lose our last bytes.
- `DELIVER_AND_ABORT`: wait until the peer's kernel has everything, then
  reset. ``SO_LINGER`` 1,0 drops the send queue, so it must be empty first.
- `ABORT`: reset now.

Each of the first three is bounded: a stream on which nothing has moved for
``linger`` is reset.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from portfwd.relay.containment import contained
from portfwd.streams.stream import Stream

#: Seconds between looks at a send queue; the kernel offers nothing to wait for.
#: Short at first (a queue on a local network empties in a round trip), then
#: four times longer each time up to the second one.
FIRST_LOOK: Final = 0.002
LONGEST_LOOK: Final = 0.1


class Way(enum.Enum):
    """How a stream is ended."""

    CLOSE = "close"
    END_AND_DISCARD = "end and discard"
    DELIVER_AND_ABORT = "deliver and abort"
    ABORT = "abort"


class Farewell:
    """Sees one stream off. `over` is called by whoever hears that the stream is lost."""

    def __init__(
        self,
        clock: IReactorTime,
        stream: Stream,
        way: Way,
        linger: float,
        broke: Callable[[Failure], None],
    ) -> None:
        """
        :param linger: seconds without progress after which the stream is reset.
        :param broke: told when the stream raises later on.
        """
        self.broke = broke
        self._clock = clock
        self._stream = stream
        self._way = way
        self._linger = linger
        self._timer: IDelayedCall | None = None
        self._pause = FIRST_LOOK
        self._left = -1
        self._moved_at = 0.0
        self._peer_ended = False
        self._end_sent = False
        self._over = False

    def __repr__(self) -> str:
        return f"<Farewell {self._way.value} {self._stream!r}>"

    def start(self, *, end_asked: bool, peer_ended: bool) -> None:
        """
        Begin.

        :param end_asked: whether `Stream.end` was called before; it is not called again.
        :param peer_ended: whether the peer has ended already.
        """
        self._moved_at = self._clock.seconds()
        self._peer_ended = peer_ended
        if self._way is Way.ABORT:
            self._stream.abort()
        elif self._way is Way.CLOSE:
            self._stream.close()
            if not self._over:
                self.watch()
        elif self._way is Way.DELIVER_AND_ABORT:
            self._left = self._stream.undelivered()
            if self._left == 0:
                self._stream.abort()
            else:
                self._stream.discard()
                self._look_later()
        else:
            self._end_sent = end_asked
            if not end_asked:
                self._stream.end()
            if self._over:
                return  # the peer had ended, and our end went out at once
            self._stream.discard()
            self._close_if_through()
            self._look_later()

    def watch(self) -> None:
        """`Way.CLOSE` was asked already, and is not done: bound it."""
        self._moved_at = self._clock.seconds()
        self._look_later()

    def ended(self) -> None:
        """The peer ended."""
        self._peer_ended = True
        self._close_if_through()

    def end_sent(self) -> None:
        """Our end is out."""
        self._end_sent = True
        self._close_if_through()

    def _close_if_through(self) -> None:
        if self._way is Way.END_AND_DISCARD and self._peer_ended and self._end_sent and not self._over:
            self._way = Way.CLOSE
            self._stream.close()

    def _look_later(self) -> None:
        if not self._over:
            self._timer = self._clock.callLater(self._pause, self._look)
            self._pause = min(self._pause * 4, LONGEST_LOOK)

    @contained
    def _look(self) -> None:
        now = self._clock.seconds()
        left = self._stream.undelivered()
        if left != self._left:
            self._left = left
            self._moved_at = now
        if (left == 0 and self._way is Way.DELIVER_AND_ABORT) or now - self._moved_at >= self._linger:
            self._stream.abort()
        else:
            self._look_later()

    def over(self) -> None:
        """The stream is gone."""
        self._over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
