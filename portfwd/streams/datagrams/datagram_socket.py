# -*- test-case-name: tests.streams.datagrams.test_datagram_socket -*-
"""
A connected datagram socket of ours: the upstream's side of an association.

Connected, so that the kernel lets nobody else's datagrams in and tells of a port that is
unreachable. A bounded part of what waits is read at a time; then others get their turn.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from twisted.python.failure import Failure

from portfwd.kernel.datagrams import GONE, LARGEST, LARGEST_UNIX, UNREACHABLE
from portfwd.kernel.polling import Polling
from portfwd.kernel.sockets import local_address
from portfwd.streams.datagrams.carrier import Taker, UpstreamCarrier, end_refused
from portfwd.values import Address, as_unix

#: Datagrams of one socket that are read before others get their turn: some 300 microseconds' worth.
BATCH: Final = 64

# EPOLLIN; errors are told anyhow. Without EPOLLOUT, of which a datagram socket has an edge
# for nearly every datagram that it sends.
_READABLE: Final = 0x1


class ConnectedSocket:
    """
    Carries the datagrams of a connected socket.

    :ivar address: the peer's.
    :ivar local: our own.
    :ivar queued: it waits for its turn; the poller's.
    :ivar is_open: it was not closed yet.
    :ivar taker: who takes what comes.
    :ivar too_long: datagrams that were longer than any that are passed on.
    :ivar refused: told when the peer's kernel says that nobody has its port; decides what becomes of the
        taker.
    """

    __slots__ = (
        "_descriptor",
        "_first",
        "_keeps",
        "_poller",
        "_send",
        "_socket",
        "address",
        "is_open",
        "local",
        "queued",
        "refused",
        "taker",
        "too_long",
    )

    def __init__(self, sock: socket.socket, address: Address | None, poller: Polling) -> None:
        """:param sock: connected and non-blocking; owned from here on."""
        self.address = address
        self.local = local_address(sock)
        self._socket = sock
        self._send = sock.send
        self._descriptor = sock.fileno()
        self._poller = poller
        self.is_open = True
        self.too_long = 0
        self.queued = False
        self._keeps = False
        self._first: bytes | None = None
        self.taker: Taker | None = None
        self.refused: Callable[[UpstreamCarrier, str], None] = end_refused

    def __repr__(self) -> str:
        return f"<ConnectedSocket {self.local} to {self.address} {'open' if self.is_open else 'closed'}>"

    def carry(self, taker: Taker) -> None:
        """Tell `taker` of what comes."""
        self.taker = taker
        try:
            self._poller.watch(self._descriptor, _READABLE, self)
        except OSError:
            self.is_open = False
            self._socket.close()
            raise

    def ready(self, events: int) -> None:
        """Something waits: datagrams, or an error; whoever waits for its turn reads it then."""
        if not self.queued:
            self.run()

    def run(self) -> None:
        """Read what waits, and ask for another turn for what is more than a part."""
        taker, receive = self.taker, self._receiver()
        if taker is None:  # pragma: no cover - it is watched when there is one
            return
        received = taker.received
        for _ in range(BATCH):
            if not self.is_open:
                return
            try:
                data = receive(LARGEST)
            except BlockingIOError:
                return
            except OSError as problem:
                # An error that waited is no datagram, and what waits behind it is still to be read.
                self._met(problem)
                receive = self._receiver()  # it may have moved
                continue
            self._first = None
            received(data)
        if self.is_open:
            self._poller.take_turn(self)

    def _receiver(self) -> Callable[[int], bytes]:
        return self._receive_whole if as_unix(self.address) else self._socket.recv

    def _receive_whole(self, size: int) -> bytes:
        """The next datagram of a unix socket that is not too long; `size` is for others."""
        while True:
            data = self._socket.recv(LARGEST_UNIX + 1)
            if len(data) <= LARGEST_UNIX:
                return data
            self.too_long += 1

    def failed(self, failure: Failure) -> None:
        """Taking a datagram raised, which is logged already: this association is over."""
        if self.taker is not None:
            self.taker.broken(failure.getErrorMessage() or type(failure.value).__name__)

    def _met(self, problem: OSError) -> bool:
        """
        Act on an error; True where it is over and a datagram may be sent again.

        RFC 1122 section 4.1.3.3 passes ICMP errors up. Section 3.2.2.1: net and host unreachable are hints,
        not proof, and a route may be back a moment later, so only a closed port tells that nobody is there.
        """
        taker = self.taker
        if taker is None or not self.is_open:
            return False
        code, detail = problem.errno, os.strerror(problem.errno or 0)
        if as_unix(self.address):
            if code in GONE:
                # The file may be another socket's already, which only a new association finds.
                end_refused(self, detail)
                return False
        elif code == errno.ECONNREFUSED:
            self.refused(self, detail)
            return self.is_open
        return code in UNREACHABLE

    def move(self, sock: socket.socket, address: Address) -> None:
        """
        Go on with another socket.

        :param sock: connected to `address` and non-blocking; owned from here on.
        :raises OSError: the kernel does not watch it; it is closed then, and the one in use stays.
        """
        descriptor = sock.fileno()
        try:
            self._poller.watch(descriptor, _READABLE, self)
        except OSError:
            sock.close()
            raise
        self._poller.forget(self._socket)
        self.address, self.local = address, local_address(sock)
        self._socket, self._descriptor, self._send = sock, descriptor, sock.send

    def send(self, data: bytes) -> bool:
        """Send one datagram, unless there is no room for it."""
        if self._keeps:
            self._keeps, self._first = False, data
        try:
            self._send(data)
        except BlockingIOError:
            return False
        except OSError as problem:
            # Most likely the kernel told of an earlier datagram, and did not take this one.
            return self._met(problem) and self._send_again(data)
        return True

    def keep_first(self, *, keep: bool) -> None:
        """Keep the next datagram that is sent until there is an answer; or keep none."""
        self._keeps, self._first = keep, None

    def send_first(self) -> None:
        """Send the datagram that is kept, to another peer than before."""
        if self._first is not None:
            self._send_again(self._first)

    def _send_again(self, data: bytes) -> bool:
        try:
            self._send(data)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        if self.is_open:
            self.is_open = False
            self.taker = None
            self._poller.forget(self._socket)
