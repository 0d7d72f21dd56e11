# -*- test-case-name: tests.upstreams.test_connect -*-
"""
One attempt to connect to one address.

`SocketAttempt` makes a connected socket; `portfwd.upstreams.endpoint_attempt` has the one that connects a
Twisted endpoint. Both are started once, report one outcome to their owner, and can be cancelled before.
Errors are reported as `DialError`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorTime,
    IWriteDescriptor,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.errors import (
    ConnectFailed,
    ConnectRefused,
    ConnectTimedOut,
    DialError,
    OutOfResources,
)
from portfwd.kernel.poller import EVENTS, OUTCOME
from portfwd.kernel.polling import Polling
from portfwd.kernel.reactor import Reactor
from portfwd.kernel.socket_addresses import inet_family, sockaddr_of
from portfwd.kernel.socket_options import Settings, bind_source, upstream_settings
from portfwd.kernel.sockets import EXHAUSTED, bare_socket, has_hung_up, reset_on_close
from portfwd.rules.model import Options
from portfwd.streams.datagrams.datagram_stream import DatagramStream
from portfwd.streams.transports.transport import TransportStream
from portfwd.upstreams.timeout_queue import TimeoutQueue
from portfwd.values import Address, UnixAddress

#: Events of a connect that failed: EPOLLHUP | EPOLLERR.
_FAILURE: Final = 0x18

#: Seconds between tries while the backlog of a unix listener is full. The kernel returns EAGAIN then, and
#: provides no event for a free slot.
UNIX_RETRY: Final = 0.01


class AttemptOwner(Protocol):
    """Receives the outcome of an attempt: exactly one of these methods is called, once."""

    def connected(self, attempt: Attempt, result: socket.socket | TransportStream | DatagramStream) -> None:
        """The attempt succeeded."""

    def failed(self, attempt: Attempt, problem: DialError) -> None:
        """The attempt failed."""


class Attempt(Protocol):
    """
    One attempt to connect.

    :ivar address: the address of the upstream; None if it is not known.
    :ivar seen: events that the poller has reported for the socket; None if the poller does not watch it.
    """

    address: Address | None
    seen: int | None

    def start(self) -> None:
        """Begin. The outcome may be reported before this returns."""

    def cancel(self) -> None:
        """Stop without an outcome."""


def dial_error(problem: OSError, where: object) -> DialError:
    """Convert an `OSError` of ``socket``, ``bind`` or ``connect`` to a `DialError`."""
    code = problem.errno or 0
    text = f"{where}: {problem.strerror or problem}"
    if code in EXHAUSTED or code == errno.EADDRNOTAVAIL:
        return OutOfResources(text)
    if code == errno.ECONNREFUSED or (isinstance(where, UnixAddress) and code == errno.ENOENT):
        return ConnectRefused(text)
    if code == errno.ETIMEDOUT:
        return ConnectTimedOut(text)
    return ConnectFailed(text)


@implementer(IWriteDescriptor)
class SocketAttempt:
    """
    A non-blocking connect. Its result is the connected socket, configured by `options`.

    :ivar begun: called with the socket when it has a local address, before the outcome is reported.
    """

    def __init__(
        self,
        reactor: Reactor,
        address: Address,
        options: Options,
        timeout: float,
        owner: AttemptOwner | None,
        poller: Polling | None = None,
        settings: Settings | None = None,
        timeouts: TimeoutQueue | None = None,
        clock: IReactorTime | None = None,
    ) -> None:
        """
        :param address: an IP address and port, or a unix socket.
        :param timeout: seconds.
        :param owner: receives the outcome; None for a subclass that overrides the methods for it.
        :param poller: waits for the outcome instead of the reactor. It continues to watch a connected socket
            (`seen`), so its stream need not register it.
        :param settings: `upstream_settings` of the options; None to compute them.
        :param timeouts: a queue of waits of `timeout` seconds; None for a delayed call.
        :param clock: makes delayed calls; None for the reactor.
        """
        self.seen: int | None = None
        self.begun: Callable[[socket.socket], None] | None = None
        self._poller = poller
        self._timeouts = timeouts
        self.address: Address | None = address
        self._reactor = reactor
        self._clock = reactor if clock is None else clock
        self._target = address
        self._options = options
        self._settings = upstream_settings(options) if settings is None else settings
        self._timeout = timeout
        self._owner = owner
        self._socket: socket.socket | None = None
        self._timer: IDelayedCall | None = None
        self._retry: IDelayedCall | None = None

    def __repr__(self) -> str:
        return f"<SocketAttempt {self._target} {'over' if self._socket is None else 'waiting'}>"

    def start(self) -> None:
        """Make the socket and connect."""
        try:
            self._socket = sock = self._make_socket()
        except OSError as problem:
            self._fail(dial_error(problem, self._target))
            return
        if self._timeouts is not None:
            self._timeouts.wait(self, self._timed_out)
        else:
            self._timer = self._clock.callLater(self._timeout, self._timed_out)
        self._connect(sock)

    def _make_socket(self) -> socket.socket:
        target, source = self._target, self._options.src
        if isinstance(target, UnixAddress):
            sock = bare_socket(socket.AF_UNIX)
            if self.begun is not None and sys.platform == "linux":
                sock.bind("")  # unix(7), autobind: an abstract name, by which the listener can know it
            return sock
        sock = bare_socket(inet_family(target.host))
        try:
            for level, name, value in self._settings:
                sock.setsockopt(level, name, value)
            if source is not None:
                bind_source(sock, source)
        except OSError:
            sock.close()
            raise
        return sock

    def _connect(self, sock: socket.socket) -> None:
        target = self._target
        try:
            # The result is EINPROGRESS nearly always: an error number costs less than an exception.
            code = sock.connect_ex(
                target.sockaddr if isinstance(target, UnixAddress) else sockaddr_of(target.host, target.port)
            )
        except OSError as problem:  # Python refuses the address before the system call
            self._finish_failed(dial_error(problem, target))
            return
        if self.begun is not None and code in (0, errno.EINPROGRESS):
            self.begun(sock)
        if code == errno.EINPROGRESS:
            self._wait(sock)
        elif not code:
            self._finish_connected()
        elif code == errno.EAGAIN and isinstance(target, UnixAddress):
            # The backlog of the unix listener is full.
            self._retry = self._clock.callLater(UNIX_RETRY, self._connect_again, sock)
        else:
            self._finish_failed(dial_error(OSError(code, os.strerror(code)), target))

    def _connect_again(self, sock: socket.socket) -> None:
        self._connect(sock)

    def _wait(self, sock: socket.socket) -> None:
        if self._poller is None:
            self._reactor.addWriter(self)
            return
        try:
            self._poller.watch(sock.fileno(), EVENTS, self)
        except OSError as problem:
            self._finish_failed(dial_error(problem, self._target))
        else:
            self.seen = 0

    def ready(self, events: int) -> None:
        """The poller reports events. Registering reports some too, so this need not be the outcome."""
        self.seen = (self.seen or 0) | events
        if events & _FAILURE:
            self.doWrite()
        elif events & OUTCOME and self._socket is not None:
            self._finish_connected()

    def failed(self, failure: Failure) -> None:
        """Processing the outcome raised an exception."""
        self._finish_failed(ConnectFailed(f"{self._target}: {failure.getErrorMessage()}"))

    def fileno(self) -> int:
        """The socket's descriptor."""
        return -1 if self._socket is None else self._socket.fileno()

    def doWrite(self, *, hung: bool = False) -> None:
        """
        The connect has an outcome.

        :param hung: the reactor reported a hang-up, so the connect has failed or was abandoned.
        """
        if self._socket is None:
            return
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._finish_failed(dial_error(OSError(code, os.strerror(code)), self._target))
        elif hung and not has_hung_up(self._socket):
            self._reactor.addWriter(self)  # the hang-up was of an earlier socket with this descriptor
        elif hung:
            self._finish_failed(ConnectFailed(f"{self._target}: given up"))
        else:
            self._finish_connected()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor reports a hang-up, which poll(2) also does for a refusal, or the reactor stops."""
        self.doWrite(hung=True)

    def logPrefix(self) -> str:
        """The prefix of log lines."""
        return "portfwd"

    def _timed_out(self) -> None:
        self._finish_failed(ConnectTimedOut(f"{self._target}: no answer within {self._timeout:g} s"))

    def _release(self) -> socket.socket | None:
        sock, self._socket = self._socket, None
        if sock is not None and self._poller is None:
            self._socket = sock  # removeWriter calls fileno
            self._reactor.removeWriter(self)
            self._socket = None
        if self._timeouts is not None:
            self._timeouts.forget(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        return sock

    def _finish_connected(self) -> None:
        sock = self._release()
        if sock is not None:
            self._succeed(sock)

    def _finish_failed(self, problem: DialError) -> None:
        sock = self._release()
        if sock is not None:
            self._close(sock)
            self._fail(problem)

    def _succeed(self, sock: socket.socket) -> None:
        if self._owner is not None:
            self._owner.connected(self, sock)

    def _fail(self, problem: DialError) -> None:
        if self._owner is not None:
            self._owner.failed(self, problem)

    def _close(self, sock: socket.socket) -> None:
        # It may be connected already. A FIN would look like a client that ended without sending anything.
        with contextlib.suppress(OSError):
            reset_on_close(sock)
        if self._poller is None:
            sock.close()
        else:
            self._poller.forget(sock)

    def cancel(self) -> None:
        """Close the socket."""
        sock = self._release()
        if sock is not None:
            self._close(sock)
