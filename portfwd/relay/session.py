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
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import (
    DialError,
)
from portfwd.limits.source_counts import source_of
from portfwd.relay.containment import contained
from portfwd.relay.destination import Destination
from portfwd.relay.dial import Dial
from portfwd.relay.direct import DirectDatagramDial, DirectDial
from portfwd.relay.farewell import Farewell, Way
from portfwd.relay.half import Half, after_reset, silence_limit
from portfwd.relay.places import Places
from portfwd.relay.reasons import RESET, reason_of
from portfwd.relay.states import State, follow
from portfwd.rules.model import OnDeny
from portfwd.streams.datagram_opening import drops
from portfwd.streams.stream import Loss, Stream
from portfwd.values import (
    REFUSALS,
    Address,
    CloseReason,
    FlowSummary,
    InetAddress,
    SessionSummary,
    Side,
)

if TYPE_CHECKING:
    from portfwd.limits.admission import Admission
    from portfwd.relay.live import LiveRule

# An attribute of an enum's class takes a call of its metaclass; a name of the module does not.
_ACCEPTED: Final = State.ACCEPTED
_HANDSHAKING: Final = State.HANDSHAKING
_PEEKING: Final = State.PEEKING
_DIALING: Final = State.DIALING
_RELAYING: Final = State.RELAYING
_CLOSING: Final = State.CLOSING
_CLOSED: Final = State.CLOSED
_CLIENT: Final = Side.CLIENT
_UPSTREAM: Final = Side.UPSTREAM

#: Seconds by which a timer may come early, or a sum of seconds be wrong.
_EARLY: Final = 0.001


class Session:
    """
    One client and, once dialled, one upstream.

    :ivar id: its number in this process.
    :ivar state: see `portfwd.relay.states`.
    :ivar reason: the close reason, once it is fixed.
    """

    _log = Logger()
    # Of the class: most sessions have no limits, and pay nothing for them.
    _places: Places | None = None
    _reached: Destination | None = None
    _has_target = True

    def __init__(self, number: int, rule: LiveRule, client: Stream, closed: Callable[[], None]) -> None:
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
        self._dial: Dial | DirectDial | DirectDatagramDial | None = None
        self._silence: IDelayedCall | None = None
        self._waits_half_closed = False
        self._announced: Address | None = None
        self._announced_local: Address | None = None

    def __repr__(self) -> str:
        client = self._client.stream
        way = f"{client.address if client else '-'} -> {self._address or '-'}"
        reason = f" {self.reason}" if self.reason is not None else ""
        return f"<Session {self.id} {self._rule.name} {way} {self.state.value}{reason}>"

    @property
    def streams(self) -> tuple[Stream | None, Stream | None]:
        """The client's and the upstream's; None where there is none."""
        return self._client.stream, self._upstream.stream

    def _half(self, stream: Stream) -> Half:
        return self._client if stream is self._client.stream else self._upstream

    def _other(self, half: Half) -> Half:
        return self._upstream if half is self._client else self._client

    # Coming in

    def begin(self) -> None:
        """Judge the client, then dial."""
        try:
            self._begin(self._client)
        except Exception:
            self.broke(Failure())

    def _begin(self, half: Half) -> None:
        client = half.stream
        if client is None:  # pragma: no cover - sessions are made with one
            return
        client.side = _CLIENT
        client.own(self)
        half.owned = True
        if self.state is not _ACCEPTED:
            return  # lost before it could be owned
        rule = self._rule
        if not rule.access.empty and isinstance(client.address, InetAddress):
            decision = rule.access.decide(client.address.host)
            if not decision.allowed:
                self._access_step = decision.step
                self._refuse(CloseReason.ACCESS)
                return
        if rule.limits is not None and not self._admit(rule.limits, client.address):
            return
        if client.handshaking:
            self._shake_hands(client)
        else:
            self._proceed(client)

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

    @contained
    def make_room(self, why: str) -> None:
        """The client has not finished its TLS handshake, and a newer one takes its place."""
        self._detail = why
        self._leave()
        # Not with FIN, for which it would have to be read for a while: its descriptor is wanted now.
        self._finish(CloseReason.LIMIT, client=Way.ABORT)

    @contained
    def _did_not_shake_hands(self, client: Stream, limit: float) -> None:
        self._silence = None
        self._detail = f"no TLS handshake within {limit:g} s: {client.handshaking}"
        self._ended_first = Side.CLIENT
        self._finish(CloseReason.CLIENT_TLS_TIMEOUT, client=Way.ABORT)

    def _admit(self, limits: Admission, address: Address | None) -> bool:
        """Whether the limits let a client in; else it is refused."""
        places = self._places = Places(limits)
        reached = "" if self._rule.learns_sources else places.come_from(address, self._accepted_at)
        if not reached and not places.has_room:
            self._rule.handshakes.drop_silent("a limit of sessions was reached")
        return self._is_within(reached or places.enter(self._accepted_at))

    def _is_within(self, reached: str) -> bool:
        """Whether no limit was `reached`; else the client is refused."""
        if reached:
            self._detail = reached
            self._refuse(CloseReason.LIMIT)
        return not reached

    def _leave(self) -> None:
        """Let others have the places that this session took; it has none from here on."""
        places, destination = self._places, self._reached
        self._places = None
        if places is not None:
            places.leave(self._clock.seconds())
        if destination is not None and self._has_target and self._rule.counts_targets:
            self._has_target = False
            destination.give_back()

    def _proceed(self, client: Stream) -> None:
        """The client may come in: dial."""
        self.state = follow(self.state, _DIALING)
        self._dial = dial = self._rule.dial(self, will_send=client.has_input())
        dial.start()

    def _refuse(self, reason: CloseReason) -> None:
        # Now, and not when it is gone: a flood of those who are refused must not keep others out.
        self._leave()
        gentle = reason in REFUSALS and self._rule.options.on_deny is OnDeny.FIN
        self._finish(reason, client=Way.END_AND_DISCARD if gentle else Way.ABORT)

    def dialled(self, stream: Stream, destination: Destination) -> None:
        """The upstream is there: relay."""
        self._reached = destination
        try:
            self._dialled(stream)
        except Exception:
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
        upstream.owned = True
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
            self._finish(reason, client=Way.ABORT)

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
            half.ended = True
            if half.farewell is not None:
                half.farewell.ended()
                return
            if self.state is not _RELAYING:
                return
            self._touched = self._clock.seconds()
            if self._ended_first is None:
                self._ended_first = half.side
            if half.flow_broken or other.stream is None:
                self._flow_done(half, other)
            else:
                other.end_asked = True
                other.stream.end(last=other.flow_done and not other.flow_broken)
        except Exception:
            self.broke(Failure())

    def end_sent(self, stream: Stream) -> None:
        """One flow is done."""
        try:
            half, other = self._client, self._upstream
            if stream is not half.stream:
                half, other = other, half
            if half.farewell is not None:
                half.farewell.end_sent()
            elif self.state is _RELAYING:
                self._flow_done(other, half)
        except Exception:
            self.broke(Failure())

    def _flow_done(self, half: Half, other: Half) -> None:
        if half.flow_done:
            return
        half.flow_done = True
        self._touched = self._clock.seconds()
        if not other.flow_done:
            self._watch_silence(from_now=True)
        elif half.flow_broken or other.flow_broken:
            self._finish_broken()
        else:
            self._finish_normal()

    @contained
    def writing_failed(self, stream: Stream) -> None:
        """One side takes no more: its flow is over, the other is read to its end."""
        half = self._half(stream)
        if half.farewell is not None:
            return
        if self.state in (_ACCEPTED, _HANDSHAKING, _PEEKING, _DIALING):
            self._client_gone_early("the client reset the connection")
            return
        if self.state is not _RELAYING:
            return
        source = self._other(half)
        if source.flow_done:
            # Its end was out already. What this side sent before it died is still to be delivered.
            source.flow_broken = True
            self._watch_silence()
            return
        source.flow_broken = True
        if self._ended_first is None:
            self._ended_first = half.side
        # Over before the stream is asked to discard: it may tell of its end at once.
        self._flow_done(source, half)
        if self.state is _RELAYING and source.stream is not None:
            source.stream.discard()

    def _finish_broken(self) -> None:
        # Both flows are over, at least one because a side takes no more.
        if self._client.flow_broken and self._upstream.flow_broken:
            self._finish(CloseReason.BOTH_RESET, client=Way.ABORT, upstream=Way.ABORT)
        else:
            self._finish_reset(self._upstream if self._client.flow_broken else self._client)

    def _finish_reset(self, gone: Half) -> None:
        client, upstream = after_reset(gone, self._upstream)
        self._finish(RESET[gone.side], client=client, upstream=upstream)

    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """One side's connection is gone."""
        half = self._client if stream is self._client.stream else self._upstream
        if half.lost:
            return
        half.lost = True
        try:
            if half.farewell is None and self.state is _CLOSING:
                if self._client.lost and self._upstream.lost:
                    self._finish_if_gone()
            else:
                self._lost(half, how, detail)
        except Exception:
            self.broke(Failure())

    def _lost(self, half: Half, how: Loss, detail: str) -> None:
        if half.farewell is not None:
            half.farewell.over()
            resets = (CloseReason.CLIENT_RESET, CloseReason.UPSTREAM_RESET)
            if how is Loss.RESET and self.reason in resets and self.reason is not RESET[half.side]:
                self.reason = CloseReason.BOTH_RESET
            self._finish_if_gone()
            return
        self._detail = detail
        if how in (Loss.FAILED, Loss.ABORTED):  # nobody asked for an abort
            self._finish(CloseReason.INTERNAL, client=Way.ABORT, upstream=Way.ABORT)
        elif how is Loss.EXHAUSTED:
            self._finish(CloseReason.RESOURCES, client=Way.ABORT, upstream=Way.ABORT)
        elif self.state is not _RELAYING:
            self._client_gone_early(detail)
        else:
            if self._ended_first is None:
                self._ended_first = half.side
            if how is Loss.ORDERLY:
                self._closed_in_order(half)
            else:
                self._finish_reset(half)

    def _closed_in_order(self, half: Half) -> None:
        # A transport without half-close: its end is the end of both directions.
        self._detail = ""
        half.flow_done = True
        if self._client.flow_broken or self._upstream.flow_broken:
            self._finish_broken()
        elif half is self._client:
            self._finish(CloseReason.NORMAL, upstream=Way.END_AND_DISCARD)
        else:
            self._finish(CloseReason.NORMAL, client=Way.END_AND_DISCARD)

    def _client_gone_early(self, detail: str) -> None:
        self._detail = detail
        self._ended_first = Side.CLIENT
        shaking = self.state is _HANDSHAKING
        reason = CloseReason.CLIENT_TLS_FAILED if shaking else CloseReason.CLIENT_GONE_EARLY
        self._finish(reason, client=Way.ABORT)

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
        limit, _ = silence_limit(self._rule.options, self._client, self._upstream)
        if from_now and limit == self._rule.half_closed.seconds:
            self._waits_half_closed = True
            self._rule.half_closed.wait(self, self._was_silent)
            return
        if limit is not None and self.state is _RELAYING:
            self._silence = self._clock.callLater(max(0.0, limit - self._quiet()), self._was_silent)

    def _quiet(self) -> float:
        """Seconds since anything moved."""
        moved = [half.stream.moved_at for half in (self._client, self._upstream) if half.stream is not None]
        return self._clock.seconds() - max(self._touched, *moved)

    def silent_for(self) -> float:
        """Seconds since anything moved."""
        return self._quiet()

    @contained
    def _was_silent(self) -> None:
        self._waits_half_closed = False
        limit, reason = silence_limit(self._rule.options, self._client, self._upstream)
        if limit is None or reason is None or self.state is not _RELAYING:
            return
        if self._quiet() < limit - _EARLY:
            self._watch_silence()
            return
        if self._ended_first is None:
            self._ended_first = Side.CLIENT if reason is CloseReason.CLIENT_IDLE else Side.UPSTREAM
        self._finish(reason, client=Way.ABORT, upstream=Way.ABORT)

    # Going

    @contained
    def kill(self, reason: CloseReason) -> None:
        """Reset both sides now."""
        if self.state in (_ACCEPTED, _HANDSHAKING, _PEEKING, _DIALING, _RELAYING):
            self._finish(reason, client=Way.ABORT, upstream=Way.ABORT)
        elif self.state is _CLOSING:
            for half in (self._client, self._upstream):
                if half.stream is not None and not half.lost:
                    half.stream.abort()

    def _finish(self, reason: CloseReason, *, client: Way = Way.ABORT, upstream: Way = Way.ABORT) -> None:
        """Fix the reason and see both streams off; the first reason counts."""
        if self.state in (_CLOSING, _CLOSED):
            return
        self._close_with(reason)
        linger = self._rule.options.linger
        leaving = []
        for half, way in ((self._client, client), (self._upstream, upstream)):
            if half.stream is not None and not half.lost:
                half.farewell = Farewell(self._clock, half.stream, way, linger, self.broke)
                leaving.append(half)
        for half in leaving:
            if half.farewell is not None and not half.lost:
                half.farewell.start(end_asked=half.end_asked, peer_ended=half.ended)
        self._finish_if_gone()

    def _finish_normal(self) -> None:
        """Both flows are through: release both sides, and watch over one that is not gone at once."""
        self._close_with(CloseReason.NORMAL)
        for half in (self._client, self._upstream):
            stream = half.stream
            if stream is not None and not half.lost:
                stream.close()
                if not half.lost:
                    linger = self._rule.options.linger
                    half.farewell = Farewell(self._clock, stream, Way.CLOSE, linger, self.broke)
                    half.farewell.watch()
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

    def broke(self, failure: Failure) -> None:
        """Something of ours raised: both sides are reset, and the reason is ``ID``."""
        self._log.failure("{session!r} failed", failure, session=self)
        if self.state is _CLOSED:
            return
        self._detail = failure.getErrorMessage() or type(failure.value).__name__
        try:
            if self.state is not _CLOSING:
                self._close_with(CloseReason.INTERNAL)
        except Exception:
            self._log.failure("{session!r}: and its dial could not be cancelled", session=self)
        self.reason = CloseReason.INTERNAL
        for half in (self._client, self._upstream):
            if half.stream is None or half.lost:
                continue
            if half.farewell is not None:
                half.farewell.over()
            half.farewell = Farewell(self._clock, half.stream, Way.ABORT, 0.0, self.broke)
            try:
                half.stream.abort()
            except Exception:
                self._log.failure("{session!r}: and a stream could not be aborted", session=self)
                half.lost = True  # there is no other way left to end it
            if not half.owned:
                half.lost = True  # it will not tell us
        self._finish_if_gone()

    def _finish_if_gone(self) -> None:
        client, upstream = self._client, self._upstream
        if (
            self.state is _CLOSING
            and (client.lost or client.stream is None)
            and (upstream.lost or upstream.stream is None)
        ):
            self.state = follow(_CLOSING, _CLOSED)
            self._tell_closed()
            for stream in (client.stream, upstream.stream):
                if stream is not None:
                    stream.unjoin()
            if self._places is not None or self._rule.counts_targets:
                self._leave()
            self._rule.left(self)
            self._closed()

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
        except Exception:
            self._log.failure("a line of {session!r} could not be written", session=self)

    def _flow(self, source: Half, destination: Half) -> FlowSummary:
        if source.stream is None or destination.stream is None:
            return FlowSummary()
        try:
            return destination.stream.summary(source.stream)
        except Exception:
            self._log.failure("{session!r}: a flow could not be summed up", session=self)
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
            self._flow(self._client, self._upstream),
            self._flow(self._upstream, self._client),
            self.reason,
            self._ended_first,
            client.kind if client is not None and upstream is not None else "",
            self._detail,
            self._access_step,
            tuple((+self._drops()).items()) if self._rule.has_datagrams else (),
        )

    def _drops(self) -> Counter[str]:
        """Datagrams that were dropped, by cause; see `SessionSummary.dropped`."""
        return drops(self._client.stream, self._upstream.stream)
