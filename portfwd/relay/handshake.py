# -*- test-case-name: tests.relay.test_dial -*-
"""The TLS handshake with a connected target. It owns the stream until the handshake ends."""

from __future__ import annotations

import socket
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from portfwd.errors import TLSFailed
from portfwd.relay.containment import contained
from portfwd.relay.context import RelayContext
from portfwd.relay.destination import Destination
from portfwd.streams.stream import Loss, Stream
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import Address, TLSInfo


class HandshakeOwner(Protocol):
    """The owner of a handshake. Exactly one method is called, once, unless the handshake was cancelled."""

    def shaken(self, stream: Stream) -> None:
        """The handshake succeeded. The stream belongs to the owner."""

    def not_shaken(self, problem: TLSFailed) -> None:
        """The handshake failed, or took longer than ``connect-timeout``."""

    def broke(self, failure: Failure) -> None:
        """Portfwd's code raised an exception."""


class Handshake:
    """One handshake."""

    def __init__(
        self, context: RelayContext, destination: Destination, owner: HandshakeOwner, clock: IReactorTime
    ) -> None:
        """:param destination: a destination with `tls`."""
        self._context = context
        self._clock = clock
        self._destination = destination
        self._owner = owner
        self._stream: TransportStream | None = None
        self._limit: IDelayedCall | None = None

    def start(
        self, sock: socket.socket, address: Address | None, first: bytes = b"", client: TLSInfo | None = None
    ) -> None:
        """
        Start.

        :param client: see `TLSTarget`.
        :param first: bytes to send before the handshake.
        :raises OSError: the kernel refused to watch the socket.
        """
        destination = self._destination
        assert destination.tls is not None
        side = destination.tls.for_client(client)
        self._stream = self._context.streams.tls_client(
            sock, address, destination.options.buffer, side, self, first=first
        )
        limit = destination.options.connect_timeout
        self._limit = self._clock.callLater(limit, self._out_of_time)

    def cancel(self) -> None:
        """Abort the connection without calling the owner."""
        stream = self._over()
        if stream is not None:
            stream.abort()

    def _over(self) -> TransportStream | None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        stream, self._stream = self._stream, None
        return stream

    def broke(self, failure: Failure) -> None:
        """Pass an exception of portfwd's code to the owner."""
        self._owner.broke(failure)

    def began(self, stream: Stream) -> None:
        """Do nothing: this event is for clients."""

    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """Do nothing: only clients are announced."""

    @contained
    def opened(self, stream: Stream) -> None:
        """The handshake succeeded."""
        if stream is self._stream:
            self._over()
            self._owner.shaken(stream)

    @contained
    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """The handshake failed. A cancelled stream calls this too and is ignored."""
        if stream is self._stream:
            self._over()
            label = self._destination.label
            self._owner.not_shaken(TLSFailed(f"{label}: {detail or 'closed during the TLS handshake'}"))

    @contained
    def _out_of_time(self) -> None:
        self.cancel()
        limit = self._destination.options.connect_timeout
        self._owner.not_shaken(TLSFailed(f"{self._destination.label}: no TLS handshake within {limit:g} s"))

    def ended(self, stream: Stream) -> None:
        """Do nothing: `lost` follows."""

    def end_sent(self, stream: Stream) -> None:
        """Do nothing: nothing was sent."""

    def writing_failed(self, stream: Stream, detail: str) -> None:
        """Do nothing: `lost` follows."""

    def thrown_away(self, stream: Stream, count: int) -> None:
        """Do nothing: nothing is discarded yet."""
