# -*- test-case-name: tests.streams.datagrams.test_datagram_socket -*-
"""
A connected datagram socket in the poller: the upstream's side of an association.

It is connected, so the kernel drops datagrams of other senders and reports unreachable ports. Each turn reads
a bounded number of datagrams.
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
from portfwd.kernel.socket_addresses import local_address
from portfwd.streams.datagrams.carrier import Taker, UpstreamCarrier, end_refused
from portfwd.values import Address, as_unix

#: Datagrams of one socket read in one turn, about 300 microseconds.
BATCH: Final = 64

# EPOLLIN; errors are always reported. Without EPOLLOUT, which has an edge for nearly every sent datagram.
_READABLE: Final = 0x1


class ConnectedSocket:
    """
    The carrier of a connected socket.

    :ivar address: address of the peer.
    :ivar local: local address.
    :ivar queued: see `portfwd.kernel.polling.Turn`.
    :ivar is_open: whether it is open.
    :ivar taker: receiver of its datagrams.
    :ivar too_long: number of dropped datagrams that were too long.
    :ivar refused: called when the peer has answered with ICMP port unreachable. It decides about the taker.
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
        """:param sock: a connected and non-blocking socket, owned by this object."""
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
        """Pass datagrams to `taker`."""
        self.taker = taker
        try:
            self._poller.watch(self._descriptor, _READABLE, self)
        except OSError:
            self.is_open = False
            self._socket.close()
            raise

    def ready(self, events: int) -> None:
        """Read datagrams or an error, unless a turn is queued, which will read them."""
        if not self.queued:
            self.run()

    def run(self) -> None:
        """Read a batch of datagrams, and queue another turn if there are more."""
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
                # A pending error is not a datagram; datagrams after it must still be read.
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
        """Read the next datagram of a unix socket that is not too long. `size` is ignored."""
        while True:
            data = self._socket.recv(LARGEST_UNIX + 1)
            if len(data) <= LARGEST_UNIX:
                return data
            self.too_long += 1

    def failed(self, failure: Failure) -> None:
        """A turn raised an exception, which is logged: end this association."""
        if self.taker is not None:
            self.taker.broken(failure.getErrorMessage() or type(failure.value).__name__)

    def _met(self, problem: OSError) -> bool:
        """
        Handle an error. True if it has passed and a datagram may be sent again.

        RFC 1122 section 4.1.3.3 passes ICMP errors up. Section 3.2.2.1: net and host unreachable are hints
        and not proof, because a route may return. Only a closed port means that the peer is unreachable.
        """
        taker = self.taker
        if taker is None or not self.is_open:
            return False
        code, detail = problem.errno, os.strerror(problem.errno or 0)
        if as_unix(self.address):
            if code in GONE:
                # The file may belong to another socket already, which only a new association finds.
                end_refused(self, detail)
                return False
        elif code == errno.ECONNREFUSED:
            self.refused(self, detail)
            return self.is_open
        return code in UNREACHABLE

    def move(self, sock: socket.socket, address: Address) -> None:
        """
        Continue with another socket.

        :param sock: a non-blocking socket connected to `address`, owned by this object.
        :raises OSError: the kernel refused to watch it; it is closed, and the current one stays.
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
        """Send a datagram, unless the buffer is full."""
        if self._keeps:
            self._keeps, self._first = False, data
        try:
            self._send(data)
        except BlockingIOError:
            return False
        except OSError as problem:
            # The error is probably that of an earlier datagram, and this one was not sent.
            return self._met(problem) and self._send_again(data)
        return True

    def keep_first(self, *, keep: bool) -> None:
        """Whether to keep the next sent datagram until there is an answer."""
        self._keeps, self._first = keep, None

    def send_first(self) -> None:
        """Send the kept datagram to the new peer."""
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
