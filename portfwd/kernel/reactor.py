# -*- test-case-name: tests.kernel.test_poller -*-
"""What portfwd's own sockets need of a reactor, as one interface for the types."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorCore, IReactorFDSet, IReactorFromThreads, IReactorTime


class Reactor(IReactorCore, IReactorFDSet, IReactorFromThreads, IReactorTime):
    """No object provides it by name; every POSIX reactor of Twisted has all four parts."""
