# -*- test-case-name: tests.listen.test_listener -*-
"""
An accepting socket of our own.

Twisted's port answers a full descriptor table by accepting and closing every
client that waits. This one leaves them in the backlog, where the kernel keeps
them: it stops accepting when the budget has no room and goes on when a session
gives descriptors back; when the kernel itself refuses, it pauses `PAUSE`; and where clients
are to wait for a limit of the rule, a `AcceptLimit` says so.
"""

from __future__ import annotations

import errno
import math
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Final

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.kernel.failures import log_failure, log_warning
from portfwd.kernel.polling import Polling
from portfwd.kernel.reactor import Reactor
from portfwd.kernel.sockets import EXHAUSTED, accept, close_by_reset, to_address
from portfwd.limits.descriptors import PER_SESSION, Descriptors
from portfwd.listen.accept_limit import Accept, AcceptLimit, MakeRoom
from portfwd.listen.late_clients import BATCH, LateClients
from portfwd.listen.unix_files import DEFAULT_MODE, SocketFile, socket_file
from portfwd.values import Address

# EPOLLIN, and EPOLLERR | EPOLLHUP.
_READABLE: Final = 0x1
_FAILURE: Final = 0x18

#: Seconds without accepting after the kernel had no descriptor or memory.
PAUSE: Final = 0.1

#: Seconds between two log lines about the same trouble.
LOG_INTERVAL: Final = 1.0


@implementer(IReadDescriptor)
class Listener:
    """
    One bound socket and its state: bound, open, accepting, held, at a limit, waiting for descriptors,
    pausing, stopped.

    :ivar accepted: clients that were accepted.
    :ivar pauses: how often the kernel had nothing left.
    :ivar waits: how often the budget had no room.
    :ivar limited: how often a limit was reached at which clients wait.
    :ivar queued: it waits for its turn; the poller's.
    """

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        reactor: Reactor,
        budget: Descriptors,
        accept: Accept,
        backlog: int | None,
        *,
        inherited: bool = False,
        accept_limit: AcceptLimit | None = None,
        make_room: MakeRoom | None = None,
        poller: Polling | None = None,
        batch: int = BATCH,
    ) -> None:
        """
        :param batch: clients that are accepted in one turn at most.
        :param poller: tells of clients; None: the reactor does.
        :param make_room: closes a client that is not worth its place when there is none for a new one.
        :param accept limit: asked before a client is accepted; None where nobody has to wait.
        :param sock: bound and non-blocking; the listener owns it.
        :param accept: gets each client's socket, non-blocking, and address.
        :param backlog: length of the queue of clients that wait; None for the system's largest.
        :param inherited: the socket's file, if it has one, is somebody else's to remove.
        """
        self._file = None if inherited else socket_file(sock)
        self.name = name
        self._socket = sock
        self._family = int(sock.family)
        self._reactor = reactor
        self._budget = budget
        self._accept = accept
        self._accept_limit = accept_limit
        self._make_room = make_room
        self._poller = poller
        self._batch = batch
        self._is_watched = False
        self.queued = False
        self._backlog = socket.SOMAXCONN if backlog is None else backlog
        self._log = Logger()
        self._state = "bound"
        self._held = False
        self._resume: IDelayedCall | None = None
        self._logged_at = -LOG_INTERVAL
        self.accepted = 0
        self.pauses = 0
        self.waits = 0
        self.limited = 0

    def __repr__(self) -> str:
        return f"<Listener {self.name} {self.address} {self._state} accepted={self.accepted}>"

    @property
    def state(self) -> str:
        """What it does, in a word or a few."""
        return self._state

    @property
    def address(self) -> Address | None:
        """Where it is bound; the wildcard as ``[::]`` or ``0.0.0.0``."""
        return (
            to_address(self._socket.family, self._socket.getsockname()) if self._state != "stopped" else None
        )

    def pauses_by_cause(self) -> dict[str, int]:
        """How often it did not accept, as metrics tell it."""
        return {"limit": self.limited, "descriptors": self.waits, "kernel": self.pauses}

    def dropped_by_cause(self) -> dict[str, int]:
        """Connections have no datagrams."""
        return {}

    def bank(self, pauses: Counter[str], dropped: Counter[str]) -> None:
        """Add to `pauses` and `dropped` what was counted here, and count from 0 again."""
        pauses.update(self.pauses_by_cause())
        self.pauses = self.waits = self.limited = 0

    def start(self) -> None:
        """
        Listen and accept.

        :raises OSError: the address was taken between bind and listen.
        """
        self.open()
        self.begin()

    def open(self) -> None:
        """
        Listen: from here on the kernel lets clients wait in the backlog. After this nothing can fail.

        :raises OSError: the address was taken between bind and listen, or the kernel watches no more sockets.
        """
        self._socket.listen(self._backlog)
        if self._poller is not None:
            self._poller.watch(self._socket.fileno(), 0, self, edge=0)
            self._is_watched = True
        self._state = "open"

    def begin(self) -> None:
        """Accept; only once it is open."""
        self._begin()

    def _begin(self) -> None:
        if self._held:
            self._state = "held"
            return
        self._state = "accepting"
        self._start_accepting()

    def _start_accepting(self) -> None:
        if self._poller is None:
            self._reactor.addReader(self)
        else:
            # Told again and again while somebody waits, as a reactor does: not every look takes all of them.
            self._poller.watch(self._socket.fileno(), _READABLE, self, edge=0)

    def _stop_accepting(self) -> None:
        if self._poller is None:
            self._reactor.removeReader(self)
        elif self._is_watched:
            self._poller.watch(self._socket.fileno(), 0, self, edge=0)

    def judge_by(self, accept_limit: AcceptLimit | None) -> None:
        """From here on other limits decide whether clients wait."""
        before = self._accept_limit
        if self._state == "at a limit":
            self._stop_waiting()
            self._begin()
        self._accept_limit = accept_limit
        if before is not None:
            before.pass_on()

    def _stop_waiting(self) -> None:
        if self._accept_limit is not None:
            self._accept_limit.forget(self._go_on)
        if self._resume is not None and self._resume.active():
            self._resume.cancel()

    def _go_on(self) -> None:
        """There may be room: look at once, for where nobody knocks any more others wait to be told."""
        self._stop_waiting()
        self._begin()
        self._resume = self._reactor.callLater(0, self.doRead)

    @property
    def held(self) -> bool:
        """Whether `hold` was called, and `release` was not."""
        return self._held

    def hold(self) -> None:
        """Accept nobody until `release`: clients wait in the backlog, where the kernel keeps them."""
        self._held = True
        if self._state == "accepting":
            self._state = "held"
            self._stop_accepting()

    def release(self) -> None:
        """Accept again those who waited, and all others."""
        self._held = False
        if self._state == "held":
            self._begin()

    def hand_to(
        self,
        name: str,
        accept: Accept,
        make_room: MakeRoom | None = None,
        budget: Descriptors | None = None,
    ) -> None:
        """Give the next clients to somebody else, who calls this listener `name` and has another `budget`."""
        self.name = name
        if budget is not None:
            self._budget = budget
        self._accept = accept
        self._make_room = make_room

    def resize(self, backlog: int | None) -> None:
        """
        Let `backlog` clients wait; None for the system's largest.

        :raises OSError: the kernel does not let it.
        """
        length = socket.SOMAXCONN if backlog is None else backlog
        if length != self._backlog:
            # Linux takes another length of a socket that listens, and keeps its queue.
            self._socket.listen(length)
            self._backlog = length

    def late_clients(self) -> LateClients:
        """Accept those who wait in the backlog, before this is stopped; they are served elsewhere then."""
        late = LateClients(self.name, self._reactor, self._budget, self._accept, self._accept_limit)
        if self._state not in ("bound", "stopped"):
            late.take(self._socket, self._family, self._backlog + 1)
        return late

    def hand_back(self, others: Sequence[Listener]) -> LateClients:
        """The same for a listener that is not needed after all: one of `others`, if any, serves them."""
        server = others[0] if others else self
        late = LateClients(server.name, self._reactor, server._budget, server._accept, server._accept_limit)
        if self._state == "open" and others:
            late.take(self._socket, self._family, self._backlog + 1)
        return late

    def stop(self, *, stays: bool = False) -> None:
        """
        Accept no more and close; those who still wait in the backlog are refused by the kernel.

        :param stays: means nothing here: sessions have sockets of their own.
        """
        if self._state == "stopped":
            return
        self._budget.forget(self._begin)
        self._stop_waiting()
        if self._file is not None:
            self._file.remove()
        if self._poller is None:
            self._reactor.removeReader(self)
            self._socket.close()
        else:
            # Somebody else may have it too: whoever passed it to us, or will take it over.
            self._poller.forget(self._socket, inherited=True)
        self._state = "stopped"
        if self._accept_limit is not None:
            self._accept_limit.pass_on()  # it may have been woken, and will not look

    def change_mode(self, mode: int | None) -> None:
        """
        Give the socket's file, if it has one, other permission bits; None for the default.

        :raises OSError: it is not the file that was made, or may not be changed.
        """
        if self._file is not None:
            self._file.change_mode(DEFAULT_MODE if mode is None else mode)

    @property
    def file(self) -> SocketFile | None:
        """The file of a unix socket that was bound here."""
        return self._file

    @property
    def sock(self) -> socket.socket:
        """What listens."""
        return self._socket

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def ready(self, events: int) -> None:
        """Somebody knocks: clients are accepted in turns with those who have much to move."""
        if events & _FAILURE:
            self.connectionLost(Failure(ConnectionLost("the kernel says that it broke")))
        elif self._poller is not None:
            self._poller.take_turn(self)

    def failed(self, failure: Failure) -> None:
        """Our own mistake, which is logged already; the next clients have another chance."""

    def run(self) -> None:
        """It is this listener's turn."""
        self.doRead()

    def doRead(self) -> None:
        """Accept those who wait, a batch of them at most."""
        accept_limit = self._accept_limit
        try:
            family = self._family
            for number in range(self._batch):
                if self._state != "accepting":
                    return
                # Nobody is dropped for a client that may not be there: the reactor tells whether one is.
                unsure = number > 0 and self._make_room is not None
                if accept_limit is not None:
                    seconds = accept_limit.closed_for(self._reactor.seconds())
                    if seconds and unsure:
                        return
                    if seconds == math.inf and self._found_room("a limit of sessions was reached"):
                        seconds = accept_limit.closed_for(self._reactor.seconds())
                    if seconds:
                        self._wait_at(accept_limit, seconds)
                        return
                if not self._budget.take(PER_SESSION):
                    if unsure:
                        return
                    # The dropped client's descriptors are free in the next turn; that wakes this listener.
                    self._found_room("there are no descriptors left")
                    self._wait_for_descriptors()
                    return
                try:
                    client, sockaddr = accept(self._socket, family)
                except OSError as problem:
                    self._budget.give_back(PER_SESSION)
                    if isinstance(problem, BlockingIOError):
                        return
                    if problem.errno in EXHAUSTED:
                        self._pause(problem)
                        return
                    continue  # this client is gone again (ECONNABORTED and its like); the next may not be
                self.accepted += 1
                try:
                    self._accept(client, to_address(family, sockaddr))
                except BaseException:
                    # One client's accident: the reactor would drop a listener that raises.
                    log_failure(self._log, "{name}: taking a client in failed", name=self.name)
                    self._turn_away(client)
        finally:
            if accept_limit is not None:
                # Who was woken and found nobody, or leaves room, lets the next one look.
                accept_limit.pass_on()

    def _found_room(self, why: str) -> bool:
        """Whether a client was closed for the next one."""
        return self._make_room is not None and self._make_room(why)

    def _turn_away(self, client: socket.socket) -> None:
        close_by_reset(client)
        self._budget.give_back(PER_SESSION)

    def _wait_at(self, accept_limit: AcceptLimit, seconds: float) -> None:
        self.limited += 1
        self._state = "at a limit"
        self._stop_accepting()
        if seconds < math.inf:
            self._resume = self._reactor.callLater(seconds, self._go_on)
        else:
            accept_limit.wait(self._go_on)

    def _wait_for_descriptors(self) -> None:
        self.waits += 1
        self._state = "waiting for descriptors"
        self._stop_accepting()
        self._budget.wait(self._begin)
        self._complain("{name}: no descriptors for more sessions ({budget!r}); clients wait in the backlog")

    def _pause(self, problem: OSError) -> None:
        self.pauses += 1
        self._state = "pausing"
        self._stop_accepting()
        self._resume = self._reactor.callLater(PAUSE, self._begin)
        code = errno.errorcode.get(problem.errno or 0, "?")
        self._complain("{name}: accept pauses ({code}); clients wait in the backlog", code=code)

    def _complain(self, text: str, **values: object) -> None:
        now = self._reactor.seconds()
        if now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            log_warning(self._log, text, name=self.name, budget=self._budget, **values)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gave the socket up."""
        self._log.critical("{name}: the listening socket failed: {reason}", name=self.name, reason=reason)
        self.stop()

    def logPrefix(self) -> str:
        """The prefix of log lines."""
        return self.name
