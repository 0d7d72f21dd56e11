# -*- test-case-name: tests.kernel.test_poller -*-
"""
One edge-triggered epoll set for all sockets of portfwd.

A reactor that implements `WaitingReactor` (`portfwd.kernel.event_loop`) waits on this set instead of its own:
one ``epoll_wait`` then does the work of three. Every other reactor has the set as one of its readers.

A descriptor is registered once and not modified later. A paused stream is not read, but stays registered.
The set therefore reports the death of a peer on streams that are not read; a level-triggered set of a reactor
cannot do that without spinning.

The poller keeps these rules. Each of them was a bug once:

- An exception of any class ends the session whose code raised it, never the poller. A reactor drops a reader
  whose ``doRead`` raises, and all sessions would be lost with it. If the poller is lost nevertheless, it
  calls its owner, because no session can go on.
- The kernel reuses descriptor numbers at once. `Poller.forget` is therefore the only way out of the set. It
  drops the watcher at once and closes the socket after the batch of events, so no event of the batch can
  reach another socket with the same number.
- Flows that are always ready take turns. A turn is bounded, and the poller delivers new events between any
  two turns, so bulk transfers do not delay other sessions. The queue of turns holds a flow at most once;
  otherwise one busy socket gets a thousand turns where the others get one.
- Events and turns of one rule do not delay those of other rules. Each rule has a group, and the groups are
  served in turn when there are many events (`portfwd.kernel.fair_queues`).
- The set is made in `start`, after any fork. Duplicates of the descriptors in another process would otherwise
  cause events that cannot be removed.

The poller does not decide when a socket is closed. Its watcher does, with `forget`.
"""

from __future__ import annotations

import math
import os
import select
import socket
from collections.abc import Callable
from functools import partial
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

#: Events taken from the kernel with one call: enough to amortise the system call, few enough that the reactor
#: can serve its other readers.
MAX_EVENTS: Final = 256

#: A batch of at most this many events is delivered in the order of the kernel. A larger batch is sorted by
#: group, which adds about one percent to its cost.
FEW: Final = 64

#: Events taken with a second call after a full batch. The kernel has one queue for all groups, so it must be
#: emptied before the events can be sorted by group.
MANY: Final = 4096

#: Steps of one call from the reactor; a step is a batch of events and one turn. Many, because a call costs as
#: much as several small events. Not unlimited, because listeners and timers belong to the reactor.
STEPS: Final = 16

#: All events that a stream is watched for: EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP.
EVENTS: Final = 0x2007  # spelled out where select has no epoll
#: A connect has succeeded or failed: EPOLLOUT | EPOLLHUP | EPOLLERR.
OUTCOME: Final = 0x1C
#: The peer ended, or the connection died (RDHUP covers an end that waits behind unread bytes).
DEATH: Final = 0x2018  # EPOLLRDHUP | EPOLLHUP | EPOLLERR; spelled out where select has no epoll
#: The connection broke: EPOLLERR. EPOLLHUP alone also occurs when both peers have ended their direction.
ERROR: Final = 0x8


@implementer(IReadDescriptor)
class Poller:
    """
    Delivers the events of descriptors to their watchers, and runs the turns of flows.

    :ivar failures: number of exceptions raised by watchers and turns.
    :ivar now: time of the last batch of events, in seconds of the reactor's clock.
    :ivar recalled: True makes `serve` return; set by a reactor that waits on this set and has other work.
    """

    def __init__(self, reactor: Reactor, lost: Callable[[Failure], None] | None = None) -> None:
        """
        :param lost: called once when the poller cannot deliver events any more, because of an exception of
            its own or because the reactor removed it.
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
        # Indexed by descriptor. The kernel assigns the lowest free number, so a list is smaller than a dict.
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
        """Make the epoll set and join the reactor. Call it after forking."""
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
        """The poller for all descriptors and turns of the rule `name`. Groups are served in turn."""
        found = self._groups.get(name)
        if found is None:
            found = self._groups[name] = Group(name)
        return _InGroup(self, found)

    def watch(
        self, descriptor: int, events: int, watcher: Watcher, *, edge: int = EDGE, group: Group | None = None
    ) -> None:
        """
        Call `watcher` for each edge of `events` (bits of ``select.EPOLL*``), and for those that hold now.

        If the descriptor is watched already, its events and its watcher are replaced.

        :param edge: 0 for level-triggered events.
        :param group: the group of the descriptor; None for the common one.
        :raises OSError: the kernel refused (``ENOSPC``, ``ENOMEM``); the descriptor is not watched.
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
        """Change the events of a watched descriptor. False if its socket was closed by other code."""
        try:
            cast(select.epoll, self._epoll).modify(descriptor, events)
        except FileNotFoundError:
            return False
        return True

    def hand_over(self, descriptor: int, watcher: Watcher) -> None:
        """Deliver further events of `descriptor`, which is watched already, to `watcher`."""
        self._watchers[descriptor] = watcher

    def forget(self, sock: socket.socket, *, inherited: bool = False) -> None:
        """
        Stop watching `sock`, if it was watched, and close it.

        The watcher gets no further call. During a batch of events the socket is closed after the batch; until
        then its number is not reused.

        The kernel removes a descriptor from the set when its last duplicate is closed (epoll(7)). That costs
        half as much as removing it explicitly. A forked child process may still hold a duplicate; events of a
        closed connection can then arrive for another one with the same number. Streams therefore verify that
        a connection is really dead.

        :param inherited: another process may hold a duplicate for a long time: remove the descriptor
            explicitly, and close the socket at once so that its address can be bound again. Its number stays
            in use until the end of the batch.
        """
        descriptor = sock.fileno()
        if 0 <= descriptor < len(self._watchers):
            if inherited and self._epoll is not None and self._watchers[descriptor] is not None:
                self._epoll.unregister(descriptor)
                if self._busy:
                    os.dup2(self._epoll.fileno(), descriptor, inheritable=False)
            self._watchers[descriptor] = None
            self._group_of[descriptor].bits.pop(descriptor, None)  # drop its waiting events
        if self._busy:
            self._leaving.append(sock)
        else:
            sock.close()

    def take_turn(self, turn: Turn, group: Group | None = None) -> None:
        """
        Run `turn` once, after the waiting events. It calls `take_turn` again if it has more to do.

        A turn that is queued already is not queued again.

        :param group: the group of the turn; None for the common one.
        """
        if not turn.queued:
            turn.queued = True
            self._queues.add_turn(self._common if group is None else group, turn)
            if not self._busy:
                self._run_soon()

    def look_at_clock(self) -> None:
        """Update `now`. For code that is not called by the poller."""
        if not self._busy:
            self.now = self._reactor.seconds()

    def fileno(self) -> int:
        """The descriptor of the epoll set. It is readable while events wait."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def serve(self, delay: float | None, *, once: bool = False) -> None:
        """
        Wait for events, deliver them, and run turns. For a reactor that waits on this set.

        Returns after `delay` seconds, when `recalled` is set, or when the poller is stopped.

        :param delay: seconds; None for no limit.
        :param once: return after one batch of events, which may be empty.
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
        """Deliver events and run turns until none are left, or until the reactor must serve its others."""
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
        Deliver one batch of events, then run one turn.

        :param delay: seconds to wait for events if no turn is queued; None for no limit.
        :returns: whether there was an event or a turn.
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
            # Before the turn: it may be a listener's, which needs the descriptors of closed sessions.
            self._close_leaving()
        if with_turns:
            turn = queues.next_turn()
            turn.queued = False
            try:
                turn.run()
            except BaseException:
                self._report(turn)
        # After the turn too: it may have ended a session, and the next step may wait for seconds.
        if self._leaving:
            self._close_leaving()
        return bool(with_turns or batch)

    def _shared_out(self, epoll: select.epoll, batch: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Queue `batch` and all further events of the kernel; return the next events of each group."""
        queues, group_of = self._queues, self._group_of
        if len(batch) == MAX_EVENTS:
            # The second call repeats level-triggered events; the queue merges them.
            batch = batch + epoll.poll(0, MANY)
        for descriptor, bits in batch:
            queues.add_event(group_of[descriptor], descriptor, bits)
        return queues.next_events()

    def _close_leaving(self) -> None:
        while self._leaving:
            try:
                self._leaving.pop().close()
            except OSError:
                # Errors of written data are reported by the calls that wrote it.
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
        """The reactor removed the poller. Unless the reactor is stopping, no event is delivered any more."""
        if self._is_read and self._reactor.running:
            self.give_up(reason)

    def give_up(self, failure: Failure) -> None:
        """Leave the reactor and call the owner: the poller cannot deliver events any more."""
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
    """The poller for the descriptors and turns of one group; see `Polling`."""

    def __init__(self, poller: Poller, group: Group) -> None:
        self._poller = poller
        self._group = group
        self.look_at_clock = poller.look_at_clock
        self.hand_over = poller.hand_over
        self.forget = poller.forget
        self.watch = partial(poller.watch, group=group)
        self.take_turn = partial(poller.take_turn, group=group)

    def __repr__(self) -> str:
        return f"<{self._group!r} of {self._poller!r}>"

    @property
    def now(self) -> float:
        return self._poller.now
