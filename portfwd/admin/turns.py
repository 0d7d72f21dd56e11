# -*- test-case-name: tests.admin.test_turns -*-
"""
Shares time slices among all clients of control sockets and web listeners.

Independent of the number of clients and requests, their work takes at most `SLICE` seconds plus one step per
iteration of the reactor. Then traffic is served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator

#: Seconds of work per iteration of the reactor. One step encodes a hundred rows, in 2 ms, and a garbage
#: collection takes as long; the sum stays below 5 ms.
SLICE: Final = 0.001

T = TypeVar("T")


class Turns:
    """Runs steps of several clients in turn, in one common time slice per iteration of the reactor."""

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
        """Wait for the next turn. The work of the caller until it waits again is one step."""
        await self._cooperator.coiterate(iter(()))

    async def each(self, things: Iterable[T], visit: Callable[[T], None]) -> None:
        """Call `visit` with each of `things`. Each call is one step."""

        def steps() -> Iterator[None]:
            for thing in things:
                visit(thing)
                yield None

        await self._cooperator.coiterate(steps())
