# -*- test-case-name: tests.kernel.test_poller -*-
"""The interfaces between portfwd's sockets and the reactor."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorCore, IReactorFDSet, IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure
from zope.interface import Interface


class Watcher(Protocol):
    """Receives the events of a descriptor."""

    def ready(self, events: int) -> None:
        """Handle `events`, bits of ``select.EPOLL*``, of the descriptor."""

    def failed(self, failure: Failure) -> None:
        """`ready` raised `failure`, which is logged. End the session of this descriptor."""


class EventSet(Protocol):
    """
    A set of descriptors that a reactor can wait on; `portfwd.kernel.poller.Poller` implements it.

    :ivar recalled: True makes `serve` return, because the reactor has other work.
    """

    recalled: bool

    def watch(self, descriptor: int, events: int, watcher: Watcher, *, edge: int) -> None:
        """Deliver the events of `descriptor` to `watcher`."""

    def serve(self, delay: float | None, *, once: bool = False) -> None:
        """Wait for events and deliver them, for at most `delay` seconds, or `once` one batch."""

    def give_up(self, failure: Failure) -> None:
        """Stop: waiting on the set failed."""


class Reactor(IReactorCore, IReactorFDSet, IReactorFromThreads, IReactorTime):
    """The four interfaces that every POSIX reactor of Twisted provides. For annotations only."""


class WaitingReactor(Interface):
    """A reactor that can wait on an `EventSet` instead of its own set."""

    def wait_on(events: EventSet | None) -> bool:  # noqa: N805 - as zope has it
        """
        Wait on `events` from now on, or on the reactor's own set again.

        :param events: a started set; None for the reactor's own.
        :returns: False if the reactor waits on another set already; the caller then adds `events` as a
            reader.
        """
