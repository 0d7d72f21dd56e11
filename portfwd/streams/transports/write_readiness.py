# -*- test-case-name: tests.streams.transports.test_watched_transport -*-
"""Whether the transport of a watched stream takes bytes."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class WriteReadiness:
    """
    The producer of a watched stream's transport.

    A transport knows one producer, but two write to it: the other side, and the viewer that answers this one.

    :ivar full: the transport takes no more for now.
    """

    def __init__(self, filled: Callable[[], None], emptied: Callable[[], None]) -> None:
        """
        :param filled: called when the transport begins to keep bytes.
        :param emptied: called when it has written them.
        """
        self.full = False
        self._filled = filled
        self._emptied = emptied

    def pauseProducing(self) -> None:
        """The transport keeps bytes."""
        self.full = True
        self._filled()

    def resumeProducing(self) -> None:
        """It has written them."""
        self.full = False
        self._emptied()

    def stopProducing(self) -> None:
        """It is gone; its stream says so to the session, which decides."""
