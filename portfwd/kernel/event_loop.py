# -*- test-case-name: tests.kernel.test_event_loop -*-
"""
A reactor that waits on the poller's epoll set, and whose clock nobody can set.

Twisted's epoll reactor with four differences:

- While a `Poller` runs, the reactor waits on the poller's set. Its own set is one descriptor of that one,
  level-triggered, and served when it is readable. So an event of a session costs one ``epoll_wait`` and no
  turn of the reactor's loop, which otherwise looks at its timers and at calls from threads each time.
- It stays in there until a delayed call is due or new, a thread has called, or it is told to stop.
- Of its own set it serves `MOST` descriptors at a time. Twisted serves all that are ready, and thousands of
  TLS clients that speak at once would delay every session.
- `seconds` is the monotonic clock, so no delayed call, limit or timeout depends on the wall clock.

Without a poller it is Twisted's. It touches no private name of Twisted: its own set is found by its type, and
where it is not found the poller's set is nested as under any other reactor. This module cannot be imported
where there is no epoll.
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

#: Descriptors of the reactor's own that are served before those of the poller: a TLS handshake takes a
#: millisecond.
MOST: Final = 8


class _Few:
    """The reactor's own set, which tells of `MOST` descriptors at a time, and next time of others first."""

    def __init__(self, whole: select.epoll) -> None:
        self._whole = whole
        self.register, self.unregister, self.modify = whole.register, whole.unregister, whole.modify
        self.fileno, self.close = whole.fileno, whole.close

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        """See `select.epoll.poll`."""
        return self._whole.poll(timeout, min(most, MOST))


class _OwnSet:
    """The reactor's own set, as a descriptor of the poller's."""

    def __init__(self, serve: Callable[[], None], failed: Callable[[Failure], None]) -> None:
        self._serve = serve
        self._failed = failed

    def __repr__(self) -> str:
        return "<the reactor's own descriptors>"

    def ready(self, events: int) -> None:
        """Some of the reactor's descriptors are ready."""
        self._serve()

    def failed(self, failure: Failure) -> None:
        """The reactor itself failed, for what its descriptors raise does not get here."""
        self._failed(failure)


@implementer(WaitingReactor)
class PollerReactor(EPollReactor):
    """See the module. Its attributes are mangled, so that none is by chance one of Twisted's."""

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
        """The loop is to look at what it was not told of when it began to wait."""
        if self.__poller is not None:
            self.__poller.recalled = True

    # The reactor's loop

    def doPoll(self, timeout: float | None) -> None:
        """Deliver events, for `timeout` seconds at most; None: until there is something else to do."""
        poller = self.__poller
        if poller is None:
            super().doPoll(timeout)
        else:
            poller.serve(timeout)

    doIteration = doPoll

    def iterate(self, delay: float = 0.0) -> None:
        """See `IReactorCore.iterate`: one batch of events, and no more."""
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
        # A call that is moved up may be due before the time for which the loop waits.
        self.__move, call.resetter = call.resetter, self.__moved_up
        self.__recall()
        return call

    def __moved_up(self, call: DelayedCall) -> None:
        if self.__move is not None:
            self.__move(call)
        self.__recall()


def install() -> None:
    """Make it the process's reactor, as Twisted's reactor modules do."""
    installReactor(PollerReactor())
