# -*- test-case-name: tests.admin.test_turns -*-
"""
Who works when, of all clients of all control sockets.

However many clients ask, and however much each of them asks at once, they get `SLICE` together
before traffic gets its turn, and one step of one of them more at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator

#: Seconds of work before traffic gets its turn: a twentieth of the 50 ms for which a reload may make it wait.
SLICE: Final = 0.0025

T = TypeVar("T")


class Turns:
    """Shared by those who are not to be slow together."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._cooperator = Cooperator(
            terminationPredicateFactory=self._slice,
            scheduler=lambda call: clock.callLater(0, call),
        )

    def __repr__(self) -> str:
        return "<Turns>"

    def _slice(self) -> Callable[[], bool]:
        until = self._clock.seconds() + SLICE
        return lambda: self._clock.seconds() >= until

    async def take(self) -> None:
        """Wait until it is one's turn; what is done then, up to the next wait, is a step."""
        await self._cooperator.coiterate(iter(()))

    async def each(self, things: Iterable[T], visit: Callable[[T], None]) -> None:
        """Call `visit` with each of `things`, each of which is a step."""

        def steps() -> Iterator[None]:
            for thing in things:
                visit(thing)
                yield None

        await self._cooperator.coiterate(steps())
