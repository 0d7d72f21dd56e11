# -*- test-case-name: tests.service.run.test_forwarder -*-
"""Runs the work of a reload in slices, between which sessions are served."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from portfwd.kernel.reactor import Reactor
from portfwd.rules.steps import Steps
from portfwd.service.daemon.slices import Slices

T = TypeVar("T")


class SlicedWork:
    """
    Runs work in slices.

    :ivar longest: seconds of the longest slice.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._at_work: Slices[Any] | None = None
        self._hurries = False
        self.longest = 0.0

    def __repr__(self) -> str:
        return f"<SlicedWork {'idle' if self._at_work is None else 'under way'}>"

    def in_slices(self, steps: Steps[T]) -> Deferred[T]:
        """Run `steps`. A stop of the forwarder ends them with `CancelledError`."""
        self._at_work = work = Slices(self._reactor, steps)

        def over(result: T | Failure) -> T | Failure:
            self._at_work = None
            self.longest = max(self.longest, work.longest)
            return result

        return work.start().addBoth(over)

    async def to_the_end(self, steps: Steps[None]) -> None:
        """Run steps in slices that a stop must not interrupt."""
        self._hurries = True
        try:
            await self.in_slices(steps)
        finally:
            self._hurries = False

    def end(self) -> None:
        """The forwarder stops: undo a preparation; complete a change or an undo."""
        if self._at_work is not None:
            if self._hurries:
                self._at_work.finish()
            else:
                self._at_work.give_up()
