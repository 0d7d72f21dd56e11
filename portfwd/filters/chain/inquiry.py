# -*- test-case-name: tests.filters.chain.test_chain -*-
"""
Calls the filters of a chain and applies their verdicts.

This module also handles filters that raise, return invalid values or cannot decide.
`portfwd.filters.chain.chain` documents the rules. It and `portfwd.filters.chain.passage` decide when a filter
is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from portfwd.filters.api import (
    DONE,
    DROP,
    Again,
    Announce,
    Await,
    Close,
    Connection,
    Copy,
    Delay,
    End,
    Forward,
    Release,
    Reply,
    Route,
    StartTLS,
    Verdict,
    Wake,
)
from portfwd.filters.chain.effects import Abandon, Begin, Finish, Judge, Store
from portfwd.filters.chain.failing import Awaited, Failing
from portfwd.filters.chain.link import Link, Stage
from portfwd.filters.chain.under_way import MOST_STEPS, UnderWay
from portfwd.filters.verdict_kinds import Item
from portfwd.filters.verdicts import Keep, Skip, Step, Stop, Wait, Want, alters, read_verdict, steps_of
from portfwd.quantities import format_duration
from portfwd.values import TO_UPSTREAM, counted

#: `Wake` verdicts of one filter that are not due yet. Each is a timer.
MOST_WAKES: Final = 1024

#: Most replies in a chain of replies to replies. Two filters that answer each other would never stop.
MAX_REPLIES: Final = 16

#: Verdicts that are valid in every method. Most verdicts are of these types and need no further check.
_ALWAYS_RIGHT: Final = frozenset({type(None), bytes, Forward, Delay})

#: Key of the TLVs of a PROXY header from `Announce` in `Connection.tags`.
PROXY_TLVS: Final = "proxy-tlvs"


def _sent(verdict: list[Verdict]) -> list[bytes] | None:
    """The bytes of a list that sends these and nothing else; None for others, and for a long list."""
    if len(verdict) > MOST_STEPS:
        return None
    pieces = []
    for item in verdict:
        if type(item) is Forward and type(item.data) is bytes:
            pieces.append(item.data)
        elif type(item) is bytes:
            pieces.append(item)
        else:
            return None
    return pieces


class Inquiry(Failing):
    """
    Calls filters and applies their verdicts.

    :ivar find_target: see `portfwd.filters.chain.chain.make_chain`.
    :ivar asking: whether a method of a filter is running. Events meanwhile are delivered after its verdict
        was applied.
    """

    def __init__(self, stages: Iterable[Stage], connection: Connection, *, datagrams: bool) -> None:
        super().__init__(stages, connection, datagrams=datagrams)
        self.asking = False
        self.find_target: Callable[[object], object] | None = None
        self._announced = False

    # Calling filters

    def _show(self, link: Link, data: bytes, replies: int, *, again: bool = False) -> None:
        # Bulk data: handle the most frequent verdicts first.
        self.asking = True
        try:
            verdict = link.stage.filter.received(link.direction, data)
        except BaseException as error:
            # Any exception of a filter ends this session and nothing else.
            self.asking = False
            self._event = "received"
            self._fail(link, error, data, replies=replies)
            return
        self.asking = False
        if type(verdict) is list and len(verdict) == 1:
            verdict = verdict[0]
        if verdict is None:
            self._pass(link, data, replies)
        elif type(verdict) is bytes:
            link.stage.altered = True
            self._pass(link, verdict, replies)
        elif verdict is DONE:
            self._pass(link, data, replies)
            link.done = True
        elif type(verdict) is Forward and type(verdict.data) is bytes:
            link.stage.altered = True
            self._pass(link, verdict.data, replies)
        elif type(verdict) is list and (pieces := _sent(verdict)):
            link.stage.altered = True
            for piece in pieces:
                self._pass(link, piece, replies)
        else:
            self._event = "received"
            self._apply(link, verdict, data, replies=replies, again=again)

    def _tell_end(self, link: Link) -> None:
        link.ending = True
        if not link.done:
            link.bypass = 0
            held = link.take()
            self._tell(link, held, "ended", link.direction, held)
        self._pass_end(link)

    def _tell(
        self, link: Link, data: bytes | None, event: str, *arguments: object, both: bool = False
    ) -> None:
        """
        Call a filter and apply its verdict on `data`.

        :param data: None if there are no bytes to judge.
        :param event: the method to call. A filter of any class may lack it.
        :param both: whether an `Await` pauses both directions.
        """
        if self.finished or link.stage.dead:
            return
        self.asking = True
        self._event = event
        try:
            verdict = getattr(link.stage.filter, event)(*arguments)
        except BaseException as error:
            self.asking = False
            self._fail(link, error, data)
            return
        self.asking = False
        if verdict is not None:
            self._apply(link, verdict, data, both=both)
        elif data is not None:
            self._pass(link, data)

    def _pass_end(self, link: Link) -> None:
        """Pass the end on from a filter, unless bytes are before it."""
        if not link.ending or link.ended or link.outbox or link.awaits or self.finished:
            return
        if self._under_way is not None and self._under_way.link.stage is link.stage:
            return
        if link.direction is TO_UPSTREAM and not link.stage.decided and not self._dialled:
            self._give_up(link, "could not decide before the client ended", link.stage.on_timeout)
            if self._closing is not None:
                return
        link.ended = True
        self._send(link, None)

    # Applying verdicts

    def _apply(
        self,
        link: Link,
        verdict: Verdict,
        data: bytes | None,
        *,
        both: bool = False,
        replies: int = 0,
        again: bool = False,
    ) -> None:
        """
        Apply a verdict.

        :param data: the bytes that it judges; None if there are none.
        :param both: whether an `Await` pauses both directions.
        :param replies: number of replies that led to these bytes.
        :param again: whether some of them were held before.
        """
        stage = link.stage
        try:
            items = read_verdict(verdict, datagrams=self._datagrams)
            self._check(stage, items, data, replies)
        except (TypeError, ValueError) as error:
            self._fail(
                link, error, data, f"returned a wrong verdict from {self._event}: {error}", replies=replies
            )
            return
        stage.altered = stage.altered or any(map(alters, items))
        steps = steps_of(items, data, datagrams=self._datagrams, direction=link.direction)
        if self._datagrams and DROP in items and not any(isinstance(item, Wake) for item in items):
            stage.dropped += 1  # a filter that waits to be woken has kept it
        long = len(items) > MOST_STEPS
        made = UnderWay(link, steps, data, both=both, replies=replies, again=again, long=long)
        if long:
            self._work_off()
            self._under_way = made
        else:
            self._carry_on(made, math.inf)

    def _work_off(self) -> None:
        """Give the verdict that is under way the rest of its effect: two filters are asked in a row."""
        while self._under_way is not None:
            self._carry_on(self._under_way, math.inf)

    def _carry_on(self, verdict: UnderWay, most: float) -> int:
        """See `portfwd.filters.chain.passage`."""
        closing, count = self._closing, 0
        for step in verdict.steps:
            count += 1
            self._do_one(verdict, step)
            if self.finished or self._closing is not closing:
                self._under_way = None
                return count
            if count >= most:
                return count
        self._under_way = None
        self._have_done(verdict)
        return count + 1

    def _do_one(self, verdict: UnderWay, step: Step) -> None:
        link, stage = verdict.link, verdict.link.stage
        if isinstance(step, Close) and verdict.data is not None:
            self._close_on(link, step, verdict.replies, refuses=True)
        else:
            self._do_step(link, step, verdict.both, verdict.replies)
        if isinstance(step, Release):
            verdict.released = True
        elif isinstance(step, End):
            verdict.ends.append(stage.up if step.direction is TO_UPSTREAM else stage.down)
        elif isinstance(step, Keep) and stage.limits_holding and link.held and stage.decided:
            self._limit_hold(link, longer=verdict.again and step.whole)

    def _have_done(self, verdict: UnderWay) -> None:
        """All steps of a verdict are done: what comes behind them follows."""
        link, stage = verdict.link, verdict.link.stage
        if link.held and (link.done or link.bypass):
            self._pass(link, link.take(), verdict.replies)
        for one in verdict.ends:
            self._cut(one)
        if verdict.released or verdict.long:
            # After the other verdicts of the list: bytes that they pass come before the end.
            self._pass_end(stage.up)
            self._pass_end(stage.down)

    def _do_step(self, link: Link, step: Step, both: bool, replies: int) -> None:
        match step:
            case Forward():
                self._pass(link, step.data, replies)
            case Reply():
                self._reply(link, step.data, replies)
            case Delay():
                self._delay(link, step, replies)
            case Release():
                stage = link.stage
                self._release_all(stage.up if step.direction is TO_UPSTREAM else stage.down)
            case Again():
                if link.ending:
                    self._pass(link, step.rest, replies)
                elif step.rest:
                    # Before everything else that waits for this filter.
                    self._jobs.appendleft((link, step.rest, replies))
            case Keep():
                self._keep(link, step.data, replies)
                self._want(link, step.total)
            case Want():
                self._want(link, step.total)
            case Wait():
                link.hold(step.data)
            case Skip():
                link.bypass = step.count
            case Stop():
                link.done = True
            case Copy():
                self._effects.append(Store(step.sink, step.data))
            case StartTLS():
                self._start_tls(link.stage, step)
            case Route():
                link.stage.route = step
            case Announce():
                self._announce(link.stage, step)
            case Wake():
                link.stage.wakes += 1
                self._arm(step.seconds, partial(self._wake_due, link, step.token))
            case Await():
                self._await(link, step, both)
            case Close():
                self._close_on(link, step, replies, refuses=False)

    def _wake_due(self, link: Link, token: object) -> None:
        link.stage.wakes -= 1
        self._wake(link, token)

    def _close_on(self, link: Link, close: Close, replies: int, *, refuses: bool) -> None:
        """
        Close the session for a filter.

        :param refuses: whether it drops the bytes that it was called with.
        """
        # Only the first filter may reply: flushed bytes may make another one close too.
        if close.reply and not close.abort and self._closing is None:
            self._reply(link, close.reply, replies)
        if refuses:
            # Bytes that are flushed to it after the refused ones are dropped.
            link.done = link.ended = True
        self._close(Finish(close.reason, abort=close.abort, filter=link.stage.name))

    def _check(self, stage: Stage, items: list[Item], data: bytes | None, replies: int) -> None:
        """:raises ValueError: the verdict is too late, a repetition, or without a target."""
        if _ALWAYS_RIGHT.issuperset(map(type, items)):
            return
        wakes = 0
        for item in items:
            if type(item) in _ALWAYS_RIGHT:
                continue
            if isinstance(item, Route):
                if self._dialled:
                    raise ValueError(
                        "Route came after the dial: set routes = True, so that the dial waits for this filter"
                    )
                if self.find_target is not None and item.target is not None:
                    self.find_target(item.target)
            if isinstance(item, StartTLS):
                self._check_start_tls(stage, item)
            if isinstance(item, Wake):
                wakes += 1
                if stage.wakes + wakes > MOST_WAKES:
                    raise ValueError(f"more than {MOST_WAKES} Wakes at a time")
            if isinstance(item, Again) and len(item.rest) >= len(data or b""):
                raise ValueError("Again needs a rest that is less than the bytes that were seen")
            if isinstance(item, Reply) and replies >= MAX_REPLIES:
                raise ValueError(f"more than {MAX_REPLIES} replies to replies: two filters answer each other")

    def _cut(self, link: Link) -> None:
        """End a direction for a filter before its source ends it."""
        if link.ending:
            return
        if link.held:
            self._pass(link, link.take())
        link.done = link.ending = link.cut = True
        link.bypass = 0
        self._pass_end(link)

    def _reply(self, link: Link, data: bytes, replies: int) -> None:
        back = link.stage.down if link.direction is TO_UPSTREAM else link.stage.up
        self._pass(back, data, replies + 1)

    def _keep(self, link: Link, data: bytes, replies: int) -> None:
        if link.ending:
            self._pass(link, data, replies)
            return
        link.take()
        if data:
            link.hold(data)

    def _want(self, link: Link, total: int) -> None:
        if link.ending:
            return
        link.need = total
        limit = link.stage.max_hold
        if max(link.size, link.need) > limit:
            self._give_up(link, f"could not decide within {counted(limit, 'byte')}", link.stage.on_overflow)

    def _limit_hold(self, link: Link, *, longer: bool) -> None:
        """
        Limit the time for which bytes are held for a filter. While the dial waits, it has a limit of its own.

        :param longer: whether they were held before.
        """
        if longer and link.hold_timer in self._timers:
            return
        self._disarm(link.hold_timer)
        link.hold_timer = self._arm(link.stage.hold_timeout, partial(self._held_too_long, link))

    def _held_too_long(self, link: Link) -> None:
        stage = link.stage
        # An `Await` has its own limit.
        if link.held and not link.awaits and not stage.dead:
            self._give_up(link, f"held bytes for {format_duration(stage.hold_timeout)}", stage.on_timeout)
            self._pass_end(link)

    def _announce(self, stage: Stage, item: Announce) -> None:
        self._know(announced=item.client, announced_local=item.local)
        self._connection.tags[PROXY_TLVS] = item.tlvs
        self._effects.append(Judge(item.client, item.local))
        self._judging = self._announced = True
        if not stage.chooses and stage.route is None:
            stage.route = Route()  # the dial does not wait for it any more

    def _wake(self, link: Link, token: object) -> None:
        self._tell(link, None, "woken", token)
        self._pass_end(link)

    def _await(self, link: Link, item: Await, both: bool) -> None:
        up, down = link.stage.up, link.stage.down
        paused: tuple[Link, ...]
        if item.directions is not None:
            paused = tuple(one for one in (up, down) if item.pauses(one.direction))
        else:
            paused = (up, down) if both else (link,)
        key = next(self._keys)
        stage, timer = link.stage, 0
        stage.awaits += 1
        for one in paused:
            one.awaits += 1
            self._stop(one.direction)
        self._effects.append(Begin(key, item.awaitable))
        if item.timeout is not None:
            timer = self._arm(item.timeout, partial(self._await_timed_out, key, item.timeout))
        elif stage.limits_holding and (self._dialled or stage.decided):
            # Before the dial, the time that the dial waits for this filter is limited instead.
            timer = self._arm(stage.hold_timeout, partial(self._awaited_too_long, key))
        self._awaited[key] = Awaited(link, paused, timer)

    def _await_timed_out(self, key: int, seconds: float) -> None:
        """An `Await` has timed out, which counts as an exception of its awaitable."""
        self._effects.append(Abandon(key))
        self._take_failure(key, TimeoutError(f"no result within {format_duration(seconds)}"))

    def _take_failure(self, key: int, error: BaseException) -> None:
        """The awaitable of an `Await` has failed."""
        raise NotImplementedError

    def _awaited_too_long(self, key: int) -> None:
        awaited = self._awaited.get(key)
        if awaited is not None:
            link, stage = awaited.link, awaited.link.stage
            self._forget_awaits(stage)
            self._give_up(
                link, f"waited for a result for {format_duration(stage.hold_timeout)}", stage.on_timeout
            )
            self._pass_end(stage.up)
            self._pass_end(stage.down)
