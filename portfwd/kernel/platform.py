# -*- test-case-name: tests.kernel.test_platform -*-
"""
What this machine and this reactor can do.

Found once at start and handed to whoever needs it; a test hands in another
`Platform` to run the portable paths on Linux. Refuses to guess from version
numbers: it looks for the thing itself.
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
    The facilities that the fast and careful paths need.

    :ivar own_sockets: the reactor watches descriptors of ours (`IReactorFDSet`), so
        accepting, connecting and the transports can be our own. Without it every
        socket is Twisted's.
    :ivar epoll: dead peers of streams that are not read are seen by an epoll set of our own, and plain
        sockets are relayed without a Twisted transport.
    :ivar splice: bytes can go from socket to socket inside the kernel.
    """

    own_sockets: bool
    epoll: bool
    splice: bool = False

    def missing(self) -> tuple[str, ...]:
        """One sentence for each facility that is not there, for the log at start."""
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
    """Look at this machine and `reactor`; without one, as with the reactor that portfwd chooses."""
    watches = reactor is None or IReactorFDSet.providedBy(reactor)
    # Winsock reports a failed connect by other means than POSIX; Twisted knows them, we do not.
    own_sockets = watches and sys.platform != "win32"
    epoll = own_sockets and hasattr(select, "epoll")
    return Platform(own_sockets=own_sockets, epoll=epoll, splice=epoll and hasattr(os, "splice"))
