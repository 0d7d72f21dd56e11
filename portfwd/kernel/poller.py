# -*- test-case-name: tests.kernel.test_poller -*-
"""
One edge-triggered epoll set, which the reactor waits on, or which is a single reader of whatever reactor
runs.

A reactor that can (`portfwd.kernel.event_loop`) waits on this set instead of its own: one ``epoll_wait`` then
delivers what three do otherwise. Under every other reactor the set is nested: a descriptor among its others.

A descriptor is registered once and never modified: being paused just means
not reading. The set therefore sees a peer die on streams that nobody reads,
which a reactor's level-triggered set cannot show without spinning.

The rules it keeps (each was a bug somewhere):

- An exception, of whatever class, ends the session of the one who raised it, never the poller: the
  reactor drops a reader whose ``doRead`` raises, and every session with it. Should the poller be lost all
  the same, its owner is told, for nothing moves any more.
- Descriptor numbers are reused at once. `Poller.forget` is therefore the only way out of the set: it drops
  the watcher at once, and closes the socket after the batch of events, so no event of the batch can reach
  another socket with the same number.
- Flows that are always ready take turns: a bounded part each, and between any
  two of them the events that came meanwhile, so bulk does not delay the others. A flow stands in the queue
  of turns at most once, whatever asks for its turn; without that, one busy socket has a thousand turns where
  the others have one.
- Events and turns of one rule do not delay those of others, however many there are: each rule watches by a
  group of its own, and when there are many events the groups take turns (`portfwd.kernel.fair_queues`).
- The set is made in `start`, after any fork: a duplicate of the descriptors
  in another process would keep events coming that nobody can remove.

It refuses to decide when a socket is closed: whoever watches it says so, by `forget`.
"""

from __future__ import annotations

import math
import os
import select
import socket
from collections.abc import Callable
from typing import Final, cast
from weakref import WeakValueDictionary

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.kernel.failures import log_failure
from portfwd.kernel.fair_queues import FairQueues, Group
from portfwd.kernel.polling import EDGE, Polling, Turn
from portfwd.kernel.reactor import Reactor, WaitingReactor, Watcher

#: Events taken from the kernel in one turn: enough to amortise the system
#: call, few enough that the reactor's other readers get theirs.
MAX_EVENTS: Final = 256

#: Events of one batch that are delivered as they came. More of them are shared out among groups, which costs
#: a percent of what they take.
FEW: Final = 64

#: Events that are taken at once when there are many: all of them, for the kernel has them in one queue.
MANY: Final = 4096

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


@implementer(IReadDescriptor)
class Poller:
    """
    Tells watchers of the events of their descriptors, and lets flows take turns.

    :ivar failures: how many times a watcher or a turn raised.
    :ivar now: the reactor's seconds at the last batch of events.
    :ivar recalled: the reactor that waits on this set has something else to do: `serve` is to return.
    """

    def __init__(self, reactor: Reactor, lost: Callable[[Failure], None] | None = None) -> None:
        """
        :param lost: told once if no event is delivered any more, because an exception left the poller or the
            reactor gave it up.
        """
        self._reactor = reactor
        self._seconds = reactor.seconds
        self._lost = lost
        self._is_hosted = self._is_read = False
        self.recalled = False
        self._queues = FairQueues()
        self._groups: WeakValueDictionary[str, Group] = WeakValueDictionary()
        self._common = Group("")
        self._leaving: list[socket.socket] = []
        self._busy = False
        self._soon: IDelayedCall | None = None
        self.now = reactor.seconds()
        # By descriptor: the kernel gives the least that is free, so a list wastes less than a dict.
        self._watchers: list[Watcher | None] = []
        self._group_of: list[Group] = []
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
        host = WaitingReactor(self._reactor, None)
        self._is_hosted = host is not None and host.wait_on(self)
        if not self._is_hosted:
            self._reactor.addReader(self)
            self._is_read = True

    def stop(self) -> None:
        """Leave the reactor and forget every descriptor."""
        if self._epoll is not None:
            self._leave_reactor()
            self._epoll.close()
            self._epoll = None
            self._watchers[:] = [None] * len(self._watchers)
            self._queues.clear()
            if self._soon is not None:
                self._soon.cancel()
                self._soon = None

    def _leave_reactor(self) -> None:
        if self._is_hosted:
            self._is_hosted = False
            WaitingReactor(self._reactor).wait_on(None)
        elif self._is_read:
            self._is_read = False
            self._reactor.removeReader(self)

    def group(self, name: str) -> Polling:
        """What watches all that belongs to the rule called `name`; rules are served in turn."""
        found = self._groups.get(name)
        if found is None:
            found = self._groups[name] = Group(name)
        return _InGroup(self, found)

    def watch(
        self, descriptor: int, events: int, watcher: Watcher, *, edge: int = EDGE, group: Group | None = None
    ) -> None:
        """
        Tell `watcher` of the bits of `events` (``select.EPOLL*``) at each edge, and of those that are there
        now.

        Of a descriptor that is watched already, the events and the watcher are replaced.

        :param edge: 0: tell of what is there, again and again.
        :param group: whose it is; None: one that all others share.
        :raises OSError: the kernel refuses (``ENOSPC``, ``ENOMEM``): nothing is watched then.
        """
        if self._epoll is None:
            raise ValueError("the poller does not run")
        watchers = self._watchers
        if descriptor >= len(watchers):
            more = descriptor + 1 - len(watchers)
            watchers.extend([None] * more)
            self._group_of.extend([self._common] * more)
        if watchers[descriptor] is None or not self._modify(descriptor, events | edge):
            self._epoll.register(descriptor, events | edge)
        watchers[descriptor] = watcher
        self._group_of[descriptor] = self._common if group is None else group

    def _modify(self, descriptor: int, events: int) -> bool:
        """Ask for other events of what is watched; False where its socket was closed elsewhere."""
        try:
            cast(select.epoll, self._epoll).modify(descriptor, events)
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

        :param inherited: another process may hold a duplicate for long: take the descriptor out by asking,
            and close the socket at once, so that its address can be bound again; only its number stays taken.
        """
        descriptor = sock.fileno()
        if 0 <= descriptor < len(self._watchers):
            if inherited and self._epoll is not None and self._watchers[descriptor] is not None:
                self._epoll.unregister(descriptor)
                if self._busy:
                    os.dup2(self._epoll.fileno(), descriptor, inheritable=False)
            self._watchers[descriptor] = None
            self._group_of[descriptor].forget(descriptor)
        if self._busy:
            self._leaving.append(sock)
        else:
            sock.close()

    def take_turn(self, turn: Turn, group: Group | None = None) -> None:
        """
        Run `turn` soon, after the events that are waiting; it says itself whether it wants another.

        It has one turn, however often it asks before that.

        :param group: whose it is; None: one that all others share.
        """
        if not turn.queued:
            turn.queued = True
            self._queues.add_turn(self._common if group is None else group, turn)
            if not self._busy:
                self._run_soon()

    def look_at_clock(self) -> None:
        """Bring `now` up to date, for who is not called by the poller."""
        if not self._busy:
            self.now = self._reactor.seconds()

    def fileno(self) -> int:
        """The epoll set's own descriptor, which is readable when events wait."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def serve(self, delay: float | None, *, once: bool = False) -> None:
        """
        Wait for events and deliver them, and run turns, for a reactor that waits on this set.

        Returns when `delay` seconds are over, when `recalled` was set, or when the poller was stopped.

        :param delay: None: without end.
        :param once: return after one batch of events, or none.
        """
        epoll = self._epoll
        if epoll is None or self._busy or not self._is_hosted:
            return
        self._busy, self.recalled = True, False
        try:
            end = math.inf if delay is None else self._seconds() + delay
            while True:
                self._step(epoll, delay)
                if once or self.recalled or not self._is_hosted:
                    return
                if end < math.inf:
                    delay = end - self.now
                    if delay <= 0:
                        return
        except BaseException:
            self.give_up(Failure())
        finally:
            self._busy = False
            self._close_leaving()

    def doRead(self) -> None:
        """Deliver events and run turns, until there are none or the reactor's others must get theirs."""
        epoll = self._epoll
        if epoll is None or self._busy or not self._is_read:
            return
        self._busy = True
        try:
            for _ in range(STEPS):
                if not self._step(epoll, 0) or not self._is_read:
                    return
        except BaseException:
            self.give_up(Failure())
        finally:
            self._busy = False
            self._close_leaving()
            if self._queues.with_turns or self._queues.with_events:
                self._run_soon()

    def _step(self, epoll: select.epoll, delay: float | None) -> bool:
        """
        Deliver one batch of events, then run one turn; say whether there was any of it.

        So somebody with little to say is heard between any two turns of those who have much.

        :param delay: seconds to wait for events, unless somebody waits for its turn; None: without end.
        """
        queues, watchers = self._queues, self._watchers
        with_turns, with_events = queues.with_turns, queues.with_events
        batch = epoll.poll(0 if with_turns or with_events else delay, MAX_EVENTS)
        self.now = self._seconds()
        if len(batch) > FEW or with_events:
            batch = self._shared_out(epoll, batch)
        for descriptor, bits in batch:
            watcher = watchers[descriptor]
            if watcher is not None:
                try:
                    watcher.ready(bits)
                except BaseException:
                    self._report(watcher)
        if self._leaving:
            # Before the turn, which may be a listener's: what has left gives its descriptors to new clients.
            self._close_leaving()
        if with_turns:
            turn = queues.next_turn()
            turn.queued = False
            try:
                turn.run()
            except BaseException:
                self._report(turn)
        # Behind the turn, which may have ended a session: the next step may wait for seconds.
        if self._leaving:
            self._close_leaving()
        return bool(with_turns or batch)

    def _shared_out(self, epoll: select.epoll, batch: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Put `batch`, and what more the kernel has, behind what waits; take some events of each group."""
        queues, group_of = self._queues, self._group_of
        if len(batch) == MAX_EVENTS:
            # What is level-triggered comes twice, and is told once.
            batch = batch + epoll.poll(0, MANY)
        for descriptor, bits in batch:
            queues.add_event(group_of[descriptor], descriptor, bits)
        return queues.next_events()

    def _close_leaving(self) -> None:
        while self._leaving:
            try:
                self._leaving.pop().close()
            except OSError:
                # What went wrong with what was written is told by the calls that wrote it.
                log_failure(self._log, "a socket did not close in order")

    def _report(self, who: Watcher | Turn) -> None:
        self.failures += 1
        failure = Failure()
        log_failure(self._log, "an event of {who!r} failed", failure, who=who)
        try:
            who.failed(failure)
        except BaseException:
            log_failure(self._log, "and so did the end of {who!r}", who=who)

    def _run_soon(self) -> None:
        if self._soon is None and self._epoll is not None and not self._is_hosted:
            self._soon = self._reactor.callLater(0, self._run_now)

    def _run_now(self) -> None:
        self._soon = None
        self.doRead()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gives the poller up: nothing is delivered from here on, unless it stops anyhow."""
        if self._is_read and self._reactor.running:
            self.give_up(reason)

    def give_up(self, failure: Failure) -> None:
        """Something broke that every event needs: leave the reactor, and tell the owner."""
        log_failure(self._log, "no event is delivered any more", failure)
        try:
            self._leave_reactor()
        except OSError:
            log_failure(self._log, "nor does the reactor work")
        lost, self._lost = self._lost, None
        if lost is not None:
            lost(failure)

    def logPrefix(self) -> str:
        """The prefix of log lines made during a batch."""
        return "portfwd"


class _InGroup:
    """The poller, for what belongs to one group; see `Polling`."""

    def __init__(self, poller: Poller, group: Group) -> None:
        self._poller = poller
        self._group = group
        self.look_at_clock = poller.look_at_clock
        self.hand_over = poller.hand_over
        self.forget = poller.forget

    def __repr__(self) -> str:
        return f"<{self._group!r} of {self._poller!r}>"

    @property
    def now(self) -> float:
        return self._poller.now

    def watch(self, descriptor: int, events: int, watcher: Watcher, *, edge: int = EDGE) -> None:
        self._poller.watch(descriptor, events, watcher, edge=edge, group=self._group)

    def take_turn(self, turn: Turn) -> None:
        self._poller.take_turn(turn, self._group)
