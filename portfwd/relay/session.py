# -*- test-case-name: tests.relay.test_session -*-
"""
A session: one client connection and all it causes.

It decides: who may come in, what an end, a failed write, a reset or a silence
means for the other side, and which close reason tells it. No byte passes through
it: joined streams move them, and know backpressure.

The rules of the ends:

- An end travels when everything before it is written; the open direction goes
  on, and is only cut when it is silent for ``half-close``.
- A failed write ends only its own flow. The other is read to its end first,
  so an answer that came before an upstream closed is delivered whole.
- A reset is passed on as a reset, after what came before it.
- Whatever is not an orderly end resets the directions still open, so that a
  broken stream never looks complete. Refusals close with FIN (``on-deny``).

An exception of a stream, or of our own, ends this session with ``ID`` and no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import (
    DialError,
)
from portfwd.kernel.failures import log_failure
from portfwd.limits.source_counts import source_of
from portfwd.relay.closing import Closing
from portfwd.relay.containment import contained
from portfwd.relay.destination import Destination
from portfwd.relay.dial import Dial
from portfwd.relay.direct import DirectDatagramDial, DirectDial
from portfwd.relay.ends import (
    Action,
    Ends,
    Event,
    Flow,
    Mode,
    SessionOutcome,
    outcome_reason,
    resetting_side,
    step,
)
from portfwd.relay.half import Half, Hold
from portfwd.relay.loops import PassedSession, is_loop
from portfwd.relay.reasons import reason_of
from portfwd.relay.rule import RelayRule
from portfwd.relay.shared_dial import SharedDial
from portfwd.relay.silence import LOOKS, SLOW_AFTER, next_look, shrank, silence_limit, silence_reason
from portfwd.relay.slots import SessionSlots
from portfwd.relay.states import State, follow
from portfwd.rules.model import DATAGRAM_KINDS, OnDeny, Options
from portfwd.streams.datagrams.datagram_opening import drops
from portfwd.streams.stream import Loss, Stream, moved_by
from portfwd.values import (
    REFUSALS,
    Address,
    CloseReason,
    FailedAttempt,
    FlowSummary,
    InetAddress,
    SessionSummary,
    Side,
    UnixAddress,
    counted,
)

if TYPE_CHECKING:
    from portfwd.limits.admission import Admission
    from portfwd.limits.occupancy import TargetOccupancy

# An attribute of an enum's class takes a call of its metaclass; a name of the module does not.
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


class Session:
    """
    One client and, once dialled, one upstream.

    :ivar id: its number in this process.
    :ivar state: see `portfwd.relay.states`.
    :ivar reason: the close reason, once it is fixed.
    :ivar passages: see `portfwd.relay.loops`.
    :ivar attempts: attempts to reach an upstream that failed.
    """

    _log = Logger()
    # Of the class: most sessions have no limits, and pay nothing for them.
    _slots: SessionSlots | None = None
    _reached: Destination | None = None
    _has_target = True
    _counted_at: TargetOccupancy | None = None
    _left: tuple[int, int] | None = None
    _acknowledged_at = float("-inf")
    passages: Sequence[PassedSession] = ()
    attempts: Sequence[FailedAttempt] = ()

    def __init__(self, number: int, rule: RelayRule, client: Stream, closed: Callable[[], None]) -> None:
        """:param closed: called once, when all its sockets are gone."""
        now = rule.clock.seconds()
        self.id = number
        self.state = _ACCEPTED
        self.reason: CloseReason | None = None
        self._rule = rule
        self._clock = rule.clock
        self._closed = closed
        self._client = Half(_CLIENT)
        self._upstream = Half(_UPSTREAM)
        self._client.stream = client
        self._accepted_at = now
        self._opened_at = rule.wall_clock()
        self._dialled_at = now
        self._connected_at: float | None = None
        self._touched = now
        self._ended_first: Side | None = None
        self._address: Address | None = None
        self._detail = ""
        self._access_step = 0
        self._dial: Dial | DirectDial | DirectDatagramDial | SharedDial | None = None
        self._silence: IDelayedCall | None = None
        self._waits_half_closed = False
        self._announced: Address | None = None
        self._announced_local: Address | None = None

    def __repr__(self) -> str:
        client = self._client.stream
        path = f"{client.address if client else '-'} -> {self._address or '-'}"
        reason = f" {self.reason}" if self.reason is not None else ""
        return f"<Session {self.id} {self._rule.name} {path} {self.state.value}{reason}>"

    @property
    def streams(self) -> tuple[Stream | None, Stream | None]:
        """The client's and the upstream's; None where there is none."""
        return self._client.stream, self._upstream.stream

    def _half(self, stream: Stream) -> Half:
        return self._client if stream is self._client.stream else self._upstream

    def _other(self, half: Half) -> Half:
        return self._upstream if half is self._client else self._client

    # Coming in

    @property
    def client_address(self) -> Address | None:
        """Where the client comes from, as far as is known."""
        stream = self._client.stream
        return self._announced or (None if stream is None else stream.address)

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
            return  # lost before it could be owned
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

    def _has_access(self, address: Address | None) -> bool:
        """Whether the access list lets in a client of a socket of ours; else it is refused."""
        access = self._rule.access
        if isinstance(address, InetAddress):
            decision = access.decide(address.host)
        elif isinstance(address, UnixAddress) or self._rule.rule.listen.kind in DATAGRAM_KINDS:
            # Only a sender of datagrams by a unix socket may have no address at all.
            decision = access.decide_unix()
        else:
            return True  # an endpoint whose clients have no address of these kinds
        if not decision.allowed:
            self._access_step = decision.step
            self._refuse(CloseReason.ACCESS)
        return decision.allowed

    def _shake_hands(self, client: Stream) -> None:
        """The client may come in when it has said who it is, in time."""
        rule = self._rule
        self.state = follow(_ACCEPTED, _HANDSHAKING)
        limit = rule.rule.listen.options.handshake_timeout
        self._silence = self._clock.callLater(limit, self._did_not_shake_hands, client, limit)
        # Behind a proxy that announces clients, its address is not theirs.
        rule.handshakes.arrived(self, "" if rule.learns_sources else source_of(client.address))

    @contained
    def began(self, stream: Stream) -> None:
        """The client's first TLS message is complete."""
        if self.state is _HANDSHAKING:
            self._rule.handshakes.began(self)

    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """Only sessions with filters have clients whose address a header says."""

    @contained
    def make_room(self, why: str) -> None:
        """The client has not finished its TLS handshake, and a newer one takes its place."""
        self._detail = why
        self._leave()
        # Not with FIN, for which it would have to be read for a while: its descriptor is wanted now.
        self._finish(CloseReason.LIMIT, client=Mode.RESET)

    @contained
    def _did_not_shake_hands(self, client: Stream, limit: float) -> None:
        self._silence = None
        self._detail = f"no TLS handshake within {limit:g} s: {client.handshaking}"
        self._ended_first = Side.CLIENT
        self._finish(CloseReason.CLIENT_TLS_TIMEOUT)

    def _admit(self, limits: Admission, address: Address | None) -> bool:
        """Whether the limits let a client in; else it is refused."""
        slots = self._slots = SessionSlots(limits)
        reached = "" if self._rule.learns_sources else slots.come_from(address, self._accepted_at)
        if not reached and not slots.has_room:
            self._rule.handshakes.drop_silent("a limit of sessions was reached")
        return self._is_within(reached or slots.enter(self._accepted_at))

    def _is_within(self, reached: str) -> bool:
        """Whether no limit was `reached`; else the client is refused."""
        if reached:
            self._detail = reached
            self._refuse(CloseReason.LIMIT)
        return not reached

    def count(self, limits: Admission | None, target: TargetOccupancy | None) -> None:
        """
        Count for limits that a reload has brought: this session is there, whatever they are.

        :param limits: None where none are left: what was counted is given back.
        :param target: what counts the sessions of the target that was reached; None for one without a limit.
        """
        client = self._client.stream
        if self.state in (_CLOSING, _CLOSED) or client is None:
            return
        if limits is not None:
            if self._slots is None:
                self._slots = SessionSlots(limits)
            self._slots.count(limits, self._announced or client.address, self._clock.seconds())
        elif self._slots is not None:
            self._slots.leave(self._clock.seconds())
            self._slots = None
        if target is not None and self._reached is not None:
            self._count_at(target, self._reached)

    def _count_at(self, target: TargetOccupancy, reached: Destination) -> None:
        before = self._counted_at
        if before is None and self._has_target and reached.is_counted:
            before = reached.occupancy
        if before is not target:
            if before is not None:
                self._has_target = False
                before.give_back()
            self._counted_at = target
            target.take()

    def _leave(self) -> None:
        """Let others have the places that this session took; it has none from here on."""
        slots, destination = self._slots, self._reached
        self._slots = None
        if slots is not None:
            slots.leave(self._clock.seconds())
        counted, self._counted_at = self._counted_at, None
        if counted is not None:
            counted.give_back()
        if destination is not None and self._has_target and self._rule.counts_targets:
            self._has_target = False
            destination.give_back()

    def _proceed(self, client: Stream) -> None:
        """The client may come in: dial."""
        self.state = follow(self.state, _DIALING)
        self._dial = dial = self._rule.dial(self, will_send=client.has_input(), client=client.tls)
        dial.start()

    def _refuse_loop(self) -> None:
        """The connection has been here before: end it in every session that it has come through."""
        self._detail = "it has come through " + ", ".join(passage.rule for passage in self.passages)
        self._finish(CloseReason.LOOP)
        for passage in reversed(self.passages):
            passage.session.kill(CloseReason.LOOP)

    def _refuse(self, reason: CloseReason) -> None:
        # Now, and not when it is gone: a flood of those who are refused must not keep others out.
        self._leave()
        gentle = reason in REFUSALS and self._rule.options.on_deny is OnDeny.FIN
        self._finish(reason, client=Mode.END_AND_READ if gentle else Mode.RESET)

    def dialled(self, stream: Stream, destination: Destination) -> None:
        """The upstream is there: relay."""
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
            return  # lost before it could be owned
        client.join(stream)
        stream.join(client)
        if rule.options.idle is not None:
            self._watch_silence()
        client.start()
        if self.state is _RELAYING:
            stream.start()

    @contained
    def dial_failed(self, problem: DialError, address: Address | None) -> None:
        """No upstream: the client is told by a reset."""
        self._dial = None
        self._address = address
        self._detail = str(problem)
        reason = reason_of(problem)
        if reason is CloseReason.LIMIT:
            self._refuse(reason)
        else:
            self._finish(reason)

    # What streams tell

    @contained
    def opened(self, stream: Stream) -> None:
        """The TLS handshake with the client is through; other streams are open before they are owned."""
        if self.state is _HANDSHAKING:
            self._stop_watching()
            self._rule.handshakes.left(self)
            self._dialled_at = self._clock.seconds()
            self._proceed(stream)

    def ended(self, stream: Stream) -> None:
        """One side sent its end: it travels on."""
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
        """One flow is done."""
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
        """One side takes no more: its flow is over, the other is read to its end."""
        half = self._half(stream)
        if self.state is _RELAYING:
            if self._ended_first is None:
                self._ended_first = half.side
            self._detail = self._detail or detail
            self._perform(half, self._other(half), Event.REFUSED)
        elif self.state in (_CLOSING, _CLOSED):
            self._tell_closing(half, Event.REFUSED)
        else:
            self._client_gone_early(detail)

    @contained
    def thrown_away(self, stream: Stream, count: int) -> None:
        """One side sent bytes that nobody takes."""
        self._tell_closing(self._half(stream), Event.SPOKE)

    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """One side's connection is gone."""
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
        if how in (Loss.FAILED, Loss.ABORTED):  # nobody asked for an abort
            self._finish(CloseReason.INTERNAL)
        elif self.state is not _RELAYING:
            if how is Loss.EXHAUSTED:
                self._finish(CloseReason.RESOURCES)
            else:
                self._client_gone_early(detail)
        elif how is Loss.EXHAUSTED:
            self._perform(half, self._other(half), Event.EXHAUSTED)
        else:
            if self._ended_first is None:
                self._ended_first = half.side
            if how is Loss.ORDERLY:
                self._closed_in_order(half)
            else:
                self._perform(half, self._other(half), Event.RESET)

    def _closed_in_order(self, half: Half) -> None:
        """A transport without half-close: its end is the end of both directions."""
        other = self._other(half)
        if not (half.flow.broken or other.flow.broken):
            self._detail = ""
        self._perform(half, other, Event.CLOSED)

    def _client_gone_early(self, detail: str) -> None:
        self._detail = detail
        self._ended_first = Side.CLIENT
        shaking = self.state is _HANDSHAKING
        self._finish(CloseReason.CLIENT_TLS_FAILED if shaking else CloseReason.CLIENT_GONE_EARLY)

    # What follows

    @property
    def ends(self) -> Ends:
        """How far both flows are."""
        return Ends(self._client.flow, self._upstream.flow)

    def _perform(self, half: Half, other: Half, event: Event) -> None:
        """Do what `event` of one side means for both."""
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
            # The state is fixed before the stream is asked to discard: it may tell of its end at once.
            if action is Action.DISCARD and self.state is _RELAYING and other.stream is not None:
                other.stream.discard()
        elif outcome is _NORMAL and this is Mode.CLOSE:
            self._finish_normal()
        elif outcome is not None:
            client, upstream = (this, that) if half is self._client else (that, this)
            reason = outcome_reason(outcome, half.side, self.ends)
            self._finish(reason, client=client, upstream=upstream)

    def _tell_closing(self, half: Half, event: Event) -> None:
        """Something happened at a side while it is closed, or before there was another side."""
        if half.closing is not None:
            half.closing.tell(event)
        elif event is Event.ENDED:
            half.flow = Flow.ENDED

    # Silence

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
        """When anything moved last, or, with `own`, when a stream read or wrote; reactor's seconds."""
        moved = [half.stream.moved_at for half in (self._client, self._upstream) if half.stream is not None]
        return max(moved) if own else max(self._touched, *moved)

    def _quiet(self) -> float:
        """Seconds since anything moved."""
        return self._clock.seconds() - self._moved_at()

    def silent_for(self) -> float:
        """Seconds since anything moved."""
        return self._quiet()

    def undelivered(self) -> tuple[int, int]:
        """Bytes for the client and for the upstream that are not acknowledged, as far as known."""
        client, upstream = self._client.stream, self._upstream.stream
        return (
            (client.undelivered() or 0) if client is not None else 0,
            (upstream.undelivered() or 0) if upstream is not None else 0,
        )

    @contained
    def _look(self) -> None:
        """See whether the session is silent, in the kernel's queues too."""
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
            # The reader may take its time; half-close begins when it has everything.
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
            half.side: half.stream.moved_at
            for half in (self._client, self._upstream)
            if half.stream is not None and half.stream.first_at is not None
        }
        reason, why = silence_reason(options, ends, spoke, undelivered=undelivered)
        if self._ended_first is None:
            self._ended_first = Side.CLIENT if reason is CloseReason.CLIENT_IDLE else Side.UPSTREAM
        self._detail = self._detail or why
        # Where a side is gone, the limit was linger: the other has had its time.
        self._expire(reason, Event.STALLED if self.ends.broken else Event.EXPIRED)

    # Going

    @contained
    def cut(self, reason: CloseReason) -> None:
        """A limit is reached: deliver what was received, then reset both sides."""
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
        """What was received is delivered within `DELIVERY_LIMIT`, or not at all."""
        if self.state is _CLOSING and self not in self._rule.delivering:
            self._rule.delivering.wait(self, self._was_not_delivered)

    @contained
    def _was_not_delivered(self) -> None:
        for half in (self._client, self._upstream):
            if half.closing is not None and half.hold is not _LOST:
                half.closing.tell(Event.STALLED)

    @contained
    def lasted(self) -> None:
        """It is as old as ``max-time`` lets it become."""
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
                if half.stream is not None and half.hold is not _LOST:
                    half.stream.abort()

    def _finish(self, reason: CloseReason, *, client: Mode = Mode.RESET, upstream: Mode = Mode.RESET) -> None:
        """Fix the reason and close both streams; the first reason counts."""
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
        """Both flows are through: release both sides, and watch over one that is not gone at once."""
        self._close_with(CloseReason.NORMAL)
        for half in (self._client, self._upstream):
            stream = half.stream
            if stream is not None and not half.lost:
                stream.close()
                if not half.lost:
                    half.closing = self._closing(half, stream, Mode.CLOSE)
                    half.closing.watch()
        if self.state is _CLOSING:
            self._finish_if_gone()

    def _close_with(self, reason: CloseReason) -> None:
        """Fix the reason; no more silence, no more dial."""
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
        """Say how much was written to a side and never acknowledged, if it was reset for that."""
        if half.closing is not None and half.closing.dropped:
            # A unix socket counts memory, not bytes.
            inet = half.stream is not None and isinstance(half.stream.address, InetAddress)
            dropped = half.closing.dropped
            count = counted(dropped, "byte") if inet else "bytes"
            verb = "was" if inet and dropped == 1 else "were"
            text = f"{count} for the {half.side.value} {verb} not acknowledged"
            self._detail = f"{self._detail}; {text}" if self._detail else text

    def broke(self, failure: Failure) -> None:
        """Something of ours raised: both sides are reset, and the reason is ``ID``."""
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
            self._rule.delivering.forget(self)
            if self._slots is not None or self._rule.counts_targets or self._counted_at is not None:
                self._leave()
            self._rule.left(self)
            self._closed()

    def _release(self) -> None:
        """Let go of all that knows this session: it must not wait for the garbage collector."""
        for half in (self._client, self._upstream):
            half.closing = None
            if half.stream is not None:
                half.stream.unjoin()

    # What it tells

    def _tell_closed(self) -> None:
        """The session is over, and its figures are final."""
        rule = self._rule
        if rule.tally is not None:
            self._write(self._count)
        elif rule.log.wants_closed:
            self._write(rule.log.closed)

    def _count(self, summary: SessionSummary) -> None:
        """Add up what it did, and write its line."""
        rule = self._rule
        if rule.tally is not None:
            rule.tally.closed(summary, self.target)
        if rule.log.wants_closed:
            rule.log.closed(summary)

    def _write(self, write: Callable[[SessionSummary], None]) -> None:
        """Hand a summary to the log; what becomes of the line must not decide what becomes of the session."""
        try:
            write(self.summary())
        except BaseException:
            log_failure(self._log, "a line of {session!r} could not be written", session=self)

    def _flow(self, source: Half, destination: Half) -> FlowSummary:
        if source.stream is None or destination.stream is None:
            return FlowSummary()
        try:
            return destination.stream.summary(source.stream)
        except BaseException:
            log_failure(self._log, "{session!r}: a flow could not be summed up", session=self)
            return FlowSummary()

    @property
    def target(self) -> str:
        """The target that was reached, as the file writes it; empty for none."""
        return "" if self._reached is None else self._reached.label

    def flows(self) -> tuple[FlowSummary, FlowSummary]:
        """What was moved so far, to the upstream and to the client."""
        return self._flow(self._client, self._upstream), self._flow(self._upstream, self._client)

    def summary(self) -> SessionSummary:
        """The session as its closing line tells it, so far."""
        client, upstream = self._client.stream, self._upstream.stream
        connected = self._connected_at
        first = upstream.first_at if upstream is not None else None
        to_upstream, to_client = self.flows()
        # By position: names cost as much as the values, and this is done for every line.
        return SessionSummary(
            self.id,
            self._rule.name,
            self._rule.written,
            self._announced or (client.address if client is not None else None),
            self._announced_local or (client.local if client is not None else None),
            (upstream.address if upstream is not None else None) or self._address,  # it may have moved
            self._opened_at,
            None if connected is None else connected - self._dialled_at,
            None if first is None or connected is None else max(0.0, first - connected),
            self._clock.seconds() - self._accepted_at,
            to_upstream,
            to_client,
            self.reason,
            self._ended_first,
            moved_by(client.kind, to_upstream, to_client) if client is not None else "",
            self._detail,
            self._access_step,
            tuple((+self.drops()).items()) if self._rule.has_datagrams else (),
            0,
            client.tls if client is not None else None,
            upstream.tls if upstream is not None else None,
            self.attempts,
            (),
            self._rule.plan,
        )

    def drops(self) -> Counter[str]:
        """Datagrams that were dropped so far, by cause; see `SessionSummary.dropped`."""
        return drops(self._client.stream, self._upstream.stream)
