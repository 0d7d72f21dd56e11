# -*- test-case-name: tests.relay.test_session -*-
"""
The part of a session that ends it after too long without progress.

`portfwd.relay.silence` has the limits and the arithmetic; this module has the timer and polls the streams.
"""

from __future__ import annotations

from typing import Final

from portfwd.relay.containment import contained
from portfwd.relay.ends import Ends, Event
from portfwd.relay.record import SessionRecord
from portfwd.relay.silence import LOOKS, SLOW_AFTER, next_look, shrank, silence_limit, silence_reason
from portfwd.relay.states import State
from portfwd.rules.model import Options
from portfwd.values import CloseReason, Side

_RELAYING: Final = State.RELAYING


class TimedSession(SessionRecord):
    """See the module."""

    def _stop_watching(self) -> None:
        if self._waits_half_closed:
            self._waits_half_closed = False
            self._rule.half_closed.forget(self)
        if self._silence is not None:
            if self._silence.active():
                self._silence.cancel()
            self._silence = None

    def _watch_silence(self, *, from_now: bool = False) -> None:
        self._stop_watching()
        ends = self.ends
        limit = silence_limit(self._rule.options, ends)
        if limit is None or self.state is not _RELAYING:
            return
        self._left = None
        if from_now and limit / LOOKS == self._rule.half_closed.seconds:
            self._waits_half_closed = True
            self._rule.half_closed.wait(self, self._look)
            return
        self._silence = self._clock.callLater(next_look(limit, ends, self._quiet(), slow=False), self._look)

    def _moved_at(self, *, own: bool = False) -> float:
        """Time of the last progress, or with `own` of the last read or write, in seconds of the reactor."""
        moved = [
            half.stream.last_moved() for half in (self._client, self._upstream) if half.stream is not None
        ]
        return max(moved) if own else max(self._touched, *moved)

    def _quiet(self) -> float:
        """Seconds since the last progress."""
        return self._clock.seconds() - self._moved_at()

    def silent_for(self) -> float:
        """Seconds since the last progress."""
        return self._quiet()

    def undelivered(self) -> tuple[int, int]:
        """Numbers of unacknowledged bytes for the client and for the upstream, if known."""
        client, upstream = self._client.stream, self._upstream.stream
        return (
            (client.undelivered() or 0) if client is not None else 0,
            (upstream.undelivered() or 0) if upstream is not None else 0,
        )

    @contained
    def _look(self) -> None:
        """Check whether the session is silent, including the kernel's queues."""
        self._waits_half_closed = False
        self._silence = None
        options, ends = self._rule.options, self.ends
        if self.state is not _RELAYING or silence_limit(options, ends) is None:
            return
        before, self._left = self._left, self.undelivered()
        if shrank(before, self._left):
            self._touched = self._acknowledged_at = self._clock.seconds()
        undelivered = any(self._left)
        limit = silence_limit(options, ends, undelivered=undelivered)
        if limit is None:
            # The reader may be slow. half-close begins when all bytes are delivered.
            wait = options.half_close / LOOKS
        else:
            slow = undelivered or self._acknowledged_at >= self._moved_at(own=True) + SLOW_AFTER
            wait = next_look(limit, ends, self._quiet(), slow=slow)
        if wait:
            self._silence = self._clock.callLater(wait, self._look)
        else:
            self._was_silent(options, ends, undelivered)

    def _was_silent(self, options: Options, ends: Ends, undelivered: bool) -> None:
        spoke = {
            half.side: half.stream.last_moved()
            for half in (self._client, self._upstream)
            if half.stream is not None and half.stream.first_at is not None
        }
        reason, why = silence_reason(options, ends, spoke, undelivered=undelivered)
        if self._ended_first is None:
            self._ended_first = Side.CLIENT if reason is CloseReason.CLIENT_IDLE else Side.UPSTREAM
        self._detail = self._detail or why
        # If a side is closed, the limit was linger, and the time of the other side is over.
        self._expire(reason, Event.STALLED if self.ends.broken else Event.EXPIRED)

    def _expire(self, reason: CloseReason, event: Event = Event.EXPIRED) -> None:
        """End the session because of `reason`, a time limit."""
        raise NotImplementedError
