# -*- test-case-name: tests.filters.test_chain -*-
"""
Asking the filters of a chain, and what their answers do.

Each verdict has its effect here, and so has a filter that raises, answers
nonsense or cannot decide. `portfwd.filters.chain` says what the rules are;
when a filter is asked is its business too, and `portfwd.filters.passage`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from portfwd.filters.api import (
    DONE,
    DROP,
    Announce,
    Await,
    Bypass,
    Close,
    Connection,
    Copy,
    Delay,
    Forward,
    NeedMore,
    Reply,
    Route,
    Verdict,
    Wake,
)
from portfwd.filters.effects import Begin, Finish, Judge, Store, Trouble
from portfwd.filters.link import Link, Stage
from portfwd.filters.passage import Passage
from portfwd.filters.verdicts import Item, alters, answers, read_verdict
from portfwd.values import TO_UPSTREAM

#: Replies that may be the answer to a reply: two filters that answer each other would never stop.
MAX_REPLIES: Final = 16

#: Where `Announce` leaves the TLVs of a PROXY header in `Connection.tags`.
PROXY_TLVS: Final = "proxy-tlvs"


def failure(name: str, error: Exception) -> Finish:
    """The end of a session whose filter `name` raised `error`."""
    # The text of the error may quote bytes of users; the log has it, with the traceback.
    return Finish(f"filter {name} raised {type(error).__name__}", abort=True, filter=name)


class Inquiry(Passage):
    """Filters that are asked, on the way that the bytes take."""

    def __init__(self, stages: Iterable[Stage], connection: Connection, *, datagrams: bool) -> None:
        super().__init__(stages, datagrams=datagrams)
        self._connection = connection
        self._awaited: dict[int, tuple[Link, tuple[Link, ...]]] = {}
        self._closing: Finish | None = None
        self._last = 0

    # Asking

    def _show(self, link: Link, data: bytes) -> None:
        # Bulk comes this way: what most filters return is dealt with first.
        try:
            verdict = link.stage.filter.received(link.direction, data)
        except Exception as error:
            self._fail(link, error, data)
            return
        if verdict is None:
            self._pass(link, data)
        else:
            self._apply(link, verdict, data)

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
        try:
            verdict = getattr(link.stage.filter, event)(*arguments)
        except Exception as error:
            self._fail(link, error, data)
            return
        self._apply(link, verdict, data, both=both)

    def _pass_end(self, link: Link) -> None:
        """The end leaves a filter, unless something is before it."""
        if not link.ending or link.ended or link.outbox or link.awaits or self.finished:
            return
        if link.direction is TO_UPSTREAM and not link.stage.decided and not self._dialled:
            self._give_up(link, "could not decide before the client ended")
            if self._closing is not None:
                return
        link.ended = True
        self._send(link, None)

    # What verdicts do

    def _apply(self, link: Link, verdict: Verdict, data: bytes | None, *, both: bool = False) -> None:
        stage = link.stage
        try:
            items = read_verdict(verdict, datagrams=self._datagrams)
            self._check(items)
        except (TypeError, ValueError) as error:
            self._fail(link, error, data)
            return
        spoken = any(answers(item, datagrams=self._datagrams) for item in items)
        stage.altered = stage.altered or any(map(alters, items))
        closing = self._closing
        judges = data is not None
        awaits = False
        for item in items:
            if data is not None and _passes(item, spoken=spoken):
                self._pass(link, data)
                data = None
            match item:
                case bytes():
                    self._pass(link, item)
                case Forward():
                    self._pass(link, item.data)
                case Reply():
                    self._reply(link, item.data)
                case Delay():
                    self._delay(link, item)
                case NeedMore():
                    self._keep(link, item, data)
                    data = None
                case Bypass():
                    self._pass(link, item.data or b"")
                    link.bypass = item.count
                case Copy():
                    self._effects.append(Store(item.sink, item.data))
                case Route():
                    stage.route = item
                case Announce():
                    self._announce(item)
                case Wake():
                    self._arm(item.seconds, partial(self._wake, link, item.token))
                case Await():
                    self._await(link, item, both)
                    awaits = True
                case Close():
                    # One word of farewell: what is flushed may make another filter close too.
                    if item.reply and not item.abort and self._closing is None:
                        self._reply(link, item.reply)
                    if judges:
                        # What is flushed to it behind bytes that it refused is dropped.
                        link.done = link.ended = True
                    self._close(Finish(item.reason, abort=item.abort, filter=stage.name))
                case _:
                    link.done = link.done or item is DONE
            if self.finished or self._closing is not closing:
                return
        if self._datagrams and DROP in items and not any(isinstance(item, Wake) for item in items):
            stage.dropped += 1  # one that is to wake up later has kept it
        if data is not None and not spoken:
            if awaits:
                link.hold(data)
            else:
                self._pass(link, data)
        if link.held and (link.done or link.bypass):
            self._pass(link, link.take())

    def _check(self, items: list[Item]) -> None:
        """:raises ValueError: a verdict comes too late, or once too often."""
        for item in items:
            if isinstance(item, Route) and self._dialled:
                raise ValueError("Route came after the dial")
            if isinstance(item, Reply) and self._replies >= MAX_REPLIES:
                raise ValueError(f"more than {MAX_REPLIES} replies to replies: two filters answer each other")

    def _reply(self, link: Link, data: bytes) -> None:
        back = link.stage.down if link.direction is TO_UPSTREAM else link.stage.up
        self._replies += 1
        self._pass(back, data)
        self._replies -= 1

    def _keep(self, link: Link, item: NeedMore, data: bytes | None) -> None:
        kept = data if item.rest is None else item.rest
        if link.ending:
            self._pass(link, kept or b"")
            return
        if kept is not None:
            link.take()
            if kept:
                link.hold(kept)
        link.need = item.total or 0
        limit = link.stage.max_hold
        if max(link.size, link.need) > limit:
            self._give_up(link, f"could not decide within {limit} bytes")

    def _announce(self, item: Announce) -> None:
        self._connection.announced = item.client
        self._connection.announced_local = item.local
        self._connection.tags[PROXY_TLVS] = item.tlvs
        self._effects.append(Judge(item.client, item.local))

    def _wake(self, link: Link, token: object) -> None:
        self._tell(link, None, "woken", token)
        self._pass_end(link)

    def _await(self, link: Link, item: Await, both: bool) -> None:
        paused = (link.stage.up, link.stage.down) if both else (link,)
        key = next(self._keys)
        self._awaited[key] = (link, paused)
        link.stage.awaits += 1
        for one in paused:
            one.awaits += 1
            self._stop(one.direction)
        self._effects.append(Begin(key, item.awaitable))

    def _resume(self, stage: Stage, paused: tuple[Link, ...]) -> None:
        """One result is waited for no longer."""
        stage.awaits -= 1
        for one in paused:
            one.awaits -= 1
            self._go(one.direction)

    # What goes wrong, and the end

    def _give_up(self, link: Link, why: str) -> None:
        """A filter cannot decide: its factory says what then, if it routes; else the session breaks."""
        stage = link.stage
        if self._dialled or stage.decided:
            self._close(Finish(f"filter {stage.name} {why}", abort=True, filter=stage.name))
        elif stage.on_timeout != "pass":
            self._close(Finish(f"filter {stage.name} {why}", filter=stage.name))
        else:
            self._forget_awaits(stage)
            link.done = True
            if link.held:
                self._pass(link, link.take())
            for one in (stage.up, stage.down):
                self._let_in(one)

    def _fail(self, link: Link, error: Exception, data: bytes | None) -> None:
        """
        A filter raised.

        :param data: the bytes it was called with.
        """
        stage = link.stage
        self._effects.append(Trouble(stage.name, error))
        if stage.on_error != "bypass" or stage.altered:
            self._close(failure(stage.name, error))
            return
        if data is not None:
            self._pass(link, data)
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
        for key, (link, paused) in tuple(self._awaited.items()):
            if link.stage is stage:
                del self._awaited[key]
                self._resume(stage, paused)

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


def _passes(item: Item, *, spoken: bool) -> bool:
    """Whether `item` passes the bytes that the filter was called with, at its place."""
    if isinstance(item, Bypass):
        return item.data is None
    return item is None or (item is DONE and not spoken)
