# -*- test-case-name: tests.listen.test_listener -*-
"""
An accepting socket in the poller or the reactor.

If descriptors run out, Twisted's port accepts and closes every waiting client. This listener leaves them in
the backlog of the kernel. It stops accepting when the budget of descriptors is used up, and continues when a
session returns some. If the kernel refuses, it pauses for `PAUSE` seconds. An `AcceptLimit` tells when
clients must wait for a limit of the rule.
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
from portfwd.kernel.socket_addresses import to_address
from portfwd.kernel.sockets import EXHAUSTED, accept, close_by_reset
from portfwd.limits.descriptors import PER_SESSION, Descriptors
from portfwd.listen.accept_limit import Accept, AcceptLimit, MakeRoom
from portfwd.listen.late_clients import BATCH, LateClients
from portfwd.listen.unix_files import SocketFile, socket_file
from portfwd.values import Address

# EPOLLIN, and EPOLLERR | EPOLLHUP.
_READABLE: Final = 0x1
_FAILURE: Final = 0x18

#: Seconds of a pause after the kernel had no descriptor or memory left.
PAUSE: Final = 0.1

#: Seconds between two log lines about the same problem.
LOG_INTERVAL: Final = 1.0


@implementer(IReadDescriptor)
class Listener:
    """
    One bound socket and its state: bound, open, accepting, held, at a limit, waiting for descriptors,
    pausing, stopped.

    :ivar accepted: number of accepted clients.
    :ivar pauses: number of times that the kernel had no descriptor or memory left.
    :ivar waits: number of times that the budget was used up.
    :ivar limited: number of times that a limit was reached at which clients wait.
    :ivar queued: see `portfwd.kernel.polling.Turn`.
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
        :param batch: most clients accepted in one turn.
        :param poller: reports clients; None for the reactor.
        :param make_room: closes an unimportant client if no descriptor is left for a new one.
        :param accept limit: asked before each client is accepted; None if clients never wait.
        :param sock: bound and non-blocking; the listener owns it.
        :param accept: called with the non-blocking socket and the address of each client.
        :param backlog: length of the accept queue; None for the system's largest.
        :param inherited: whether another program owns the socket's file, if it has one.
        """
        self._file = None if inherited else socket_file(sock)
        self.name = name
        self._socket = sock
        self._family = int(sock.family)
        self._address = to_address(sock.family, sock.getsockname())
        self._reactor = reactor
        self._budget = budget
        self._accept = accept
        self._accept_limit = accept_limit
        self._make_room = make_room
        self._poller = poller
        self._batch = batch
        self._is_watched = False
        self.queued = False
        self.backlog = socket.SOMAXCONN if backlog is None else backlog
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
        """Its state as a few words."""
        return self._state

    @property
    def address(self) -> Address | None:
        """Its bound address; the wildcard is ``[::]`` or ``0.0.0.0``."""
        return self._address if self._state != "stopped" else None

    def pauses_by_cause(self) -> dict[str, int]:
        """Number of times it stopped accepting, by cause, for metrics."""
        return {"limit": self.limited, "descriptors": self.waits, "kernel": self.pauses}

    def dropped_by_cause(self) -> dict[str, int]:
        """Empty: this listener has no datagrams."""
        return {}

    def bank(self, pauses: Counter[str], dropped: Counter[str]) -> None:
        """Add its counts to `pauses` and `dropped`, and reset them."""
        pauses.update(self.pauses_by_cause())
        self.pauses = self.waits = self.limited = 0

    def start(self) -> None:
        """
        Listen and accept.

        :raises OSError: another socket took the address between bind and listen.
        """
        self.open()
        self.begin()

    def open(self) -> None:
        """
        Listen. From now on the kernel accepts clients into the backlog. Nothing after this can fail.

        :raises OSError: another socket took the address between bind and listen, or the kernel refused to
            watch the socket.
        """
        self._socket.listen(self.backlog)
        if self._poller is not None:
            self._poller.watch(self._socket.fileno(), 0, self, edge=0)
            self._is_watched = True
        self._state = "open"

    def begin(self) -> None:
        """Accept clients. The listener must be open."""
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
            # Level-triggered, as in a reactor, because one call does not accept all waiting clients.
            self._poller.watch(self._socket.fileno(), _READABLE, self, edge=0)

    def _stop_accepting(self) -> None:
        if self._poller is None:
            self._reactor.removeReader(self)
        elif self._is_watched:
            self._poller.watch(self._socket.fileno(), 0, self, edge=0)

    def judge_by(self, accept_limit: AcceptLimit | None) -> None:
        """Use other limits from now on."""
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
        """A slot may be free: try to accept. If no client is waiting, the next listener is woken."""
        self._stop_waiting()
        self._begin()
        self._resume = self._reactor.callLater(0, self.doRead)

    @property
    def held(self) -> bool:
        """Whether it is held: `hold` was called, and `release` was not."""
        return self._held

    def hold(self) -> None:
        """Accept no clients until `release`. They wait in the backlog of the kernel."""
        self._held = True
        if self._state == "accepting":
            self._state = "held"
            self._stop_accepting()

    def release(self) -> None:
        """Accept waiting and further clients again."""
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
        """Serve further clients with another `accept`, under another name and budget."""
        self.name = name
        if budget is not None:
            self._budget = budget
        self._accept = accept
        self._make_room = make_room

    def resize(self, backlog: int | None) -> None:
        """
        Change the length of the accept queue; None for the system's largest.

        :raises OSError: the kernel refused.
        """
        length = socket.SOMAXCONN if backlog is None else backlog
        if length != self.backlog:
            # Linux changes the length of a listening socket's queue and keeps its contents.
            self._socket.listen(length)
            self.backlog = length

    def late_clients(self) -> LateClients:
        """Accept the clients in the backlog before the listener is stopped. `LateClients` serves them."""
        late = LateClients(self.name, self._reactor, self._budget, self._accept, self._accept_limit)
        if self._state not in ("bound", "stopped"):
            late.take(self._socket, self._family, self.backlog + 1)
        return late

    def hand_back(self, others: Sequence[Listener]) -> LateClients:
        """Accept the clients in the backlog of an unneeded listener. One of `others`, if any, serves them."""
        server = others[0] if others else self
        late = LateClients(server.name, self._reactor, server._budget, server._accept, server._accept_limit)
        if self._state == "open" and others:
            late.take(self._socket, self._family, self.backlog + 1)
        return late

    def stop(self, *, stays: bool = False) -> None:
        """
        Stop accepting and close. The kernel resets clients that are still in the backlog.

        :param stays: ignored, because sessions have sockets of their own.
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
            # Another process may have the socket too: the one that passed it, or one that takes it over.
            self._poller.forget(self._socket, inherited=True)
        self._state = "stopped"
        if self._accept_limit is not None:
            self._accept_limit.pass_on()  # it may have been woken, and will not look

    @property
    def file(self) -> SocketFile | None:
        """The file of a unix socket that was bound here."""
        return self._file

    @property
    def sock(self) -> socket.socket:
        """The listening socket."""
        return self._socket

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def ready(self, events: int) -> None:
        """Clients are waiting. Queue a turn, so that accepting alternates with other work."""
        if events & _FAILURE:
            self.connectionLost(Failure(ConnectionLost("the kernel says that it broke")))
        elif self._poller is not None:
            self._poller.take_turn(self)

    def failed(self, failure: Failure) -> None:
        """A turn raised an exception, which is logged. Continue with the next clients."""

    def run(self) -> None:
        """Run the turn: accept clients."""
        self.doRead()

    def doRead(self) -> None:
        """Accept waiting clients, at most one batch."""
        accept_limit = self._accept_limit
        try:
            family = self._family
            for number in range(self._batch):
                if self._state != "accepting":
                    return
                # Do not close a client unless another one is really waiting; the next event tells.
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
                    # The descriptors of the closed client are free in the next turn, which wakes this
                    # listener.
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
                    continue  # this client has disconnected (ECONNABORTED and similar errors); try another
                self.accepted += 1
                try:
                    self._accept(client, to_address(family, sockaddr))
                except BaseException:
                    # An exception for one client must not stop the listener: a reactor drops a reader that
                    # raises.
                    log_failure(self._log, "{name}: taking a client in failed", name=self.name)
                    self._turn_away(client)
        finally:
            if accept_limit is not None:
                # If this listener was woken and has not used all slots, wake the next one.
                accept_limit.pass_on()

    def _found_room(self, why: str) -> bool:
        """Close a client to make room for the next one; return whether there was one."""
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
        """The reactor has dropped the socket."""
        self._log.critical("{name}: the listening socket failed: {reason}", name=self.name, reason=reason)
        self.stop()

    def logPrefix(self) -> str:
        """The prefix of log lines."""
        return self.name
