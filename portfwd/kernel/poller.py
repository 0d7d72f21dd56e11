# -*- test-case-name: tests.kernel.test_poller -*-
"""
One edge-triggered epoll set, itself a single reader of whatever reactor runs.

A descriptor is registered once and never modified: being paused just means
not reading. The set therefore sees a peer die on streams that nobody reads,
which a reactor's level-triggered set cannot show without spinning.

The rules it keeps (each was a bug somewhere):

- An exception ends the session of the one who raised it, never the poller: the
  reactor drops a reader whose ``doRead`` raises, and every session with it.
- Descriptor numbers are reused at once. `Poller.forget` is therefore the only way out of the set: it drops
  the watcher at once, and closes the socket after the batch of events, so no event of the batch can reach
  another socket with the same number.
- Flows that are always ready take turns: a bounded part each, and between any
  two of them the events that came meanwhile, so bulk does not delay the others. A flow stands in the queue
  of turns at most once, whatever asks for its turn; without that, one busy socket has a thousand turns where
  the others have one.
- The set is made in `start`, after any fork: a duplicate of the descriptors
  in another process would keep events coming that nobody can remove.

It refuses to decide when a socket is closed: whoever watches it says so, by `forget`.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from typing import Final, Protocol, cast

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.kernel.failures import log_failure
from portfwd.kernel.reactor import Reactor

#: Events taken from the kernel in one turn: enough to amortise the system
#: call, few enough that the reactor's other readers get theirs.
MAX_EVENTS: Final = 256

#: Steps of one visit from the reactor, each a batch of events and one turn of a
#: flow in bulk. Many, because a visit costs as much as several small events;
#: not without end, because listeners and timers are the reactor's.
STEPS: Final = 16

#: All that a stream of ours is ever watched for: EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP.
EVENTS: Final = 0x2007  # spelled out where select has no epoll
#: A connect has an outcome: EPOLLOUT | EPOLLHUP | EPOLLERR.
OUTCOME: Final = 0x1C
#: The peer ended, or the connection died (RDHUP covers an end that waits behind unread bytes).
DEATH: Final = 0x2018  # EPOLLRDHUP | EPOLLHUP | EPOLLERR; spelled out where select has no epoll
#: The connection broke: EPOLLERR. HUP alone is also how a connection looks whose two ends crossed.
ERROR: Final = 0x8


class Watcher(Protocol):
    """Who wants a descriptor's events."""

    def ready(self, events: int) -> None:
        """The descriptor has had an edge: bits of ``select.EPOLL*``."""

    def failed(self, failure: Failure) -> None:
        """`ready` raised `failure`, which is already logged: end what belongs to this descriptor."""


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


@implementer(IReadDescriptor)
class Poller:
    """
    Tells watchers of the events of their descriptors, and lets flows take turns.

    :ivar failures: how many times a watcher or a turn raised.
    :ivar now: the reactor's seconds at the last batch of events.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._turns: deque[Turn] = deque()
        self._leaving: list[socket.socket] = []
        self._busy = False
        self._soon: IDelayedCall | None = None
        self.now = reactor.seconds()
        # By descriptor: the kernel gives the least that is free, so a list wastes less than a dict.
        self._watchers: list[Watcher | None] = []
        self._epoll: select.epoll | None = None
        self._log = Logger()
        self.failures = 0

    def __repr__(self) -> str:
        if self._epoll is None:
            return "<Poller stopped>"
        return f"<Poller watching {len(self._watchers) - self._watchers.count(None)}>"

    def start(self) -> None:
        """Make the epoll set and join the reactor. To be called after forking."""
        self._epoll = select.epoll()
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Leave the reactor and forget every descriptor."""
        if self._epoll is not None:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None
            self._watchers[:] = [None] * len(self._watchers)
            while self._turns:
                self._turns.pop().queued = False
            if self._soon is not None:
                self._soon.cancel()
                self._soon = None

    def watch(self, descriptor: int, events: int, watcher: Watcher) -> None:
        """
        Tell `watcher` of the bits of `events` (``select.EPOLL*``) at each edge, and of those that are there
        now.

        Of a descriptor that is watched already, the events and the watcher are replaced.

        :raises OSError: the kernel refuses (``ENOSPC``, ``ENOMEM``): nothing is watched then.
        """
        if self._epoll is None:
            raise ValueError("the poller does not run")
        watchers = self._watchers
        if descriptor >= len(watchers):
            watchers.extend([None] * (descriptor + 1 - len(watchers)))
        if watchers[descriptor] is None or not self._modify(descriptor, events):
            self._epoll.register(descriptor, events | select.EPOLLET)
        watchers[descriptor] = watcher

    def _modify(self, descriptor: int, events: int) -> bool:
        """Ask for other events of what is watched; False where its socket was closed elsewhere."""
        try:
            cast(select.epoll, self._epoll).modify(descriptor, events | select.EPOLLET)
        except FileNotFoundError:
            return False
        return True

    def hand_over(self, descriptor: int, watcher: Watcher) -> None:
        """From here on `watcher` is told of `descriptor`, which is watched already."""
        self._watchers[descriptor] = watcher

    def forget(self, sock: socket.socket, *, inherited: bool = False) -> None:
        """
        Watch `sock` no more, if it was watched, and close it.

        The watcher is told nothing from here on. Within a batch of events the socket is closed, and its
        number free for another, after the batch.

        The kernel takes a descriptor out of the set when the last duplicate of it is closed (epoll(7)),
        which is half the price of asking for it. A child process that was forked may hold a duplicate still:
        then events of a connection that is gone can come for another one that got its number, so streams
        verify a death.

        :param inherited: another process may hold a duplicate for long: take the descriptor out by asking.
        """
        descriptor = sock.fileno()
        if 0 <= descriptor < len(self._watchers):
            if inherited and self._epoll is not None and self._watchers[descriptor] is not None:
                self._epoll.unregister(descriptor)
            self._watchers[descriptor] = None
        if self._busy:
            self._leaving.append(sock)
        else:
            sock.close()

    def take_turn(self, turn: Turn) -> None:
        """
        Run `turn` soon, after the events that are waiting; it says itself whether it wants another.

        It has one turn, however often it asks before that.
        """
        if not turn.queued:
            turn.queued = True
            self._turns.append(turn)
            if not self._busy:
                self._run_soon()

    def look_at_clock(self) -> None:
        """Bring `now` up to date, for who is not called by the poller."""
        if not self._busy:
            self.now = self._reactor.seconds()

    def fileno(self) -> int:
        """The epoll set's own descriptor, which is readable when events wait."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def doRead(self) -> None:
        """Deliver events and run turns, until there are none or the reactor's others must get theirs."""
        if self._epoll is None or self._busy:
            return
        self._busy = True
        try:
            self._work(self._epoll)
        finally:
            self._busy = False
            self._close_leaving()
            if self._turns:
                self._run_soon()

    def _work(self, epoll: select.epoll) -> None:
        turns, watchers = self._turns, self._watchers
        for _ in range(STEPS):
            self.now = self._reactor.seconds()
            batch = epoll.poll(0, MAX_EVENTS)
            for descriptor, bits in batch:
                watcher = watchers[descriptor]
                if watcher is not None:
                    try:
                        watcher.ready(bits)
                    except BaseException:
                        self._report(watcher)
            self._close_leaving()
            if turns:
                # One turn, then events again: somebody with little to say is
                # heard between any two of those who have much.
                turn = turns.popleft()
                turn.queued = False
                try:
                    turn.run()
                except BaseException:
                    self._report(turn)
            elif not batch or epoll.closed:
                return
            if epoll.closed:
                return

    def _close_leaving(self) -> None:
        while self._leaving:
            self._leaving.pop().close()

    def _report(self, who: Watcher | Turn) -> None:
        self.failures += 1
        failure = Failure()
        log_failure(self._log, "an event of {who!r} failed", failure, who=who)
        try:
            who.failed(failure)
        except BaseException:
            log_failure(self._log, "and so did the end of {who!r}", who=who)

    def _run_soon(self) -> None:
        if self._soon is None and self._epoll is not None:
            self._soon = self._reactor.callLater(0, self._run_now)

    def _run_now(self) -> None:
        self._soon = None
        self.doRead()

    def connectionLost(self, reason: Failure) -> None:
        """Called by a reactor that gives the poller up; there is no way on from here."""
        self._log.critical("the poller was removed from the reactor: {reason}", reason=reason)

    def logPrefix(self) -> str:
        """The prefix of log lines made during a batch."""
        return "portfwd"
