# -*- test-case-name: tests.relay.test_closing -*-
"""
Closes the stream of one side after the reason of the session is fixed.

It performs the actions of `portfwd.relay.ends.close_step` on a stream and polls its send queue with a timer.
A stream without progress for ``linger`` is reset, which bounds every mode. If a limit has ended the session,
`DELIVERY_LIMIT` also bounds the time of a slow reader.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from portfwd.relay.containment import contained
from portfwd.relay.ends import Action, Event, Flow, Mode, close_step
from portfwd.streams.stream import Stream

#: Seconds between polls of a send queue, because the kernel has no event for it: the first value (a queue on
#: a local network empties in a round trip), then four times longer each time up to the second one.
FIRST_LOOK: Final = 0.002
LONGEST_LOOK: Final = 0.1

#: Seconds for delivering the received bytes after a time limit, a drain or ``on-remove=cut`` has ended a
#: session. With 10 seconds of ``--drain`` it is less than the 90 after which systemd kills a stopping
#: process.
DELIVERY_LIMIT: Final = 60.0


class Closing:
    """
    Closes one stream. The session calls `over` when the stream is lost.

    :ivar mode: the current mode.
    :ivar dropped: number of bytes that the peer had not acknowledged when the stream was reset.
    """

    def __init__(
        self,
        clock: IReactorTime,
        stream: Stream,
        mode: Mode,
        flows: tuple[Flow, Flow],
        linger: float,
        broke: Callable[[Failure], None],
    ) -> None:
        """
        :param flows: the flow from this side and the flow to it.
        :param linger: seconds without progress after which the stream is reset.
        :param broke: called if the stream raises later.
        """
        self.broke = broke
        self.mode = mode
        self.dropped = 0
        self._clock = clock
        self._stream = stream
        self._mine, self._theirs = flows
        self._linger = linger
        self._timer: IDelayedCall | None = None
        self._pause = FIRST_LOOK
        self._left: int | None = -1
        self._moved_at = 0.0
        self._was_reset = False
        self._over = False

    def __repr__(self) -> str:
        return f"<Closing {self.mode.value} {self._stream!r}>"

    def start(self) -> None:
        """Start to close."""
        self._moved_at = self._clock.seconds()
        self.tell(Event.CLOSING)

    def watch(self) -> None:
        """Bound the time of a stream that was asked to close already."""
        self._moved_at = self._clock.seconds()
        self._look_later()

    def tell(self, event: Event) -> None:
        """Perform the actions for an event of this side."""
        if self._over:
            return
        self.mode, self._mine, self._theirs, action = close_step(self.mode, self._mine, self._theirs, event)
        stream = self._stream
        if action is Action.NOTHING:
            if event is Event.SPOKE and self.mode is Mode.DELIVER and stream.undelivered() == 0:
                self.tell(Event.LOOKED)
        elif action is Action.RESET:
            if event is not Event.LOOKED:  # everything was acknowledged then
                self._note_dropped()
            self._was_reset = True
            stream.abort()
        elif action is Action.CLOSE:
            stream.close()
            self._look_later()
        elif action is Action.DELIVER:
            self._left = stream.undelivered()
            if self._left == 0:
                self.tell(Event.LOOKED)
            else:
                stream.discard()
                self._look_later()
        else:
            if action is Action.END:
                stream.end()
            if not self._over:  # the peer had ended, and our end was sent at once
                stream.discard()
                self._look_later()

    def _note_dropped(self) -> None:
        """Store the number of unacknowledged bytes, without the end, which counts as a byte."""
        left = self._stream.undelivered() or 0
        self.dropped = max(0, left - (self._theirs is Flow.END_OUT))

    def _look_later(self) -> None:
        if not (self._over or self._was_reset) and self._timer is None:
            self._timer = self._clock.callLater(self._pause, self._look)
            self._pause = min(self._pause * 4, LONGEST_LOOK)

    @contained
    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        left = self._stream.undelivered()
        if left != self._left:
            self._left = left
            self._moved_at = now
        if left == 0:
            self.tell(Event.LOOKED)
        if not (self._over or self._was_reset) and now - self._moved_at >= self._linger:
            self.tell(Event.STALLED)
        self._look_later()

    def over(self) -> None:
        """The stream was closed."""
        self._over = True
        if self._timer is not None:
            timer, self._timer = self._timer, None
            if timer.active():
                timer.cancel()
