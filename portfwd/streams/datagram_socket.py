# -*- test-case-name: tests.streams.test_datagram_socket -*-
"""
A connected datagram socket of ours: the upstream's side of an association.

Connected, so that the kernel lets nobody else's datagrams in and tells of a port that is
unreachable. A bounded part of what waits is read at a time; then others get their turn.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Final

from twisted.python.failure import Failure

from portfwd.kernel.datagrams import LARGEST, UNREACHABLE
from portfwd.kernel.poller import Poller
from portfwd.kernel.sockets import local_address
from portfwd.streams.carrier import Taker
from portfwd.values import Address

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
    :ivar unreachable: told of `address` when its kernel says that nobody is there.
    """

    __slots__ = (
        "_descriptor",
        "_open",
        "_poller",
        "_send",
        "_socket",
        "_taker",
        "address",
        "local",
        "unreachable",
    )

    def __init__(self, sock: socket.socket, address: Address | None, poller: Poller) -> None:
        """:param sock: connected and non-blocking; owned from here on."""
        self.address = address
        self.local = local_address(sock)
        self._socket = sock
        self._send = sock.send
        self._descriptor = sock.fileno()
        self._poller = poller
        self._open = True
        self._taker: Taker | None = None
        self.unreachable: Callable[[Address | None], None] = _nobody

    def __repr__(self) -> str:
        return f"<ConnectedSocket {self.local} to {self.address} {'open' if self._open else 'closed'}>"

    def carry(self, taker: Taker) -> None:
        """Tell `taker` of what comes."""
        self._taker = taker
        try:
            self._poller.watch(self._descriptor, _READABLE, self)
        except OSError:
            self._open = False
            self._socket.close()
            raise

    def ready(self, events: int) -> None:
        """Something waits: datagrams, or an error."""
        self.run()

    def run(self) -> None:
        """Read what waits, and ask for another turn for what is more than a part."""
        taker, receive = self._taker, self._socket.recv
        if taker is None:  # pragma: no cover - it is watched when there is one
            return
        received = taker.received
        for _ in range(BATCH):
            if not self._open:
                return
            try:
                data = receive(LARGEST)
            except BlockingIOError:
                return
            except OSError as problem:
                # An error that waited is no datagram, and what waits behind it is still to be read.
                self._met(problem)
                continue
            received(data)
        if self._open:
            self._poller.take_turn(self)

    def failed(self, failure: Failure) -> None:
        """Taking a datagram raised, which is logged already: this association is over."""
        if self._taker is not None:
            self._taker.broken(failure.getErrorMessage() or type(failure.value).__name__)

    def _met(self, problem: OSError) -> None:
        if problem.errno in UNREACHABLE and self._taker is not None:
            self.unreachable(self.address)
            self._taker.broken(os.strerror(problem.errno))

    def send(self, data: bytes) -> bool:
        """Send one datagram, unless there is no room for it."""
        try:
            self._send(data)
        except BlockingIOError:
            return False
        except OSError as problem:
            if self._open:
                self._met(problem)
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        if self._open:
            self._open = False
            self._poller.release(self._descriptor, self._socket)


def _nobody(address: Address | None) -> None:
    """Nobody wants to know."""
