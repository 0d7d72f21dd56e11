# -*- test-case-name: tests.service.run.test_connect_run -*-
"""
The check ``tcp`` of a plain target with an address: a connect and a reset, with little cost.

There may be thousands of these checks, and the dial of a session does more. On Linux the reset replaces the
last packet of the handshake: the server's kernel has answered, and the server program sees no connection, as
with HAProxy's checks.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from twisted.python.failure import Failure

from portfwd.kernel.poller import OUTCOME
from portfwd.kernel.polling import Polling
from portfwd.kernel.socket_addresses import inet_family, sockaddr_of
from portfwd.kernel.socket_options import WILL_SEND, bind_source
from portfwd.kernel.sockets import bare_socket, reset_on_close
from portfwd.service.run.check_results import Done, RaisedVerdict
from portfwd.service.run.check_runs import verdict_of
from portfwd.upstreams.connect import dial_error
from portfwd.values import InetAddress

#: The connect has failed: EPOLLERR | EPOLLHUP.
_FAILURE: Final = 0x18


class ConnectRun:
    """The checks of one address. The same object is started for each check."""

    judged = False

    def __init__(
        self,
        address: InetAddress,
        source: str | None,
        poller: Polling,
        passed: Callable[[], None],
        failed: Done,
    ) -> None:
        """
        :param source: local address to bind.
        :param passed: called after a successful connect.
        :param failed: called after a failed connect.
        """
        self._address = address
        self._family = inet_family(address.host)
        self._source = source
        self._poller = poller
        self._passed = passed
        self._failed = failed
        self._socket: socket.socket | None = None

    def __repr__(self) -> str:
        return f"<ConnectRun {self._address} {'over' if self._socket is None else 'waiting'}>"

    def start(self) -> None:
        """Connect; see `portfwd.service.run.check_results.Run`."""
        address = self._address
        try:
            self._socket = sock = bare_socket(self._family)
            for level, name, value in WILL_SEND:
                sock.setsockopt(level, name, value)
            reset_on_close(sock)
            if self._source is not None:
                bind_source(sock, self._source)
            code = sock.connect_ex(sockaddr_of(address.host, address.port))
            if code == errno.EINPROGRESS:
                self._poller.watch(sock.fileno(), OUTCOME, self)
                return
        except OSError as problem:
            self.cancel()
            self._failed(verdict_of(dial_error(problem, address)))
            return
        self._judge(code)

    def ready(self, events: int) -> None:
        """Handle an edge of the poller. Registering causes one too, so it need not be the result."""
        if events & OUTCOME and self._socket is not None:
            failed = events & _FAILURE
            self._judge(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if failed else 0)

    def failed(self, failure: Failure) -> None:
        """Handling the result raised an exception."""
        self.cancel()
        self._failed(RaisedVerdict.of(failure))

    def _judge(self, code: int) -> None:
        self.cancel()
        if not code:
            self._passed()
        else:
            self._failed(verdict_of(dial_error(OSError(code, os.strerror(code)), self._address)))

    def cancel(self) -> None:
        """Close the socket without a result."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._poller.forget(sock)
