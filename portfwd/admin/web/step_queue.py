# -*- test-case-name: tests.admin.web.test_step_queue -*-
"""Limits the work of many connections in one iteration of the reactor."""

from __future__ import annotations

from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime

#: Steps of all connections of one listener in one iteration of the reactor. A step reads and answers at most
#: one request, in 0.3 ms and more, for which traffic waits.
STEPS_PER_TURN: Final = 1


class HasSteps(Protocol):
    """Something with work in steps."""

    def step(self) -> None:
        """Do one step."""


class StepQueue:
    """Connections that wait for a step, served in order, `STEPS_PER_TURN` in one iteration of the reactor."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: dict[HasSteps, None] = {}
        self._left = STEPS_PER_TURN

    def __repr__(self) -> str:
        return f"<StepQueue {len(self._waiting)} waiting>"

    def add(self, connection: HasSteps) -> None:
        """Let `connection` do one step: at once if no other one had one, else in a later iteration."""
        self._waiting[connection] = None
        self._serve()

    def discard(self, connection: HasSteps) -> None:
        """Forget `connection`."""
        self._waiting.pop(connection, None)

    def __contains__(self, connection: HasSteps) -> bool:
        return connection in self._waiting

    def _serve(self) -> None:
        while self._waiting and self._left:
            if self._left == STEPS_PER_TURN:
                self._clock.callLater(0, self._next_turn)
            self._left -= 1
            connection = next(iter(self._waiting))
            del self._waiting[connection]
            connection.step()

    def _next_turn(self) -> None:
        self._left = STEPS_PER_TURN
        self._serve()
