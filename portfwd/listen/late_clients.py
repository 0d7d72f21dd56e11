# -*- test-case-name: tests.listen.test_late_clients -*-
"""
Clients in the backlog of a listener that is closed.

For these clients the connection is established already. A reload that removes or moves a listener therefore
accepts all of them. They wait here for the limits of their rule and for descriptors, as in the backlog, and
are served in turns.
"""

from __future__ import annotations

import math
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from portfwd.kernel.failures import log_failure
from portfwd.kernel.socket_addresses import to_address
from portfwd.kernel.sockets import accept, close_by_reset
from portfwd.limits.descriptors import PER_SESSION, Descriptors
from portfwd.listen.accept_limit import Accept, AcceptLimit

#: Clients accepted in one turn, so a flood of connections does not delay sessions. Sixteen take about as long
#: as six turns of bulk data.
BATCH: Final = 16

#: Batches that are served at once when the forwarder stops. They delay the other sessions by a few
#: milliseconds.
LAST_BATCHES: Final = 8

#: Descriptors of a waiting client.
WAITING: Final = 1


class LateClients:
    """
    The late clients of one listener, in order.

    :ivar over: called once when no client waits any more; None for no call.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        budget: Descriptors,
        accept: Accept,
        accept_limit: AcceptLimit | None,
    ) -> None:
        """The parameters are the same as for `portfwd.listen.listener.Listener`."""
        self._name = name
        self._clock = clock
        self._budget = budget
        self._accept = accept
        self._accept_limit = accept_limit
        self._clients: deque[tuple[socket.socket, int, object]] = deque()
        self._next: IDelayedCall | None = None
        self.over: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<LateClients of {self._name}: {len(self._clients)} waiting>"

    def __len__(self) -> int:
        return len(self._clients)

    def take(self, listening: socket.socket, family: int, most: int) -> None:
        """
        Accept the clients in the backlog of `listening`, as long as there are descriptors.

        :param most: most clients to accept, because others arrive meanwhile.
        """
        for _ in range(most):
            if not self._budget.take(WAITING):
                return
            try:
                client, sockaddr = accept(listening, family)
            except OSError as problem:
                self._budget.give_back(WAITING)
                if isinstance(problem, ConnectionAbortedError):
                    continue
                return
            self._clients.append((client, family, sockaddr))

    def serve(self, batches: int = 1) -> None:
        """
        Serve the clients that limits and descriptors admit now, and the others later.

        :param batches: number of batches to serve now. Later ones are served in turns.
        """
        self._stop_waiting()
        try:
            for _ in range(BATCH * batches):
                if not self._serve_one():
                    return
            self._next = self._clock.callLater(0, self.serve)
        finally:
            if self._accept_limit is not None:
                self._accept_limit.pass_on()
            if not self._clients:
                self._stop_waiting()
                self._end()

    def judge_by(self, accept_limit: AcceptLimit | None) -> None:
        """Use other limits from now on. The caller then serves the waiting clients."""
        self._stop_waiting()
        self._accept_limit = accept_limit

    def _serve_one(self) -> bool:
        if not self._clients:
            return False
        accept_limit = self._accept_limit
        seconds = 0.0 if accept_limit is None else accept_limit.closed_for(self._clock.seconds())
        if accept_limit is not None and seconds == math.inf:
            accept_limit.wait(self.serve)
            return False
        if seconds:
            self._next = self._clock.callLater(seconds, self.serve)
            return False
        if not self._budget.take(PER_SESSION - WAITING):
            self._budget.wait(self.serve)
            return False
        client, family, sockaddr = self._clients.popleft()
        try:
            self._accept(client, to_address(family, sockaddr))
        except BaseException:
            log_failure(self._log, "{name}: taking a client in failed", name=self._name)
            close_by_reset(client)
            self._budget.give_back(PER_SESSION)
        return True

    def stop(self) -> None:
        """Reset the clients that still wait."""
        self._stop_waiting()
        while self._clients:
            close_by_reset(self._clients.popleft()[0])
            self._budget.give_back(WAITING)
        self._end()

    def _stop_waiting(self) -> None:
        if self._accept_limit is not None:
            self._accept_limit.forget(self.serve)
        self._budget.forget(self.serve)
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None

    def _end(self) -> None:
        over, self.over = self.over, None
        if over is not None:
            over()
