# -*- test-case-name: tests.relay.test_session -*-
"""
A session: one client connection and its upstream.

It performs what an end, a failed write, a reset or silence of one side means for the other side, and
determines the close reason. Bytes do not pass through it: joined streams move them and handle backpressure.
Three base classes have parts of it: `portfwd.relay.admitted` judges the client, `portfwd.relay.timed` handles
silence, and `portfwd.relay.record` makes summaries.

`portfwd.relay.ends` has the rules of ends. Refusals close with FIN, unless ``on-deny`` says otherwise.

An exception of a stream, or of portfwd's own code, ends only this session, with the reason ``ID``.
"""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import DialError
from portfwd.kernel.failures import log_failure
from portfwd.relay.admitted import AdmittedSession
from portfwd.relay.closing import Closing
from portfwd.relay.containment import contained
from portfwd.relay.destination import Destination
from portfwd.relay.ends import (
    Action,
    Event,
    Flow,
    Mode,
    SessionOutcome,
    outcome_reason,
    resetting_side,
    step,
)
from portfwd.relay.half import Half, Hold
from portfwd.relay.loops import is_loop
from portfwd.relay.reasons import reason_of
from portfwd.relay.states import State, follow
from portfwd.streams.stream import Loss, Stream
from portfwd.values import Address, CloseReason, Side, as_inet, counted

# Access to an enum member calls its metaclass; access to a name of the module does not.
_ACCEPTED: Final = State.ACCEPTED
_HANDSHAKING: Final = State.HANDSHAKING
_PEEKING: Final = State.PEEKING
_DIALING: Final = State.DIALING
_RELAYING: Final = State.RELAYING
_CLOSING: Final = State.CLOSING
_CLOSED: Final = State.CLOSED
_LOST: Final = Hold.LOST
_END_DUE: Final = Event.END_DUE
_END_SENT: Final = Event.END_SENT
_NOTHING: Final = Action.NOTHING
_ASK_END: Final = Action.ASK_END
_ASK_LAST_END: Final = Action.ASK_LAST_END
_FINISH: Final = Action.FINISH
_NORMAL: Final = SessionOutcome.NORMAL
_CLIENT: Final = Side.CLIENT
_UPSTREAM: Final = Side.UPSTREAM


class Session(AdmittedSession):
    """A session; see the module."""

    _log = Logger()

    # Begin

    def begin(self) -> None:
        """Judge the client, then dial."""
        try:
            self._begin(self._client)
        except BaseException:
            self.broke(Failure())

    def _begin(self, half: Half) -> None:
        client = half.stream
        if client is None:  # pragma: no cover - sessions are made with one
            return
        client.side = _CLIENT
        client.own(self)
        if half.hold is not _LOST:
            half.hold = Hold.OWNED
        if self.state is not _ACCEPTED:
            return  # closed before the session could own it
        rule = self._rule
        if self.passages and is_loop(self.passages, rule.name):
            self._refuse_loop()
            return
        if not rule.access.empty and not self._has_access(client.address):
            return
        if rule.limits is not None and not self._admit(rule.limits, client.address):
            return
        if client.handshaking:
            self._shake_hands(client)
        else:
            self._proceed(client)

    def _proceed(self, client: Stream) -> None:
        """The client is admitted: dial."""
        self.state = follow(self.state, _DIALING)
        self._dial = dial = self._rule.dial(self, will_send=client.has_input(), client=client.tls)
        dial.start()

    def _refuse_loop(self) -> None:
        """The connection has passed this rule before: end all sessions since the last copy was made."""
        self._detail = "it has come through " + ", ".join(passage.rule for passage in self.passages)
        self._finish(CloseReason.LOOP)
        for passage in reversed(self.passages):
            passage.session.kill(CloseReason.LOOP)
            if passage.is_copy:
                return  # only the shadow ends, and not the session whose bytes it gets

    def dialled(self, stream: Stream, destination: Destination) -> None:
        """The upstream is connected: relay."""
        self._reached = destination
        try:
            self._dialled(stream)
        except BaseException:
            self.broke(Failure())

    def _dialled(self, stream: Stream) -> None:
        self._dial = None
        upstream, client, rule = self._upstream, self._client.stream, self._rule
        upstream.stream = stream
        stream.side = _UPSTREAM
        self._address = stream.address or self._address
        self.state = follow(self.state, _RELAYING)
        self._connected_at = self._touched = self._clock.seconds()
        if rule.log.wants_opened:
            self._write(rule.log.opened)
        stream.own(self)
        if upstream.hold is not _LOST:
            upstream.hold = Hold.OWNED
        if client is None or self.state is not _RELAYING:
            return  # closed before the session could own it
        if rule.options.tcp_info:
            client.keep_tcp_info()
            stream.keep_tcp_info()
        if self._client.hold is not _LOST:
            client.join(stream)
        stream.join(client)
        if upstream.flow.broken:  # the client was reset during the dial
            stream.discard()
        if rule.options.idle is not None:
            self._watch_silence()
        if self._client.hold is not _LOST:
            client.start()
        if self.state is _RELAYING:
            stream.start()

    @contained
    def dial_failed(self, problem: DialError, address: Address | None) -> None:
        """No upstream could be reached: reset the client."""
        self._dial = None
        self._address = address
        self._detail = str(problem)
        reason = reason_of(problem)
        if reason is CloseReason.LIMIT:
            self._refuse(reason)
        else:
            self._finish(reason)

    # Events of streams

    @contained
    def opened(self, stream: Stream) -> None:
        """The TLS handshake with the client has succeeded. Other streams are open from the beginning."""
        if self.state is _HANDSHAKING:
            self._stop_watching()
            self._rule.handshakes.left(self)
            self._dialled_at = self._clock.seconds()
            self._proceed(stream)

    def ended(self, stream: Stream) -> None:
        """A side sent its end: pass it on."""
        try:
            half, other = self._client, self._upstream
            if stream is not half.stream:
                half, other = other, half
            if self.state is _RELAYING:
                self._touched = self._clock.seconds()
                if self._ended_first is None:
                    self._ended_first = half.side
                self._perform(half, other, _END_DUE)
            else:
                self._tell_closing(half, Event.ENDED)
        except BaseException:
            self.broke(Failure())

    def end_sent(self, stream: Stream) -> None:
        """A flow has ended."""
        try:
            half, other = self._client, self._upstream
            if stream is not half.stream:
                half, other = other, half
            if self.state is _RELAYING:
                self._perform(half, other, _END_SENT)
            else:
                self._tell_closing(half, Event.END_SENT)
        except BaseException:
            self.broke(Failure())

    @contained
    def writing_failed(self, stream: Stream, detail: str) -> None:
        """A side accepts no more bytes: end the flow to it, and read the other to its end."""
        half = self._half(stream)
        if self.state is _RELAYING:
            if self._ended_first is None:
                self._ended_first = half.side
            self._detail = self._detail or detail
            self._perform(half, self._other(half), Event.REFUSED)
        elif self.state in (_CLOSING, _CLOSED):
            self._tell_closing(half, Event.REFUSED)
        elif self._is_to_be_delivered(stream):
            self._ended_first = _CLIENT
            self._detail = detail
            self._perform(half, self._other(half), Event.REFUSED)
        else:
            self._client_gone_early(detail)

    @contained
    def thrown_away(self, stream: Stream, count: int) -> None:
        """A side sent bytes that were discarded."""
        self._tell_closing(self._half(stream), Event.SPOKE)

    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """The connection of a side was closed."""
        half = self._client if stream is self._client.stream else self._upstream
        if half.hold is _LOST:
            return
        half.hold = _LOST
        try:
            if half.closing is None and self.state is _CLOSING:
                if self._client.hold is _LOST and self._upstream.hold is _LOST:
                    self._finish_if_gone()
            else:
                self._lost(half, how, detail)
        except BaseException:
            self.broke(Failure())

    def _lost(self, half: Half, how: Loss, detail: str) -> None:
        if half.closing is not None:
            half.closing.over()
            self._note_dropped(half)
            if (
                how is Loss.RESET
                and self.reason is not None
                and resetting_side(self.reason) is half.side.other
            ):
                self.reason = CloseReason.BOTH_RESET
            self._finish_if_gone()
            return
        self._detail = detail or self._detail
        if how in (Loss.FAILED, Loss.ABORTED):  # no abort was requested
            self._finish(CloseReason.INTERNAL)
        elif self.state is not _RELAYING:
            if how is Loss.EXHAUSTED:
                self._finish(CloseReason.RESOURCES)
            else:
                self._lost_early(half, how, detail)
        elif how is Loss.EXHAUSTED:
            self._perform(half, self._other(half), Event.EXHAUSTED)
        else:
            if self._ended_first is None:
                self._ended_first = half.side
            if how is Loss.ORDERLY:
                self._closed_in_order(half)
            else:
                self._perform(half, self._other(half), Event.RESET)

    def _lost_early(self, half: Half, how: Loss, detail: str) -> None:
        """The client is lost before the upstream is connected. Nothing that it sent was read."""
        self._client_gone_early(detail)

    def _closed_in_order(self, half: Half) -> None:
        """A transport without half-close ended, which ends both directions."""
        other = self._other(half)
        if not (half.flow.broken or other.flow.broken):
            self._detail = ""
        self._perform(half, other, Event.CLOSED)

    def _is_to_be_delivered(self, client: Stream) -> bool:
        """
        Whether the dial continues although the client was reset.

        As on a direct connection, the upstream gets the bytes that were sent before a reset.
        """
        return self.state in (_ACCEPTED, _DIALING) and (client.first_at is not None or client.has_unread())

    def _client_gone_early(self, detail: str) -> None:
        self._detail = detail
        self._ended_first = Side.CLIENT
        shaking = self.state is _HANDSHAKING
        self._finish(CloseReason.CLIENT_TLS_FAILED if shaking else CloseReason.CLIENT_GONE_EARLY)

    # Actions

    def _perform(self, half: Half, other: Half, event: Event) -> None:
        """Apply `event` of one side to the state machine and perform the action."""
        half.flow, other.flow, action, outcome, this, that = step(half.flow, other.flow, event)
        if action is _NOTHING:
            return
        if action is _ASK_END or action is _ASK_LAST_END:
            if other.stream is not None:
                other.stream.end(last=action is _ASK_LAST_END)
            return
        self._touched = self._clock.seconds()
        if action is not _FINISH:
            self._watch_silence(from_now=True)
            # Set the state before the stream discards, because it may report its end at once.
            if action is Action.DISCARD and self.state is _RELAYING and other.stream is not None:
                other.stream.discard()
        elif outcome is _NORMAL and this is Mode.CLOSE:
            self._finish_normal()
        elif outcome is not None:
            client, upstream = (this, that) if half is self._client else (that, this)
            reason = outcome_reason(outcome, half.side, self.ends)
            self._finish(reason, client=client, upstream=upstream)

    def _tell_closing(self, half: Half, event: Event) -> None:
        """Handle an event of a side that is being closed, or before there is another side."""
        if half.closing is not None:
            half.closing.tell(event)
        elif event is Event.ENDED:
            half.flow = Flow.ENDED

    # End

    @contained
    def cut(self, reason: CloseReason) -> None:
        """A limit was reached: deliver the received bytes, then reset both sides."""
        if self.state is _RELAYING:
            self._expire(reason)
        elif self.state is _CLOSING:
            self._bound_delivery()
        elif self.state is not _CLOSED:
            self._finish(reason)

    def _expire(self, reason: CloseReason, event: Event = Event.EXPIRED) -> None:
        _, _, _, _, client, upstream = step(self._client.flow, self._upstream.flow, event)
        self._finish(reason, client=client, upstream=upstream)
        self._bound_delivery()

    def _bound_delivery(self) -> None:
        """Reset if the received bytes were not delivered within `DELIVERY_LIMIT`."""
        if self.state is _CLOSING and self not in self._rule.delivering:
            self._waits_delivered = True
            self._rule.delivering.wait(self, self._was_not_delivered)

    @contained
    def _was_not_delivered(self) -> None:
        for half in (self._client, self._upstream):
            if half.closing is not None and half.hold is not _LOST:
                half.closing.tell(Event.STALLED)

    @contained
    def lasted(self) -> None:
        """The session has reached ``max-time``."""
        if self.state not in (_CLOSING, _CLOSED):
            self._detail = f"max-time={self._rule.options.max_time:g}s"
        self.cut(CloseReason.MAX_TIME)

    @contained
    def kill(self, reason: CloseReason) -> None:
        """Reset both sides now."""
        if self.state not in (_CLOSING, _CLOSED):
            self._finish(reason)
        elif self.state is _CLOSING:
            for half in (self._client, self._upstream):
                if half.stream is None or half.hold is _LOST:
                    continue
                if half.closing is not None:
                    half.closing.tell(Event.STALLED)
                else:
                    half.stream.abort()

    def _finish(self, reason: CloseReason, *, client: Mode = Mode.RESET, upstream: Mode = Mode.RESET) -> None:
        """Fix the reason and close both streams. The first reason counts."""
        if self.state in (_CLOSING, _CLOSED):
            return
        self._close_with(reason)
        closing = []
        for half, mode in ((self._client, client), (self._upstream, upstream)):
            if half.stream is not None and half.hold is not _LOST:
                half.closing = self._closing(half, half.stream, mode)
                closing.append(half)
        for half in closing:
            if half.closing is not None and half.hold is not _LOST:
                half.closing.start()
        self._finish_if_gone()

    def _closing(self, half: Half, stream: Stream, mode: Mode) -> Closing:
        flows = (half.flow, self._other(half).flow)
        return Closing(self._clock, stream, mode, flows, self._rule.options.linger, self.broke)

    def _finish_normal(self) -> None:
        """Both flows have ended: close both sides, and watch a side that does not close at once."""
        self._close_with(CloseReason.NORMAL)
        for half in (self._client, self._upstream):
            stream = half.stream
            if stream is not None and half.hold is not _LOST:
                stream.close()
                if not half.lost:
                    half.closing = self._closing(half, stream, Mode.CLOSE)
                    half.closing.watch()
        if self.state is _CLOSING:
            self._finish_if_gone()

    def _close_with(self, reason: CloseReason) -> None:
        """Fix the reason, and stop the timers and the dial."""
        if self.state is _HANDSHAKING:
            self._rule.handshakes.left(self)
        self.state = follow(self.state, _CLOSING)
        self.reason = reason
        self._stop_watching()
        dial, self._dial = self._dial, None
        if dial is not None:
            self._address = dial.tried
            dial.cancel()

    def _note_dropped(self, half: Half) -> None:
        """The number of unacknowledged bytes of a side that was reset because of them, as text."""
        if half.closing is not None and half.closing.dropped:
            # Unix sockets count memory and not bytes.
            inet = half.stream is not None and as_inet(half.stream.address) is not None
            dropped = half.closing.dropped
            count = counted(dropped, "byte") if inet else "bytes"
            verb = "was" if inet and dropped == 1 else "were"
            text = f"{count} for the {half.side.value} {verb} not acknowledged"
            self._detail = f"{self._detail}; {text}" if self._detail else text

    def broke(self, failure: Failure) -> None:
        """An exception of portfwd's code: reset both sides, with the reason ``ID``."""
        log_failure(self._log, "{session!r} failed", failure, session=self)
        if self.state is _CLOSED:
            return
        self._detail = failure.getErrorMessage() or type(failure.value).__name__
        try:
            if self.state is not _CLOSING:
                self._close_with(CloseReason.INTERNAL)
        except BaseException:
            log_failure(self._log, "{session!r}: and its dial could not be cancelled", session=self)
        self.reason = CloseReason.INTERNAL
        for half in (self._client, self._upstream):
            if half.stream is None or half.hold is _LOST:
                continue
            if half.closing is not None:
                half.closing.over()
            half.closing = self._closing(half, half.stream, Mode.RESET)
            unowned = half.hold is Hold.NONE
            try:
                half.stream.abort()
            except BaseException:
                log_failure(self._log, "{session!r}: and a stream could not be aborted", session=self)
                half.hold = _LOST  # there is no other way left to end it
            if unowned:
                half.hold = _LOST  # it will not tell us
        self._finish_if_gone()

    def _finish_if_gone(self) -> None:
        client, upstream = self._client, self._upstream
        if (
            self.state is _CLOSING
            and (client.hold is _LOST or client.stream is None)
            and (upstream.hold is _LOST or upstream.stream is None)
        ):
            self.state = follow(_CLOSING, _CLOSED)
            self._tell_closed()
            self._release()
            if self._waits_delivered:
                self._rule.delivering.forget(self)
            if self._slots is not None or self._rule.counts_targets or self._counted_at is not None:
                self._leave()
            self._rule.left(self)
            self._closed()

    def _release(self) -> None:
        """Break reference cycles, so that the session is freed without the garbage collector."""
        for half in (self._client, self._upstream):
            half.closing = None
            if half.stream is not None:
                half.stream.unjoin()
