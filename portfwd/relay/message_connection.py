# -*- test-case-name: tests.relay.test_question_pool -*-
"""
A connection to an upstream for messages with length prefixes.

It sends and receives whole messages and reports its state to its user. The user interprets the messages and
decides whether to repeat them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import DialError, OutOfResources
from portfwd.limits.descriptors import Descriptors
from portfwd.relay.containment import contained
from portfwd.relay.destination import Destination
from portfwd.streams.stream import Loss, Stream, Watched
from portfwd.values import Address, FailedAttempt, Side
from portfwd.wire.framing import Unframer, frame

if TYPE_CHECKING:
    from portfwd.relay.dial import Dial, DialOwner
    from portfwd.relay.direct import DirectDatagramDial, DirectDial

    DialMaker = Callable[[DialOwner], Dial | DirectDial | DirectDatagramDial]


#: The kind of connection that a user has.
C = TypeVar("C", bound="MessageConnection", contravariant=True)


class ConnectionUser(Protocol[C]):
    """
    The user of a connection.

    `connected` or `connection_failed` is called first, `connection_over` last.
    """

    def connected(self, connection: C) -> None:
        """The connection is open."""

    def connection_failed(self, connection: C, problem: DialError, address: Address | None) -> None:
        """No target could be reached."""

    def message(self, connection: C, message: bytes) -> None:
        """A message was received."""

    def connection_over(self, connection: C, detail: str) -> None:
        """The connection has ended."""


class MessageConnection:
    """
    One connection.

    :ivar state: dialling, open, closing or closed.
    :ivar address: address of the connected target.
    :ivar local: local address.
    :ivar destination: the target.
    :ivar closing_since: time when it began to close, in seconds of the reactor.
    """

    _log = Logger()

    def __init__(self, user: ConnectionUser[Any], dial: DialMaker, budget: Descriptors | None = None) -> None:
        """
        :param dial: makes the dial without starting it.
        :param budget: the budget for its descriptor; None for none.
        """
        self._budget = budget
        self._has_descriptor = False
        self.state = "dialling"
        self.attempts: Sequence[FailedAttempt] = ()
        self.address: Address | None = None
        self.local: Address | None = None
        self.destination: Destination | None = None
        self.closing_since = 0.0
        self._user = user
        self._stream: Watched | None = None
        self._unframer = Unframer()
        self._dial: Dial | DirectDial | DirectDatagramDial | None = dial(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.address} {self.state}>"

    def start(self) -> None:
        """Dial, if a descriptor is available. The user may be called before this returns."""
        if self._dial is None:
            return
        if self._budget is not None:
            if not self._budget.take(1):
                self.dial_failed(OutOfResources("there is no descriptor for another connection"), None)
                return
            self._has_descriptor = True
        self._dial.start()

    def _give_back(self) -> None:
        if self._has_descriptor and self._budget is not None:
            self._has_descriptor = False
            self._budget.give_back(1)

    def send(self, message: bytes) -> None:
        """Send a message of at most 65 535 bytes. The connection must be open."""
        if self._stream is not None:
            self._stream.write(frame(message))

    def close(self) -> None:
        """End it in order. The user is called at once."""
        if self.state == "dialling":
            self.abort()
        elif self.state == "open" and self._stream is not None:
            self._over("closing", "")
            self._stream.close()

    def abort(self) -> None:
        """End it at once."""
        dial, self._dial = self._dial, None
        if dial is not None:
            dial.cancel()
            self.state = "closed"
            self._give_back()
        elif self._stream is not None and self.state != "closed":
            self._over("closing", "aborted")
            self._stream.abort()

    def _over(self, state: str, detail: str) -> None:
        before, self.state = self.state, state
        if before == "open":
            self._user.connection_over(self, detail)

    # Events of the dial

    @contained
    def dialled(self, stream: Stream, destination: Destination) -> None:
        """The upstream is connected."""
        self._dial = None
        # `max-conns-per-target` counts sessions and not shared connections.
        destination.give_back()
        self.destination, self.address, self.local = destination, stream.address, stream.local
        self._stream = watched = cast(Watched, stream)
        stream.side = Side.UPSTREAM
        self.state = "open"
        watched.watch(self)
        watched.own(self)
        if self.state == "open":
            self._user.connected(self)
        if self.state == "open":
            watched.start()

    @contained
    def dial_failed(self, problem: DialError, address: Address | None) -> None:
        """No target could be reached."""
        self._dial = None
        self.state = "closed"
        self._give_back()
        self._user.connection_failed(self, problem, address)

    def broke(self, failure: Failure) -> None:
        """An exception of portfwd's code ended the connection."""
        self._log.failure("{connection!r} failed", failure, connection=self)
        self.abort()

    # Events of the stream

    @contained
    def shown(self, stream: Stream, data: bytes) -> None:
        """Handle bytes of the upstream."""
        for message in self._unframer.feed(data):
            if self.state == "open":
                self._user.message(self, message)

    def passed(self, stream: Stream, count: int) -> None:
        """Do nothing: no bytes pass without this object."""

    def began(self, stream: Stream) -> None:
        """Do nothing: this event is for clients."""

    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """Do nothing: this event is for clients."""

    def opened(self, stream: Stream) -> None:
        """Do nothing: the stream is open already."""

    @contained
    def ended(self, stream: Stream) -> None:
        """The upstream has ended: close, so that unanswered questions are sent elsewhere."""
        if self.state == "open":
            self._over("closing", "the upstream ended the connection")
            stream.close()

    def end_sent(self, stream: Stream) -> None:
        """Do nothing: `lost` follows."""

    def writing_failed(self, stream: Stream, detail: str) -> None:
        """Do nothing: received bytes may still be read; the end or `lost` follows."""

    def thrown_away(self, stream: Stream, count: int) -> None:
        """Do nothing: nothing is discarded."""

    @contained
    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """The connection was closed."""
        self._give_back()
        self._over("closed", detail or "the upstream closed the connection")
        self._stream = None
