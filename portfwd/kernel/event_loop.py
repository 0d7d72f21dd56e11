# -*- test-case-name: tests.kernel.test_event_loop -*-
"""
A reactor that waits on the poller's epoll set and has a monotonic clock.

Twisted's epoll reactor with four differences:

- While a `Poller` runs, the reactor waits on the poller's set. The reactor's own set is one level-triggered
  descriptor of that set. An event of a session thus costs one ``epoll_wait`` and no iteration of the
  reactor's loop, which looks at timers and at calls from threads each time.
- It waits until a delayed call is due or added, a thread has called, or the reactor is stopped.
- It serves at most `MOST` descriptors of its own set at a time. Twisted serves all ready ones; thousands of
  TLS clients that send at once would then delay every session.
- `seconds` is the monotonic clock, so no delayed call, limit or timeout depends on the wall clock.

Without a poller it behaves as Twisted's reactor. It uses no private name of Twisted: it finds the reactor's
set by its type, and if it finds none, the poller is a reader as under any other reactor. This module cannot
be imported on systems without epoll.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from twisted.internet.base import DelayedCall
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.kernel.reactor import EventSet, WaitingReactor

#: Descriptors of the reactor's own set served before those of the poller. A TLS handshake takes one
#: millisecond.
MOST: Final = 8


class _Few:
    """The reactor's own set. It returns at most `MOST` descriptors at a time, each time other ones first."""

    def __init__(self, whole: select.epoll) -> None:
        self._whole = whole
        self.register, self.unregister, self.modify = whole.register, whole.unregister, whole.modify
        self.fileno, self.close = whole.fileno, whole.close

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        """See `select.epoll.poll`."""
        return self._whole.poll(timeout, min(most, MOST))


class _OwnSet:
    """The reactor's own set as a watched descriptor of the poller."""

    def __init__(self, serve: Callable[[], None], failed: Callable[[Failure], None]) -> None:
        self._serve = serve
        self._failed = failed

    def __repr__(self) -> str:
        return "<the reactor's own descriptors>"

    def ready(self, events: int) -> None:
        """Serve the reactor's descriptors that are ready."""
        self._serve()

    def failed(self, failure: Failure) -> None:
        """The reactor itself failed. Exceptions of its descriptors are handled by Twisted."""
        self._failed(failure)


@implementer(WaitingReactor)
class PollerReactor(EPollReactor):
    """See the module. Attributes are mangled so that none collides with one of Twisted's."""

    seconds = staticmethod(monotonic)

    def __init__(self) -> None:
        super().__init__()
        self.__poller: EventSet | None = None
        self.__move: Callable[[DelayedCall], None] | None = None
        sets = [name for name, value in vars(self).items() if isinstance(value, select.epoll)]
        self.__own: select.epoll | None = None
        if len(sets) == 1:
            self.__own = vars(self)[sets[0]]
            vars(self)[sets[0]] = _Few(self.__own)

    def wait_on(self, events: EventSet | None) -> bool:
        """See `WaitingReactor`."""
        if events is None:
            self.__recall()
            self.__poller = None
            return True
        if self.__poller is not None or self.__own is None:
            return False
        own = _OwnSet(self.__serve_own, events.give_up)
        events.watch(self.__own.fileno(), select.EPOLLIN, own, edge=0)
        self.__poller = events
        return True

    def __serve_own(self) -> None:
        super().doPoll(0)
        if self.threadCallQueue:
            self.__recall()

    def __recall(self) -> None:
        """Make the loop return from its wait and look at timers, threads and its state again."""
        if self.__poller is not None:
            self.__poller.recalled = True

    # The reactor's loop

    def doPoll(self, timeout: float | None) -> None:
        """Deliver events for at most `timeout` seconds; None: until the reactor has other work."""
        poller = self.__poller
        if poller is None:
            super().doPoll(timeout)
        else:
            poller.serve(timeout)

    doIteration = doPoll

    def iterate(self, delay: float = 0.0) -> None:
        """See `IReactorCore.iterate`: deliver at most one batch of events."""
        poller = self.__poller
        if poller is None:
            super().iterate(delay)
        else:
            self.runUntilCurrent()
            poller.serve(delay, once=True)

    def stop(self) -> None:
        """See `IReactorCore.stop`."""
        super().stop()
        self.__recall()

    def crash(self) -> None:
        """See `IReactorCore.crash`."""
        super().crash()
        self.__recall()

    # Delayed calls

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002 - the interface's name
        *args: object,
        **kw: object,
    ) -> DelayedCall:
        """See `IReactorTime.callLater`."""
        call = super().callLater(delay, callable, *args, **kw)
        # A call that was reset to an earlier time may be due before the wait of the loop ends.
        self.__move, call.resetter = call.resetter, self.__moved_up
        self.__recall()
        return call

    def __moved_up(self, call: DelayedCall) -> None:
        if self.__move is not None:
            self.__move(call)
        self.__recall()


def install() -> None:
    """Install this reactor for the process, as Twisted's reactor modules do."""
    installReactor(PollerReactor())
