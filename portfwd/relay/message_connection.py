# -*- test-case-name: tests.relay.test_question_pool -*-
"""
One connection for messages with their length before them, dialled as any upstream is.

It carries whole messages both ways and tells its user what became of it. What the messages mean, and whether
they are sent again, is the user's to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, cast

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


class ConnectionUser(Protocol):
    """Who uses a connection; `connected` or `connection_failed` comes first, `connection_over` last."""

    def connected(self, connection: MessageConnection) -> None:
        """It is open."""

    def connection_failed(
        self, connection: MessageConnection, problem: DialError, address: Address | None
    ) -> None:
        """No target could be reached."""

    def message(self, connection: MessageConnection, message: bytes) -> None:
        """One whole message came."""

    def connection_over(self, connection: MessageConnection, detail: str) -> None:
        """It carries nothing any more, whoever ended it."""


class MessageConnection:
    """
    One connection.

    :ivar state: dialling, open, closing or closed.
    :ivar address: the target's that was reached.
    :ivar local: our own.
    :ivar destination: the target.
    :ivar closing_since: when the user saw it close; in the reactor's seconds.
    """

    _log = Logger()

    def __init__(self, user: ConnectionUser, dial: DialMaker, budget: Descriptors | None = None) -> None:
        """
        :param dial: makes the dial, which is not started.
        :param budget: is asked for a descriptor; None for nobody.
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
        """Dial, if there is a descriptor for it; the outcome may come before this returns."""
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
        """Send one message, of 65 535 bytes at most; only while it is open."""
        if self._stream is not None:
            self._stream.write(frame(message))

    def close(self) -> None:
        """End it in order; the user is told at once that it is over."""
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

    # What the dial tells

    @contained
    def dialled(self, stream: Stream, destination: Destination) -> None:
        """The upstream is there."""
        self._dial = None
        # Sessions are counted for `max-conns-per-target`, not the connections that they share.
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
        """Something of ours raised: the connection is over."""
        self._log.failure("{connection!r} failed", failure, connection=self)
        self.abort()

    # What the stream tells

    @contained
    def shown(self, stream: Stream, data: bytes) -> None:
        """Bytes of the upstream."""
        for message in self._unframer.feed(data):
            if self.state == "open":
                self._user.message(self, message)

    def passed(self, stream: Stream, count: int) -> None:
        """Nothing is passed on unseen."""

    def began(self, stream: Stream) -> None:
        """Clients' TLS only."""

    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """Clients' TLS only."""

    def opened(self, stream: Stream) -> None:
        """It is open already."""

    @contained
    def ended(self, stream: Stream) -> None:
        """The upstream answers no more: it is closed, so that what is not answered is asked elsewhere."""
        if self.state == "open":
            self._over("closing", "the upstream ended the connection")
            stream.close()

    def end_sent(self, stream: Stream) -> None:
        """`lost` follows."""

    def writing_failed(self, stream: Stream, detail: str) -> None:
        """The upstream takes no more, but what it has sent may still be read: its end or `lost` follows."""

    def thrown_away(self, stream: Stream, count: int) -> None:
        """Nothing is discarded."""

    @contained
    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """It is gone."""
        self._give_back()
        self._over("closed", detail or "the upstream closed the connection")
        self._stream = None
