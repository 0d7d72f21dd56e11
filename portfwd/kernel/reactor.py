# -*- test-case-name: tests.kernel.test_poller -*-
"""What portfwd's own sockets need of a reactor, as one interface for the types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorCore, IReactorFDSet, IReactorFromThreads, IReactorTime
from zope.interface import Interface

if TYPE_CHECKING:
    from portfwd.kernel.poller import Poller


class Reactor(IReactorCore, IReactorFDSet, IReactorFromThreads, IReactorTime):
    """No object provides it by name; every POSIX reactor of Twisted has all four parts."""


class WaitingReactor(Interface):
    """A reactor that can wait on a `Poller`'s set instead of its own."""

    def wait_on(poller: Poller | None) -> bool:  # noqa: N805 - as zope has it
        """
        From here on wait on the set of `poller`, which has been made; None: on its own again.

        :returns: False: it does not, for another poller is there already; the set is to be nested.
        """
