# -*- test-case-name: tests.streams.transports.test_watched_transport -*-
"""Tracks whether the transport of a watched stream accepts bytes."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class WriteReadiness:
    """
    The producer of a watched stream's transport.

    A transport has one producer, but both the other side and a viewer that answers write to it.

    :ivar full: whether the transport accepts no more bytes now.
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
        """The transport keeps bytes now."""
        self.full = True
        self._filled()

    def resumeProducing(self) -> None:
        """The transport has written its kept bytes."""
        self.full = False
        self._emptied()

    def stopProducing(self) -> None:
        """Do nothing: the stream reports the closed transport to the session."""
