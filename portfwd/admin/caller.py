# -*- test-case-name: tests.admin.test_caller -*-
"""
One client of a control socket, as the commands see it.

Work is done in turns that it shares with all others. What goes on for a while tells of events as long
as the client takes them, and of none while it does not: nothing is kept for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.admin.operator import Operator, OperatorError
from portfwd.admin.turns import Turns
from portfwd.rules.admin_lines import Level

T = TypeVar("T")


class Caller:
    """
    Who asks.

    :ivar level: what it may do.
    :ivar operator: the forwarder.
    :ivar clock: times of this machine, monotonic.
    """

    def __init__(
        self,
        operator: Operator,
        level: Level,
        clock: IReactorTime,
        tell: Callable[[Mapping[str, Any]], None],
        is_listening: Callable[[], bool],
        steered: Callable[[], None],
        turns: Turns | None = None,
    ) -> None:
        """
        :param tell: sends an event.
        :param is_listening: whether the client has taken what was sent so far.
        :param steered: told when a request is about to change something.
        :param turns: shared with others; None for its own.
        """
        self.operator = operator
        self.level = level
        self.clock = clock
        self._tell = tell
        self._is_listening = is_listening
        self._steered = steered
        self._turns = Turns(clock) if turns is None else turns
        self._pause: Deferred[bool] | None = None
        self._timer: IDelayedCall | None = None
        self._interrupted = False

    def __repr__(self) -> str:
        return f"<Caller {self.level.value}>"

    def require_operator(self) -> None:
        """
        Refuse those who may only look; of the others it is noted what they ask.

        :raises OperatorError: always for them.
        """
        if self.level is not Level.OPERATOR:
            raise OperatorError("forbidden", "this is for looking only (level=read)")
        self._steered()

    async def each(self, things: Iterable[T], visit: Callable[[T], None]) -> None:
        """Call `visit` with each of `things`, in slices."""
        await self._turns.each(things, visit)

    async def turn(self) -> None:
        """Wait until it is this client's turn."""
        await self._turns.take()

    # What goes on for a while

    def tell(self, event: Mapping[str, Any]) -> bool:
        """Send an event, unless the client is slow; say whether it was sent."""
        if not self._is_listening():
            return False
        self._tell(event)
        return True

    def begin(self) -> None:
        """A request is served from here on."""
        self._interrupted = False

    def interrupt(self) -> None:
        """End what goes on."""
        self._interrupted = True
        self._go_on()

    def pause(self, seconds: float) -> Deferred[bool]:
        """Wait; the result says whether what goes on is to end."""
        waiting: Deferred[bool] = Deferred(lambda _: self._forget())
        self._pause = waiting
        self._timer = self.clock.callLater(0 if self._interrupted else seconds, self._go_on)
        return waiting

    def _forget(self) -> None:
        timer, self._timer, self._pause = self._timer, None, None
        if timer is not None and timer.active():
            timer.cancel()

    def _go_on(self) -> None:
        waiting = self._pause
        self._forget()
        if waiting is not None:
            waiting.callback(self._interrupted)
