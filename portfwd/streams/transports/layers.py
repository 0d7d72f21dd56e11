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
        """End this direction. ``writeConnectionLost`` of the stream is called when the end was sent."""


class LayeredStream(Protocol):
    """
    The interface of a stream to the layer below it.

    :ivar tls: result of the handshake.
    """

    tls: TLSInfo | None

    def makeConnection(self, transport: Any) -> None:
        """The layer is connected."""

    def handshake_began(self) -> None:
        """The first TLS message of a client is complete."""

    def announced(self, client: Address, local: Address | None) -> bool:
        """A header before TLS has announced the client; return whether its handshake may begin."""

    def handshakeCompleted(self) -> None:
        """The handshake has succeeded, and the peer's certificate is valid."""

    def dataReceived(self, data: bytes) -> None:
        """Decrypted bytes of the peer."""

    def readConnectionLost(self) -> None:
        """The peer has ended."""

    def writeConnectionLost(self) -> None:
        """Our end was sent."""

    def writing_failed(self) -> None:
        """The peer accepts no more bytes."""

    def wrote(self) -> None:
        """Kept bytes were sent."""

    def connectionLost(self, reason: Failure) -> None:
        """The transport was closed."""
