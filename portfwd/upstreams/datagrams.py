# -*- test-case-name: tests.upstreams.test_datagrams -*-
"""
One attempt to make a datagram socket that is connected to one address.

Connecting a datagram socket sends nothing. It finds a route, and the kernel then drops datagrams of other
senders. Whether the upstream exists is known later, if at all.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from portfwd.kernel.datagrams import datagram_socket
from portfwd.kernel.socket_addresses import inet_family, sockaddr_of
from portfwd.kernel.socket_options import buffer_settings
from portfwd.rules.model import Options
from portfwd.upstreams.connect import AttemptOwner, dial_error
from portfwd.values import Address, UnixAddress

#: Linux gives a unix socket that is bound to this name an abstract one (unix(7), autobind), so that it can
#: receive answers.
_ANY_NAME: Final = ""


class DatagramAttempt:
    """
    A connect whose outcome is reported before `start` returns.

    :ivar begun: called with the socket before the outcome is reported.
    """

    def __init__(self, address: Address, options: Options, owner: AttemptOwner) -> None:
        """:param address: an IP address and port, or a unix socket."""
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
        """Do nothing: the attempt is over when `start` returns."""


def connect_datagrams(target: Address, options: Options) -> socket.socket:
    """
    Make a connected, non-blocking datagram socket to `target`, an IP address and port or a unix socket.

    :raises OSError: there is no route or no free descriptor, or this machine does not have the source
        address.
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
