# -*- test-case-name: tests.kernel.test_poller -*-
"""What a poller and its users know of each other: turns, and where events are asked for."""

from __future__ import annotations

import socket
from typing import Final, Protocol

from twisted.python.failure import Failure

from portfwd.kernel.reactor import Watcher

#: EPOLLET, spelled out where select has no epoll: an event is told once.
EDGE: Final = 1 << 31


class Turn(Protocol):
    """
    Who has more to do than one event may take.

    :ivar queued: it stands in the queue of turns. False at first; only the poller sets it.
    """

    queued: bool

    def run(self) -> None:
        """Do a bounded part of it, and ask for another turn for the rest."""

    def failed(self, failure: Failure) -> None:
        """`run` raised `failure`, which is already logged."""


class Polling(Protocol):
    """
    A `Poller`, or a group of its descriptors.

    :ivar now: the reactor's seconds at the last batch of events.
    """

    @property
    def now(self) -> float:
        """See the class."""

    def look_at_clock(self) -> None:
        """Bring `now` up to date, for who is not called by the poller."""

    def watch(self, descriptor: int, events: int, watcher: Watcher, *, edge: int = EDGE) -> None:
        """Tell `watcher` of events; see `Poller.watch`."""

    def hand_over(self, descriptor: int, watcher: Watcher) -> None:
        """From here on `watcher` is told of `descriptor`, which is watched already."""

    def forget(self, sock: socket.socket, *, inherited: bool = False) -> None:
        """Watch `sock` no more, and close it; see `Poller.forget`."""

    def take_turn(self, turn: Turn) -> None:
        """Run `turn` soon; see `Poller.take_turn`."""
