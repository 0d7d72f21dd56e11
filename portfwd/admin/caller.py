# -*- test-case-name: tests.admin.test_caller -*-
"""
The interface between a command and the client that sent it.

Work is done in turns that all clients share. Commands with events send them while the client reads. Events
are dropped while it does not read.
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
    One client.

    :ivar level: its permission level.
    :ivar operator: the forwarder.
    :ivar clock: the monotonic clock.
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
        :param is_listening: returns whether the client has read all that was sent.
        :param steered: called before a request changes something.
        :param turns: the turns, shared with other clients; None to make them.
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
        Refuse clients with the level ``read``, and log the requests of others.

        :raises OperatorError: the client has the level ``read``.
        """
        if self.level is not Level.OPERATOR:
            raise OperatorError("forbidden", "this listener allows only reading (level=read)")
        self._steered()

    async def each(self, things: Iterable[T], visit: Callable[[T], None]) -> None:
        """Call `visit` with each of `things`, in slices."""
        await self._turns.each(things, visit)

    async def turn(self) -> None:
        """Wait for the next turn of this client."""
        await self._turns.take()

    # Events

    def tell(self, event: Mapping[str, Any]) -> bool:
        """Send an event, unless the client is slow; return whether it was sent."""
        if not self._is_listening():
            return False
        self._tell(event)
        return True

    def begin(self) -> None:
        """A request starts."""
        self._interrupted = False

    def interrupt(self) -> None:
        """End the request that sends events."""
        self._interrupted = True
        self._go_on()

    def pause(self, seconds: float) -> Deferred[bool]:
        """Wait `seconds`. The result is whether the request must end."""
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
