# -*- test-case-name: tests.relay.test_direct -*-
"""
The dial of the commonest rule: one plain target, its address written as a literal.

There is nothing to choose, to look up or to wrap, so one attempt with one
timer is all of it. `portfwd.relay.dial.Dial` does everything else; both tell
the same owner in the same words.
"""

from __future__ import annotations

import socket

from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import DialError
from portfwd.relay.containment import contained
from portfwd.relay.dial import Destination, DialOwner, Opener, Surroundings, no_stream
from portfwd.streams.transport import TransportStream
from portfwd.upstreams.connect import Attempt, SocketAttempt
from portfwd.upstreams.patience import Patience
from portfwd.values import Address


class DirectDial:
    """
    One attempt.

    :ivar tried: the address that is tried.
    """

    _log = Logger()

    __slots__ = ("_attempt", "_destination", "_over", "_owner", "_streams", "tried")

    def __init__(
        self,
        world: Surroundings,
        destination: Destination,
        address: Address,
        patience: Patience,
        owner: DialOwner,
        streams: Opener,
    ) -> None:
        """
        Make the attempt.

        :param address: the destination's, a literal or a unix name.
        :param patience: bounds the attempt.
        :param streams: makes the stream of the connected socket.
        """
        options = destination.options
        self.tried: Address | None = address
        self._destination = destination
        self._owner = owner
        self._streams = streams
        self._over = False
        self._attempt = SocketAttempt(
            world.reactor,
            address,
            options,
            patience.seconds,
            self,
            streams.poller,
            destination.settings,
            patience,
        )

    def __repr__(self) -> str:
        return f"<DirectDial {self._destination.label} {'over' if self._over else 'trying'}>"

    def start(self) -> None:
        """Begin. The outcome may come before this returns."""
        self._attempt.start()

    def cancel(self) -> None:
        """Stop, silently."""
        self._over = True
        self._attempt.cancel()

    def broke(self, failure: Failure) -> None:
        """Something of ours raised: the dial is over, and its owner's to explain."""
        if not self._over:
            try:
                self.cancel()
            except Exception:
                self._log.failure("{dial!r}: and it could not be cancelled", dial=self)
        self._owner.broke(failure)

    @contained
    def connected(self, attempt: Attempt, result: socket.socket | TransportStream) -> None:
        """The upstream answered."""
        if isinstance(result, TransportStream):  # pragma: no cover - only endpoints make one
            raise TypeError(result)
        self._over = True
        destination = self._destination
        try:
            stream = self._streams.plain(
                result, self.tried, destination.options.buffer, seen=self._attempt.seen
            )
        except OSError as problem:
            self._owner.dial_failed(no_stream(destination.label, problem), self.tried)
        else:
            self._owner.dialled(stream, destination)

    @contained
    def failed(self, attempt: Attempt, problem: DialError) -> None:
        """It did not."""
        self._over = True
        self._owner.dial_failed(problem, self.tried)
