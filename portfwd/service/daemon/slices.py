# -*- test-case-name: tests.service.daemon.test_slices -*-
"""
Long work between events: a few milliseconds at a time, so that traffic does not stand still.

`Steps` say where they may be interrupted; this runs them for `SLICE` seconds,
lets the reactor serve whatever came, and goes on. It refuses to use threads:
what is built here is what the reactor works with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from portfwd.rules.steps import Steps

#: Seconds of work between two looks at the sockets: a tenth of the longest stall that a reload may cause.
SLICE: Final = 0.005

T = TypeVar("T")


class Slices(Generic[T]):
    """
    One piece of work that is under way.

    :ivar longest: seconds of the longest slice so far.
    """

    def __init__(
        self, clock: IReactorTime, steps: Steps[T], seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """:param seconds: measures the slices."""
        self._clock = clock
        self._steps = steps
        self._seconds = seconds
        self._next: IDelayedCall | None = None
        self._done: Deferred[T] | None = None
        self.longest = 0.0

    def start(self) -> Deferred[T]:
        """
        Do a first slice now, and the others between events.

        :returns: fires with what the steps return, or fails with what they raise.
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

    def _wake(self) -> bool:
        """Whether there was still something to do; the next slice is not waited for any more."""
        if self._next is None:
            return False
        self._next.cancel()
        self._next = None
        return True

    def give_up(self) -> None:
        """Stop between two steps; what `start` returned fails with `CancelledError`."""
        if self._wake():
            self._steps.close()
            self._over(Failure(CancelledError()))

    def hurry(self) -> None:
        """Do the rest now."""
        if self._wake():
            try:
                while True:
                    next(self._steps)
            except StopIteration as result:
                self._over(result.value)
            except BaseException:
                self._over(Failure())
