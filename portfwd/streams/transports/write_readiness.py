# -*- test-case-name: tests.streams.transports.test_watched_transport -*-
"""Whether the transport of a watched stream takes bytes, and who is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

if TYPE_CHECKING:
    from portfwd.streams.transports.transport import TransportStream


@implementer(IPushProducer)
class Intake:
    """
    Whether the transport of a watched stream takes bytes; those who write there are told.

    They are two: the other side, and the viewer who answers this one. The transport knows one producer.

    :ivar full: it takes no more for now.
    """

    def __init__(self, stream: TransportStream) -> None:
        self.full = False
        self._stream = stream

    def pauseProducing(self) -> None:
        """The transport keeps bytes."""
        self.full = True
        if self._stream._peer is not None:
            self._stream._peer.pauseProducing()

    def resumeProducing(self) -> None:
        """It has written them."""
        self.full = False
        if self._stream._peer is not None:
            self._stream._peer.resumeProducing()
        self._stream._answers_taken()

    def stopProducing(self) -> None:
        """It is gone; its stream says so to the session, which decides."""
