# -*- test-case-name: tests.streams.transports.test_transport,tests.streams.transports.test_tls -*-
"""The interface between a stream and a layer between it and its transport, such as TLS."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.python.failure import Failure
from zope.interface import Attribute, Interface

from portfwd.values import Address, TLSInfo


class ILayer(Interface):
    """A layer is the protocol of the transport below it and the transport of the stream above it."""

    below = Attribute("The transport beneath.")
    progress = Attribute("How far its handshake is, in words; empty once it is through.")

    def loseWriteConnection() -> None:
        """End this direction; the stream is told by ``writeConnectionLost`` when the end is out."""


class LayeredStream(Protocol):
    """
    What a layer calls of the stream above it.

    :ivar tls: what the handshake found out.
    """

    tls: TLSInfo | None

    def makeConnection(self, transport: Any) -> None:
        """The layer is connected."""

    def handshake_began(self) -> None:
        """The first message of a client of TLS is complete."""

    def announced(self, client: Address, local: Address | None) -> bool:
        """A header before TLS names the client; say whether its handshake may begin."""

    def handshakeCompleted(self) -> None:
        """TLS is through and the peer's certificate is good."""

    def dataReceived(self, data: bytes) -> None:
        """Plain bytes of the peer."""

    def readConnectionLost(self) -> None:
        """The peer ended."""

    def writeConnectionLost(self) -> None:
        """Our end is out."""

    def writing_failed(self) -> None:
        """The peer takes no more."""

    def wrote(self) -> None:
        """Kept bytes went out."""

    def connectionLost(self, reason: Failure) -> None:
        """The transport is gone."""
