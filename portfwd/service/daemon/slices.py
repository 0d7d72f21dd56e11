# -*- test-case-name: tests.service.daemon.test_slices -*-
"""
Runs long work in slices of a few milliseconds, so that traffic continues.

`Steps` are interruptible after each step. `Slices` runs steps for `SLICE` seconds, returns to the reactor,
and continues. It uses no threads, because the steps build objects of the reactor thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from portfwd.rules.steps import Steps

#: Seconds of work per iteration of the reactor: a tenth of the longest stall that a reload may cause.
SLICE: Final = 0.005

T = TypeVar("T")


class Slices(Generic[T]):
    """
    One run of steps.

    :ivar longest: duration of the longest slice so far, in seconds.
    """

    def __init__(
        self, clock: IReactorTime, steps: Steps[T], seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """:param seconds: the clock that measures the slices."""
        self._clock = clock
        self._steps = steps
        self._seconds = seconds
        self._next: IDelayedCall | None = None
        self._done: Deferred[T] | None = None
        self.longest = 0.0

    def start(self) -> Deferred[T]:
        """
        Run the first slice now, and the others between events.

        :returns: a Deferred that fires with the result of the steps, or fails with their exception.
        """
        done: Deferred[T] = Deferred()
        self._done = done
        self._slice()
        return done

    def _slice(self) -> None:
        self._next = None
        begun = self._seconds()
        end = begun + SLICE
        try:
            next(self._steps)  # at least one, whatever the clock does
            while self._seconds() < end:
                next(self._steps)
        except StopIteration as result:
            self._over(result.value)
        except BaseException:
            self._over(Failure())
        else:
            self._next = self._clock.callLater(0, self._slice)
        finally:
            self.longest = max(self.longest, self._seconds() - begun)

    def _over(self, result: T | Failure) -> None:
        done, self._done = self._done, None
        if done is not None:
            done.callback(result)

    def _cancel_next(self) -> bool:
        """Cancel the next slice; return whether there was one."""
        if self._next is None:
            return False
        self._next.cancel()
        self._next = None
        return True

    def give_up(self) -> None:
        """Stop between two steps. The Deferred of `start` fails with `CancelledError`."""
        if self._cancel_next():
            self._steps.close()
            self._over(Failure(CancelledError()))

    def finish(self) -> None:
        """Run all remaining steps now."""
        if self._cancel_next():
            try:
                while True:
                    next(self._steps)
            except StopIteration as result:
                self._over(result.value)
            except BaseException:
                self._over(Failure())
