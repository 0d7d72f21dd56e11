# -*- test-case-name: tests.relay.test_filtered -*-
"""
The session of a rule with filters. It performs the effects of the chain.

The session passes bytes, ends, the result of the dial, timers and results to the chain
(`portfwd.filters.chain.chain`) and performs the effects that it returns: write, dial, judge, stop reading,
finish. A direction that no filter needs any more is relayed by the streams again, which may splice it.

Two base classes have parts of it: `portfwd.relay.announced` judges an announced client, and
`portfwd.relay.awaiting_session` waits for results. `portfwd.relay.secured` adds TLS that a filter starts.

If no factory has made a filter for the client, this is a plain session.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import DialError
from portfwd.filters.api import Connection
from portfwd.filters.chain import effects
from portfwd.filters.chain.chain import make_chain
from portfwd.limits.source_counts import source_of
from portfwd.relay.awaiting_session import ACTIVE, AwaitingSession
from portfwd.relay.containment import contained
from portfwd.relay.ends import Event, Flow, Mode
from portfwd.relay.filter_log import FilterLog, log_trouble
from portfwd.relay.half import Half
from portfwd.relay.reasons import reason_of
from portfwd.relay.rule import RelayRule
from portfwd.relay.states import State, follow
from portfwd.streams.stream import Loss, Paced, Stream, Watched
from portfwd.values import (
    TO_CLIENT,
    TO_UPSTREAM,
    Address,
    CloseReason,
    Direction,
    FlowSummary,
    Note,
    SessionSummary,
    Side,
    as_unix,
)

#: Effects that a session performs in one turn: with writes some 3 ms. The others wait for the next turn.
MOST_EFFECTS: Final = 512


class FilteredSession(AwaitingSession):
    """
    A session whose bytes pass through a chain.

    :ivar chain: None if no filter was made for the client.
    """

    _log = Logger()
    # How the client was lost during the dial, if its bytes are still to be delivered.
    _early_loss: tuple[Loss, str] | None = None

    def __init__(self, number: int, rule: RelayRule, client: Stream, closed: Callable[[], None]) -> None:
        """As `Session`."""
        super().__init__(number, rule, client, closed)
        self._notes: dict[str, Note] = {}
        # Directions whose bytes pass without the chain: all bytes, or a number that the streams count.
        self._unseen: set[Direction] = set()
        self._counted: set[Direction] = set()
        self._stopped: set[Direction] = set()
        # Sides that may still send although a filter has ended their direction.
        self._cut: set[Side] = set()
        self._timers: dict[int, IDelayedCall] = {}
        self._leaving: Half | None = None
        self._to_do: deque[effects.Effect] = deque()
        self._doing = False
        # The chain has more work: later events wait, and nothing is read.
        self._busy = False
        self._asked: deque[Callable[[], None]] = deque()
        self._problem: DialError | None = None

    # Streams and directions

    def _source(self, direction: Direction) -> Half:
        return self._client if direction is TO_UPSTREAM else self._upstream

    def _destination(self, direction: Direction) -> Half:
        return self._upstream if direction is TO_UPSTREAM else self._client

    def _direction(self, stream: Stream) -> Direction:
        return TO_UPSTREAM if stream is self._client.stream else TO_CLIENT

    # Events

    def _proceed(self, client: Stream) -> None:
        rule = self._rule
        connection = Connection(
            self.id,
            rule.name,
            FilterLog(rule.filter_log, rule.name, self.id),
            client=client.address,
            local=client.local,
            network="udp" if rule.datagrams else "unix" if as_unix(client.address) else "tcp",
            tls=client.tls,
            verify=self._verify,
            wake=self._woken,
        )
        self._notes = connection.notes
        self.chain = chain = make_chain(
            rule.filters, connection, datagrams=rule.datagrams, find_target=rule.find_target
        )
        if chain is None:
            if self._is_welcome():
                super()._proceed(client)
            return
        self.state = follow(self.state, State.PEEKING)
        watched = cast(Watched, client)
        watched.watch(self)
        self._ask(chain.open)
        if self.state in ACTIVE:
            watched.start()

    def _dialled(self, stream: Stream) -> None:
        chain, client = self.chain, self._client.stream
        if chain is None or client is None:
            super()._dialled(stream)
            return
        watched = cast(Watched, stream)
        stream.side = Side.UPSTREAM  # before it is watched: a bandwidth limit needs the source of the bytes
        watched.watch(self, cast(Watched, client))
        # The first bytes of filters come before those of the upstream.
        watched.hold()
        super()._dialled(stream)
        if self.state is State.RELAYING:
            introduced = self._reached is not None and self._reached.tls is not None
            self._ask(chain.connected, self._address, introduced)
        if self._early_loss is not None and self.state is State.RELAYING:
            self._lost(self._client, *self._early_loss)
        if self.state is State.RELAYING and TO_CLIENT not in self._stopped and not self._busy:
            watched.go_on()

    def _lost(self, half: Half, how: Loss, detail: str) -> None:
        if self._busy and half.closing is None:
            # Effects that are put off belong to bytes that came before the loss.
            self._asked.append(partial(self._lost, half, how, detail))
        else:
            super()._lost(half, how, detail)

    def _lost_early(self, half: Half, how: Loss, detail: str) -> None:
        """Dial on if the client has sent bytes: the chain keeps them."""
        if half.stream is None or self.chain is None or not self._is_to_be_delivered(half.stream):
            super()._lost_early(half, how, detail)
            return
        self._ended_first = Side.CLIENT
        self._early_loss = how, detail

    @contained
    def dial_failed(self, problem: DialError, address: Address | None) -> None:
        """No upstream could be reached: filters may reply to the client."""
        if self.chain is None:
            super().dial_failed(problem, address)
            return
        self._dial = None
        self._address = address
        self._problem = problem
        self._ask(self.chain.dial_failed, problem)

    @contained
    def shown(self, stream: Stream, data: bytes) -> None:
        """Pass received bytes to the chain."""
        if self.chain is not None and self.state in ACTIVE:
            self._ask(self.chain.received, self._direction(stream), data)

    @contained
    def passed(self, stream: Stream, count: int) -> None:
        """Count bytes that passed without the chain."""
        if self.chain is not None and self.state in ACTIVE:
            direction = self._direction(stream)
            self._counted.discard(direction)
            self._ask(self.chain.passed, direction, count)

    def ended(self, stream: Stream) -> None:
        """A side sent its end: pass it to the chain, which sends it after the bytes of its filters."""
        chain, direction = self.chain, self._direction(stream)
        half = self._source(direction)
        watched = chain is not None and self.state in ACTIVE
        if chain is None or not watched or direction in self._unseen:
            super().ended(stream)
            return
        try:
            self._cut.discard(half.side)
            self._touched = self._clock.seconds()
            if self._ended_first is None:
                self._ended_first = half.side
            self._perform(half, self._other(half), Event.ENDED)
            if not half.flow.broken:
                self._ask(chain.ended, direction)
        except BaseException:
            self.broke(Failure())

    def _closed_in_order(self, half: Half) -> None:
        """
        A transport without half-close has ended.

        The other side ends after the bytes that filters keep of this one were written to it.
        """
        direction = TO_UPSTREAM if half is self._client else TO_CLIENT
        chain, through = self.chain, half.flow.over or half.flow.end_asked or direction in self._unseen
        if chain is None or through:
            super()._closed_in_order(half)
            return
        self._detail = ""
        self._leaving = half
        if not half.flow.source_ended:
            self._perform(half, self._other(half), Event.ENDED)
            self._ask(chain.ended, direction)

    @contained
    def _due(self, key: int) -> None:
        self._timers.pop(key, None)
        if self.chain is not None:
            self._ask(self.chain.due, key)

    def _close_with(self, reason: CloseReason) -> None:
        super()._close_with(reason)
        self._to_do.clear()
        self._asked.clear()
        self._busy = False
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        self._tell_nothing()

    def _flow(self, source: Half, destination: Half) -> FlowSummary:
        client = self._client.stream
        if source.stream is None and destination is self._client and client is not None and self.chain:
            # There is no upstream, but a filter may have answered.
            return cast(Watched, client).answered()
        return super()._flow(source, destination)

    def summary(self) -> SessionSummary:
        """See `Session.summary`; with the notes of filters."""
        summary = super().summary()
        return summary._replace(notes=tuple(self._notes.items())) if self._notes else summary

    def drops(self) -> Counter[str]:
        """See `Session.drops`; including those of filters."""
        drops = super().drops()
        if self.chain is not None:
            for stage in self.chain.stages:
                drops[stage.name] += stage.dropped
            drops["queue"] += self.chain.dropped
        return drops

    def _tell_closed(self) -> None:
        super()._tell_closed()
        if self.chain is not None:
            for trouble in self.chain.closed(self.summary()):
                self._done_by(trouble)
            self._rule.context.sinks.closed(self.id)

    def _release(self) -> None:
        super()._release()
        self.chain = None

    # Effects

    def _ask(self, event: Callable[..., Sequence[effects.Effect]], *arguments: Any) -> None:
        """
        Call `event`, a method of the chain, and perform its effects.

        Bytes that have passed without the chain are reported first.
        """
        if self._busy:
            self._asked.append(partial(self._ask, event, *arguments))
            return
        chain = self.chain
        if self._counted and chain is not None:
            counted, self._counted = self._counted, set()
            for direction in counted:
                stream = cast(Watched, self._source(direction).stream)
                self._do(chain.passed(direction, stream.settle()))
        self._do(event(*arguments))

    def _do(self, wanted: Sequence[effects.Effect]) -> None:
        """
        Perform effects of the chain in order.

        Effects of calls meanwhile are appended.
        """
        self._to_do.extend(wanted)
        if wanted and type(wanted[-1]) is effects.GoOn:
            self._put_off()
        if self._doing:
            return
        self._doing = True
        left = MOST_EFFECTS
        try:
            while self._to_do and self.state in ACTIVE:
                if not left:
                    self._let_others()
                    break
                left -= 1
                self._done_by(self._to_do.popleft())
        finally:
            self._doing = False

    def _put_off(self) -> None:
        self._busy = True
        self._hold_all()

    def _let_others(self, effect: effects.GoOn | None = None) -> None:
        """Continue after a turn of other sessions."""
        self._put_off()
        if 0 not in self._timers:  # keys of the chain start at 1
            self._timers[0] = self._clock.callLater(0, self._carry_on)

    @contained
    def _carry_on(self) -> None:
        """Perform the effects that are left, continue the chain, then pass it the events since."""
        self._timers.pop(0, None)
        self._busy = False
        self._do(())
        if not self._busy and self.chain is not None and self.state in ACTIVE:
            self._do(self.chain.go_on())
        while self._asked and not self._busy:
            self._asked.popleft()()
        if not self._busy and self.state in ACTIVE:
            for direction in Direction:
                self._read_again(direction)

    def _hold_all(self) -> None:
        for half in (self._client, self._upstream):
            if half.stream is not None and not half.lost:
                cast(Watched, half.stream).hold()

    def _read_again(self, direction: Direction) -> None:
        half = self._source(direction)
        stream = half.stream
        if stream is not None and not half.lost and direction not in self._stopped and not self._busy:
            cast(Watched, stream).go_on()

    def _done_by(self, effect: effects.Effect) -> None:
        _ACTIONS[type(effect)](self, effect)

    def _write_to(self, effect: effects.Write) -> None:
        half = self._destination(effect.direction)
        if half.stream is not None and not half.lost and not self._other(half).flow.end_asked:
            cast(Watched, half.stream).write(effect.data, answer=effect.answer)

    def _end(self, effect: effects.SendEnd) -> None:
        source = self._source(effect.direction)
        if source is self._leaving:
            super()._closed_in_order(source)
        else:
            if not source.flow.source_ended:
                self._cut.add(source.side)
            self._perform(source, self._destination(effect.direction), Event.END_DUE)

    def _finish_normal(self) -> None:
        """Read a side until it ends after a filter has ended its direction."""
        if not self._cut:
            super()._finish_normal()
            return
        for half in (self._client, self._upstream):
            if half.side in self._cut:
                half.flow = Flow.OPEN
        client, upstream = (Mode.END_AND_READ if side in self._cut else Mode.CLOSE for side in Side)
        self._finish(CloseReason.NORMAL, client=client, upstream=upstream)

    def _dial_now(self, effect: effects.StartDial) -> None:
        if not self._is_welcome():
            return
        self.state = follow(self.state, State.DIALING)
        self._dialled_at = self._clock.seconds()
        stream = self._client.stream
        source = source_of(self._announced or (None if stream is None else stream.address))
        introduction = None if self.chain is None else self.chain.introduction
        try:
            dial = self._rule.dial(
                self,
                effect.target,
                effect.permits,
                source=source,
                introduction=introduction,
                client=None if stream is None else stream.tls,
            )
        except (TypeError, ValueError) as error:
            # A mistake of the filter: there is no such target.
            self._log_trouble(effects.Trouble(effect.filter, error, "Route"))
            detail = f"filter {effect.filter} routed to what is no target"
            self._finish_filtered(effects.Finish(detail, abort=True, filter=effect.filter))
            return
        self._dial = dial
        dial.start()

    def _judge(self, effect: effects.Judge) -> None:
        stream = self._client.stream
        if self._rule.options.bandwidth_per_source is not None and effect.client is not None:
            cast(Paced, stream).go_as(effect.client)
        # An announcement before TLS was judged then. A rate must not count it twice.
        known = effect.client == self._announced
        if (known or self._admits(effect.client, effect.local)) and self.chain is not None:
            self._ask(self.chain.judged)

    def _finish_filtered(self, effect: effects.Finish) -> None:
        self._detail = effect.detail
        reason = CloseReason.FILTER if self._problem is None else reason_of(self._problem)
        mode = Mode.RESET if effect.abort else Mode.END_AND_READ
        client = self._client.stream
        # A reset may destroy an answer that the client has not read. Without an answer, reset the client so
        # that it does not continue to write.
        unanswered = (
            self._upstream.stream is None
            and client is not None
            and not cast(Watched, client).answered().bytes
        )
        refused = unanswered and not effect.abort
        self._finish(reason, client=Mode.REFUSE if refused else mode, upstream=mode)

    def _arm(self, effect: effects.Arm) -> None:
        self._timers[effect.key] = self._clock.callLater(effect.seconds, self._due, effect.key)

    def _disarm(self, effect: effects.Disarm) -> None:
        timer = self._timers.pop(effect.key, None)
        if timer is not None and timer.active():
            timer.cancel()

    def _store(self, effect: effects.Store) -> None:
        self._rule.context.sinks.store(
            self.id, effect.sink, effect.data, rule=self._rule.name, passages=self.passages
        )

    def _stop(self, effect: effects.PauseReading) -> None:
        self._stopped.add(effect.direction)
        stream = self._source(effect.direction).stream
        if stream is not None:
            cast(Watched, stream).hold()

    def _go(self, effect: effects.ReadOn) -> None:
        self._stopped.discard(effect.direction)
        self._read_again(effect.direction)

    def _pass_unseen(self, effect: effects.Unseen) -> None:
        direction = effect.direction
        half = self._source(direction)
        if half.stream is None or half.lost or half.flow.source_ended:
            return
        self._unseen.discard(direction)
        self._counted.discard(direction)
        stream = cast(Watched, half.stream)
        if effect.count == 0:
            stream.show(self)
            return
        (self._unseen if effect.count is None else self._counted).add(direction)
        stream.pass_on(effect.count)

    def _log_trouble(self, effect: effects.Trouble) -> None:
        self._rule.counts.filter_failures += 1
        log_trouble(self._log, effect, self)


# `effects.Secure` is missing here: only sessions of `portfwd.relay.secured` get it.
_ACTIONS: Final[dict[type, Callable[[FilteredSession, Any], None]]] = {
    effects.Write: FilteredSession._write_to,
    effects.SendEnd: FilteredSession._end,
    effects.StartDial: FilteredSession._dial_now,
    effects.Judge: FilteredSession._judge,
    effects.Finish: FilteredSession._finish_filtered,
    effects.Arm: FilteredSession._arm,
    effects.Disarm: FilteredSession._disarm,
    effects.Begin: FilteredSession._await,
    effects.Abandon: FilteredSession._abandon,
    effects.Store: FilteredSession._store,
    effects.PauseReading: FilteredSession._stop,
    effects.ReadOn: FilteredSession._go,
    effects.GoOn: FilteredSession._let_others,
    effects.Unseen: FilteredSession._pass_unseen,
    effects.Trouble: FilteredSession._log_trouble,
}
