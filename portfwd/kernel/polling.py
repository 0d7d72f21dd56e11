# -*- test-case-name: tests.kernel.test_poller -*-
"""The interfaces between the poller and its users: turns and the registration of descriptors."""

from __future__ import annotations

import socket
from typing import Final, Protocol

from twisted.python.failure import Failure

from portfwd.kernel.reactor import Watcher

#: EPOLLET, for systems whose ``select`` has no epoll: edge-triggered, an event is reported once.
EDGE: Final = 1 << 31


class Turn(Protocol):
    """
    Work that is longer than the handling of one event may be.

    :ivar queued: whether it is in the queue of turns. False at first; only the poller sets it.
    """

    queued: bool

    def run(self) -> None:
        """Do a bounded part of the work. Call `Polling.take_turn` again if work is left."""

    def failed(self, failure: Failure) -> None:
        """`run` raised `failure`. The poller has logged it."""


class Polling(Protocol):
    """
    A `Poller`, or one group of its descriptors.

    :ivar now: time of the last batch of events, in seconds of the reactor's clock.
    """

    @property
    def now(self) -> float:
        """See the class."""

    def look_at_clock(self) -> None:
        """Update `now`. For code that is not called by the poller."""

    def watch(self, descriptor: int, events: int, watcher: Watcher, *, edge: int = EDGE) -> None:
        """Deliver events to `watcher`; see `Poller.watch`."""

    def hand_over(self, descriptor: int, watcher: Watcher) -> None:
        """Deliver further events of `descriptor`, which is watched already, to `watcher`."""

    def forget(self, sock: socket.socket, *, inherited: bool = False) -> None:
        """Stop watching `sock` and close it; see `Poller.forget`."""

    def take_turn(self, turn: Turn) -> None:
        """Queue `turn`; see `Poller.take_turn`."""
