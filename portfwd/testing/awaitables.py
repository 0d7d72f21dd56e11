# -*- test-case-name: tests.testing.test_pipe -*-
"""
The awaitables for which the filters of a `Pipe` wait.

A Deferred is waited for as in the relay. A coroutine is run, or it waits until the test settles it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from portfwd.filters.chain.effects import Begin


class Awaitables:
    """What filters wait for, the oldest first."""

    def __init__(
        self,
        settled: Callable[[int, object], None],
        fires: Callable[[object], object] | None = None,
        *,
        runs: bool = False,
    ) -> None:
        """
        :param settled: called with the key of an awaitable and its result, or the exception that it raised.
        :param fires: returns the result of an awaitable, which is then there at once.
        :param runs: run coroutines; otherwise they wait for `settle_oldest`.
        """
        self._settled = settled
        self._fires = fires
        self._runs = runs
        self._begun: list[Begin] = []
        self._failed: list[Deferred[object]] = []

    def __repr__(self) -> str:
        return f"<Awaitables {len(self._begun)}>"

    @property
    def awaitables(self) -> list[Awaitable[object]]:
        """Those without a result."""
        return [begin.awaitable for begin in self._begun]

    def begin(self, begin: Begin) -> None:
        """Wait for an awaitable."""
        self._begun.append(begin)
        if self._fires is not None and not getattr(begin.awaitable, "called", False):
            result = self._fires(begin.awaitable)
            _dispose(begin.awaitable)
            self._settle(begin, result)
            return
        waited: Any = begin.awaitable
        if self._runs and isinstance(waited, Coroutine):
            waited = Deferred.fromCoroutine(waited)
        if isinstance(waited, Deferred):

            def fired(result: object) -> object:
                # As in the relay, the result is kept for others that await the same Deferred.
                if isinstance(result, Failure):
                    self._failed.append(waited)
                    self._settle(begin, result.value)
                else:
                    self._settle(begin, result)
                return result

            waited.addBoth(fired)

    def _settle(self, begin: Begin, result: object) -> None:
        if begin in self._begun:
            self._begun.remove(begin)
            self._settled(begin.key, result)

    def settle_oldest(self, result: object) -> None:
        """
        Give this result to the oldest one; an exception is raised there.

        :raises RuntimeError: no filter waits.
        """
        if not self._begun:
            raise RuntimeError("no filter waits for anything")
        begin = self._begun[0]
        _dispose(begin.awaitable)
        self._settle(begin, result)

    def abandon(self, key: int) -> None:
        """Wait no more for the awaitable with this key."""
        for begin in [one for one in self._begun if one.key == key]:
            self._begun.remove(begin)
            _dispose(begin.awaitable)

    def close(self) -> None:
        """Wait for nothing any more."""
        for begin in self._begun:
            _dispose(begin.awaitable)
        self._begun.clear()

    def see_failures(self) -> None:
        """Mark the failures of Deferreds as handled, so that Twisted does not log them. Filters got them."""
        while self._failed:
            try:
                next(iter(self._failed.pop()))
            except BaseException:  # noqa: S110 - the filter got the failure, which the Deferred keeps
                pass


def _dispose(awaitable: Any) -> None:
    # Python warns of a coroutine that is never awaited or closed.
    if hasattr(awaitable, "close"):
        awaitable.close()
