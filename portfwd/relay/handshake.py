# -*- test-case-name: tests.relay.test_dial -*-
"""The TLS handshake of a target whose socket is connected; until it is over, this owns the stream."""

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
    """Who is told the outcome: exactly one of these, once, unless the handshake was cancelled."""

    def shaken(self, stream: Stream) -> None:
        """The handshake is through, and the stream is the owner's."""

    def not_shaken(self, problem: TLSFailed) -> None:
        """It failed, or took longer than ``connect-timeout``."""

    def broke(self, failure: Failure) -> None:
        """An exception of ours came up."""


class Handshake:
    """One handshake."""

    def __init__(
        self, context: RelayContext, destination: Destination, owner: HandshakeOwner, clock: IReactorTime
    ) -> None:
        """:param destination: one with `tls`."""
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
        Begin.

        :param client: see `TLSTarget`.
        :param first: sent before the handshake.
        :raises OSError: the kernel refuses to watch the socket.
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
        """Abort the connection, silently."""
        stream = self._over()
        if stream is not None:
            stream.abort()

    def _over(self) -> TransportStream | None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        stream, self._stream = self._stream, None
        return stream

    def broke(self, failure: Failure) -> None:
        """A mistake of ours is the owner's to explain."""
        self._owner.broke(failure)

    def began(self, stream: Stream) -> None:
        """Only clients begin."""

    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """Only clients are announced."""

    @contained
    def opened(self, stream: Stream) -> None:
        """The handshake is through."""
        if stream is self._stream:
            self._over()
            self._owner.shaken(stream)

    @contained
    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """The handshake failed; a stream that was given up says so here too, and is past."""
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
        """`lost` follows."""

    def end_sent(self, stream: Stream) -> None:
        """Nothing was sent."""

    def writing_failed(self, stream: Stream, detail: str) -> None:
        """`lost` follows."""

    def thrown_away(self, stream: Stream, count: int) -> None:
        """Nothing is thrown away yet."""
