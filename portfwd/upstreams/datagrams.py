# -*- test-case-name: tests.upstreams.test_datagrams -*-
"""
One attempt to reach one address with datagrams: a connected socket, at once.

Connecting a datagram socket sends nothing; it finds a route and lets nobody else's datagrams in. Whether
somebody is there shows only later, if at all.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from portfwd.kernel.datagrams import datagram_socket
from portfwd.kernel.sockets import buffer_settings, inet_family, sockaddr_of
from portfwd.rules.model import Options
from portfwd.upstreams.connect import AttemptOwner, dial_error
from portfwd.values import Address, UnixAddress

#: Bound to this, a unix socket gets an abstract name from Linux (unix(7), autobind) that answers can go to.
_ANY_NAME: Final = ""


class DatagramAttempt:
    """
    A connect whose outcome comes before `start` returns.

    :ivar begun: told of the socket before the outcome is.
    """

    def __init__(self, address: Address, options: Options, owner: AttemptOwner) -> None:
        """:param address: a literal and port, or a unix name."""
        self.seen: int | None = None
        self.address: Address | None = address
        self.begun: Callable[[socket.socket], None] | None = None
        self._target = address
        self._options = options
        self._owner = owner

    def __repr__(self) -> str:
        return f"<DatagramAttempt {self._target}>"

    def start(self) -> None:
        """Make the socket and connect."""
        try:
            sock = connect_datagrams(self._target, self._options)
        except OSError as problem:
            self._owner.failed(self, dial_error(problem, self._target))
        else:
            if self.begun is not None:
                self.begun(sock)
            self._owner.connected(self, sock)

    def cancel(self) -> None:
        """There is nothing to stop: it is over when `start` returns."""


def connect_datagrams(target: Address, options: Options) -> socket.socket:
    """
    A connected, non-blocking socket for datagrams to `target`, a literal and port or a unix name.

    :raises OSError: there is no way, no descriptor, or the source address is not ours.
    """
    if isinstance(target, UnixAddress):
        sock = datagram_socket(socket.AF_UNIX)
    else:
        sock = datagram_socket(inet_family(target.host))
    try:
        if isinstance(target, UnixAddress):
            sock.bind(_ANY_NAME)
            sock.connect(target.sockaddr)
        else:
            for level, name, value in buffer_settings(options):
                sock.setsockopt(level, name, value)
            if options.src is not None:
                sock.bind(sockaddr_of(options.src, 0))
            sock.connect(sockaddr_of(target.host, target.port))
    except OSError:
        sock.close()
        raise
    return sock
