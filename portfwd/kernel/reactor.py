# -*- test-case-name: tests.kernel.test_poller -*-
"""What portfwd's own sockets need of a reactor, as one interface for the types."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorCore, IReactorFDSet, IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure
from zope.interface import Interface


class Watcher(Protocol):
    """Receives the events of a descriptor."""

    def ready(self, events: int) -> None:
        """The descriptor has had an edge: bits of ``select.EPOLL*``."""

    def failed(self, failure: Failure) -> None:
        """`ready` raised `failure`, which is already logged: end what belongs to this descriptor."""


class EventSet(Protocol):
    """
    What a reactor that waits on another set calls; `portfwd.kernel.poller.Poller` implements it.

    :ivar recalled: the reactor has something else to do: `serve` is to return.
    """

    recalled: bool

    def watch(self, descriptor: int, events: int, watcher: Watcher, *, edge: int) -> None:
        """Pass the events of `descriptor` to `watcher`."""

    def serve(self, delay: float | None, *, once: bool = False) -> None:
        """Wait for events and deliver them; at most `delay` seconds, or one batch."""

    def give_up(self, failure: Failure) -> None:
        """Stop: the set cannot be waited on any more."""


class Reactor(IReactorCore, IReactorFDSet, IReactorFromThreads, IReactorTime):
    """No object provides it by name; every POSIX reactor of Twisted has all four parts."""


class WaitingReactor(Interface):
    """A reactor that can wait on an `EventSet` instead of its own set."""

    def wait_on(events: EventSet | None) -> bool:  # noqa: N805 - as zope has it
        """
        Wait on `events`, which has been made, from here on; None: on the reactor's own set again.

        :returns: False: another set is in use already; the caller nests its own.
        """
