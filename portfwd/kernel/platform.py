# -*- test-case-name: tests.kernel.test_platform -*-
"""
Facilities of this machine and reactor.

They are detected once at start and passed to the code that needs them. Tests pass another `Platform` to run
the portable paths on Linux. Detection looks for each facility itself and does not compare version numbers.
"""

from __future__ import annotations

import os
import select
import sys

from attrs import frozen
from twisted.internet.interfaces import IReactorFDSet


@frozen
class Platform:
    """
    The available facilities.

    :ivar own_sockets: the reactor can watch any descriptor (`IReactorFDSet`), so portfwd accepts and connects
        with its own sockets and transports. Otherwise every socket is one of Twisted's.
    :ivar epoll: portfwd has an epoll set of its own. It reports dead peers of streams that are not read, and
        relays plain sockets without a Twisted transport.
    :ivar splice: the kernel can move bytes from socket to socket.
    """

    own_sockets: bool
    epoll: bool
    splice: bool = False

    def missing(self) -> tuple[str, ...]:
        """One sentence for each missing facility, for the log at start."""
        lines = []
        if not self.own_sockets:
            lines.append(
                "this reactor watches no descriptors: sockets are Twisted's own, with its way at the limits"
            )
        if not self.epoll:
            lines.append(
                "no epoll here: a peer that dies while it is not read is noticed by idle limits only"
            )
        if self.epoll and not self.splice:
            lines.append("no splice(2) here: bytes of plain sockets are copied")
        return tuple(lines)


def find_platform(reactor: object = None) -> Platform:
    """Detect the facilities of this machine and `reactor`; None for the reactor that portfwd installs."""
    watches = reactor is None or IReactorFDSet.providedBy(reactor)
    # Winsock reports a failed connect differently from POSIX. Twisted handles it; portfwd's connector does
    # not.
    own_sockets = watches and sys.platform != "win32"
    epoll = own_sockets and hasattr(select, "epoll")
    return Platform(own_sockets=own_sockets, epoll=epoll, splice=epoll and hasattr(os, "splice"))
