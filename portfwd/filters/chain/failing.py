# -*- test-case-name: tests.filters.chain.test_chain -*-
"""
What happens when a filter fails: it raises, answers nonsense, cannot decide, or awaits for too long.

Either the session ends, or it goes on as if the filter were not there; what it held passes then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from portfwd.filters.api import Connection
from portfwd.filters.chain.effects import Disarm, Finish, Trouble
from portfwd.filters.chain.link import Link, Stage
from portfwd.filters.chain.securing import Securing


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


class Failing(Securing):
    """Filters that may fail, and the end of a session."""

    def __init__(self, stages: Iterable[Stage], connection: Connection, *, datagrams: bool) -> None:
        super().__init__(stages, connection, datagrams=datagrams)
        self._awaited: dict[int, Awaited] = {}
        #: The method of a filter that was called last.
        self._event = ""
        self._closing: Finish | None = None
        self._last = 0

    def _resume(self, awaited: Awaited) -> None:
        """One result is waited for no longer."""
        self._disarm(awaited.timer)
        awaited.link.stage.awaits -= 1
        for one in awaited.paused:
            one.awaits -= 1
            self._go(one.direction)

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
