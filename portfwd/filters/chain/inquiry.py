# -*- test-case-name: tests.filters.chain.test_chain -*-
"""
Asking the filters of a chain, and what their answers do.

Each verdict has its effect here, and so has a filter that raises, answers
nonsense or cannot decide. `portfwd.filters.chain.chain` says what the rules are;
when a filter is asked is its business too, and `portfwd.filters.chain.passage`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

from portfwd.filters.api import (
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
from portfwd.filters.chain.effects import Abandon, Begin, Disarm, Finish, Judge, Store, Trouble
from portfwd.filters.chain.link import Link, Stage
from portfwd.filters.chain.securing import Securing
from portfwd.filters.verdicts import Item, Keep, Skip, Step, Stop, Wait, Want, alters, read_verdict, steps_of
from portfwd.values import TO_UPSTREAM, counted, format_duration

#: Replies that may be the answer to a reply: two filters that answer each other would never stop.
MAX_REPLIES: Final = 16

#: What may be returned at any time: most verdicts are of these, and are looked at no further.
_ALWAYS_RIGHT: Final = frozenset({type(None), bytes, Forward, Delay})

#: Where `Announce` leaves the TLVs of a PROXY header in `Connection.tags`.
PROXY_TLVS: Final = "proxy-tlvs"


def failure(name: str, error: BaseException, what: str = "") -> Finish:
    """
    The end of a session whose filter `name` raised `error`.

    :param what: how it came to that; empty: the filter raised it.
    """
    # The text of the error may quote bytes of users; the log has it, with the traceback.
    return Finish(f"filter {name} {what or f'raised {type(error).__name__}'}", abort=True, filter=name)


class Awaited(NamedTuple):
    """
    A result that a filter awaits.

    :ivar link: the filter, and the direction of the bytes that it judged.
    :ivar paused: the links that nothing enters meanwhile.
    :ivar timer: the key of the `Arm` that limits it; 0: there is none.
    """

    link: Link
    paused: tuple[Link, ...]
    timer: int


class Inquiry(Securing):
    """
    Filters that are asked, on the way that the bytes take.

    :ivar find_target: see `portfwd.filters.chain.chain.make_chain`.
    :ivar asking: a filter's method runs just now. What happens meanwhile is not told to any filter
        before the verdict of this one has taken effect.
    """

    def __init__(self, stages: Iterable[Stage], connection: Connection, *, datagrams: bool) -> None:
        super().__init__(stages, connection, datagrams=datagrams)
        self.asking = False
        self._awaited: dict[int, Awaited] = {}
        self.find_target: Callable[[object], object] | None = None
        self._announced = False
        self._event = ""
        self._closing: Finish | None = None
        self._last = 0

    # Asking

    def _show(self, link: Link, data: bytes, replies: int, *, again: bool = False) -> None:
        # Bulk comes this way: what most filters return is dealt with first.
        self.asking = True
        try:
            verdict = link.stage.filter.received(link.direction, data)
        except BaseException as error:
            # Whatever it is: what leaves a filter ends this session, and nothing else.
            self.asking = False
            self._event = "received"
            self._fail(link, error, data, replies=replies)
            return
        self.asking = False
        if verdict is None:
            self._pass(link, data, replies)
        elif type(verdict) is bytes:
            link.stage.altered = True
            self._pass(link, verdict, replies)
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
        Ask a filter for a verdict on `data`, and give it its effect.

        :param data: None: there are no bytes to judge.
        :param event: the method to call; a filter may be anybody's class, and lack it.
        :param both: an `Await` stops both directions.
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
        self._apply(link, verdict, data, both=both)

    def _pass_end(self, link: Link) -> None:
        """The end leaves a filter, unless something is before it."""
        if not link.ending or link.ended or link.outbox or link.awaits or self.finished:
            return
        if link.direction is TO_UPSTREAM and not link.stage.decided and not self._dialled:
            self._give_up(link, "could not decide before the client ended", link.stage.on_timeout)
            if self._closing is not None:
                return
        link.ended = True
        self._send(link, None)

    # What verdicts do

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
        Give a verdict its effect.

        :param data: the bytes that it judges; None: there were none.
        :param both: an `Await` stops both directions.
        :param replies: how many replies led to those bytes.
        :param again: some of them were held for it before.
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
        closing = self._closing
        released, ends = False, []
        for step in steps_of(items, data, datagrams=self._datagrams, direction=link.direction):
            if isinstance(step, Close) and data is not None:
                self._close_on(link, step, replies, refuses=True)
            else:
                self._do_step(link, step, both, replies)
            if self.finished or self._closing is not closing:
                return
            if isinstance(step, Release):
                released = True
            elif isinstance(step, End):
                ends.append(stage.up if step.direction is TO_UPSTREAM else stage.down)
            elif isinstance(step, Keep) and stage.limits_holding and link.held and stage.decided:
                self._limit_hold(link, longer=again and step.whole)
        if self._datagrams and DROP in items and not any(isinstance(item, Wake) for item in items):
            stage.dropped += 1  # one that is to wake up later has kept it
        if link.held and (link.done or link.bypass):
            self._pass(link, link.take(), replies)
        for one in ends:
            self._cut(one)
        if released:
            # Behind the other verdicts of the list: what they pass still comes before the end.
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
                    # Before anything else that waits for this filter.
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
                self._arm(step.seconds, partial(self._wake, link, step.token))
            case Await():
                self._await(link, step, both)
            case Close():
                self._close_on(link, step, replies, refuses=False)

    def _close_on(self, link: Link, close: Close, replies: int, *, refuses: bool) -> None:
        """
        A filter closes the session.

        :param refuses: it does so instead of passing the bytes that it was called with.
        """
        # One word of farewell: what is flushed may make another filter close too.
        if close.reply and not close.abort and self._closing is None:
            self._reply(link, close.reply, replies)
        if refuses:
            # What is flushed to it behind bytes that it refused is dropped.
            link.done = link.ended = True
        self._close(Finish(close.reason, abort=close.abort, filter=link.stage.name))

    def _check(self, stage: Stage, items: list[Item], data: bytes | None, replies: int) -> None:
        """:raises ValueError: a verdict comes too late, or once too often, or leads nowhere."""
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
            if isinstance(item, Again) and len(item.rest) >= len(data or b""):
                raise ValueError("Again needs a rest that is less than the bytes that were seen")
            if isinstance(item, Reply) and replies >= MAX_REPLIES:
                raise ValueError(f"more than {MAX_REPLIES} replies to replies: two filters answer each other")

    def _cut(self, link: Link) -> None:
        """A filter ends a direction before its source does."""
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
        Count how long bytes are held for a filter; while the dial waits for it, that has a limit of its own.

        :param longer: they have been held before, and it goes on.
        """
        if longer and link.hold_timer in self._timers:
            return
        self._disarm(link.hold_timer)
        link.hold_timer = self._arm(link.stage.hold_timeout, partial(self._held_too_long, link))

    def _held_too_long(self, link: Link) -> None:
        stage = link.stage
        # An `Await` has a limit of its own.
        if link.held and not link.awaits and not stage.dead:
            self._give_up(link, f"held bytes for {format_duration(stage.hold_timeout)}", stage.on_timeout)
            self._pass_end(link)

    def _announce(self, stage: Stage, item: Announce) -> None:
        self._know(announced=item.client, announced_local=item.local)
        self._connection.tags[PROXY_TLVS] = item.tlvs
        self._effects.append(Judge(item.client, item.local))
        self._judging = self._announced = True
        if not stage.chooses and stage.route is None:
            stage.route = Route()  # it has said what the dial waits for

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
            # Before that, the time that the dial waits for this filter is limited.
            timer = self._arm(stage.hold_timeout, partial(self._awaited_too_long, key))
        self._awaited[key] = Awaited(link, paused, timer)

    def _await_timed_out(self, key: int, seconds: float) -> None:
        """An `Await` has taken too long: it is as if what is awaited had raised."""
        self._effects.append(Abandon(key))
        self._take_failure(key, TimeoutError(f"no result within {format_duration(seconds)}"))

    def _take_failure(self, key: int, error: BaseException) -> None:
        """What an `Await` waits for has failed."""
        raise NotImplementedError

    def _resume(self, awaited: Awaited) -> None:
        """One result is waited for no longer."""
        self._disarm(awaited.timer)
        awaited.link.stage.awaits -= 1
        for one in awaited.paused:
            one.awaits -= 1
            self._go(one.direction)

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

    # What goes wrong, and the end

    def _give_up(self, link: Link, why: str, then: str) -> None:
        """
        A filter cannot decide.

        :param then: ``pass``: what is held passes, and the filter is done with this direction; ``close``: the
            session ends, by an abort if some of it has been relayed.
        """
        stage = link.stage
        undecided = not (self._dialled or stage.decided)
        if then != "pass":
            self._close(Finish(f"filter {stage.name} {why}", abort=not undecided, filter=stage.name))
            return
        if undecided:
            self._forget_awaits(stage)
        link.done = True
        if link.held:
            self._pass(link, link.take())
        for one in (stage.up, stage.down):
            self._let_in(one)

    def _fail(
        self,
        link: Link,
        error: BaseException,
        data: bytes | None,
        what: str = "",
        *,
        replies: int = 0,
    ) -> None:
        """
        A filter raised, or what it awaited did.

        :param data: the bytes it was called with.
        """
        stage = link.stage
        self._effects.append(Trouble(stage.name, error, self._event))
        if stage.on_error != "bypass" or stage.altered:
            self._close(failure(stage.name, error, what))
            return
        if data is not None:
            self._pass(link, data, replies)
        self._leave_out(stage)

    def _leave_out(self, stage: Stage) -> None:
        """From now on it is as if the filter were not there."""
        stage.dead = True
        self._forget_awaits(stage)
        for link in (stage.up, stage.down):
            link.done = True
            if link.held:
                self._pass(link, link.take())
            self._let_in(link)
            self._pass_end(link)

    def _forget_awaits(self, stage: Stage) -> None:
        for key, awaited in tuple(self._awaited.items()):
            if awaited.link.stage is stage:
                del self._awaited[key]
                self._resume(awaited)

    def _disarm(self, timer: int) -> None:
        """Forget a timer, if it still runs."""
        if self._timers.pop(timer, None) is not None:
            self._effects.append(Disarm(timer))

    def _close(self, finish: Finish) -> None:
        """Come to the end; of several in order the first counts, and an abort at once."""
        if finish.abort:
            self._finish(finish)
        elif self._closing is None:
            self._closing = finish
            self._hasty = True

    def _finish(self, finish: Finish) -> None:
        if not self.finished:
            self.finished = True
            self._effects.append(finish)
            self._last = len(self._effects)
