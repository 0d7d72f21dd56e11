# -*- test-case-name: tests.relay.test_question_pool -*-
"""
One association's share of a pool of connections (`portfwd.relay.question_pool`): its dial, and its carrier.

DNS questions go over the pool's connections. A message that is no question (`portfwd.wire.dns.is_question`)
may belong to another protocol with the same framing: the association then has a connection of its own for
such, on which they pass unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portfwd.errors import DialError, TargetsFull
from portfwd.relay.message_connection import MessageConnection
from portfwd.relay.question_pool import QuestionPool, SharedConnection
from portfwd.streams.datagrams.carrier import EarlyDatagrams, Taker
from portfwd.streams.datagrams.datagram_opening import DatagramStreams
from portfwd.values import Address
from portfwd.wire.dns import is_question
from portfwd.wire.framing import MAX_MESSAGE

if TYPE_CHECKING:
    from portfwd.relay.dial import DialOwner


class QuestionCarrier:
    """
    An association's share of the pool: carries its questions and their answers.

    :ivar source: the client, as limits count it.
    :ivar is_open: it was not closed yet.
    :ivar taker: who takes answers.
    :ivar unanswered: questions that were given up.
    """

    def __init__(
        self, pool: QuestionPool, address: Address | None, local: Address | None, source: str
    ) -> None:
        self.source = source
        self.address = address
        self.local = local
        self.is_open = True
        self.taker: Taker | None = None
        self.unanswered = 0
        self._pool = pool
        self._own: MessageConnection | None = None
        self._early = EarlyDatagrams()

    def __repr__(self) -> str:
        return f"<QuestionCarrier to {self.address} {'open' if self.is_open else 'closed'}>"

    def carry(self, taker: Taker) -> None:
        """See `Carrier`."""
        self.taker = taker

    def send(self, data: bytes) -> bool:
        """See `Carrier`."""
        if not self.is_open or len(data) > MAX_MESSAGE:
            return False
        if is_question(data):
            return self._pool.ask(self, data)
        if self._own is None:
            self._own = own = MessageConnection(self, self._pool.dial, self._pool.budget)
            own.start()
        if self._own.state == "open":
            self._own.send(data)
            return True
        return self._own.state == "dialling" and self._early.put(data)

    def close(self) -> None:
        """See `Carrier`."""
        if self.is_open:
            self.is_open = False
            # Both know this carrier: nothing must wait for the garbage collector.
            self.taker = None
            own, self._own = self._own, None
            if own is not None:
                own.close()

    def answered(self, message: bytes) -> None:
        """See `Asker`."""
        if self.taker is not None:
            self.taker.received(message)

    def end(self, detail: str) -> None:
        """No upstream can be reached: the association ends."""
        if self.is_open and self.taker is not None:
            self.taker.broken(detail)

    # Its own connection

    def connected(self, connection: MessageConnection) -> None:
        """See `ConnectionUser`."""
        while self._early:
            connection.send(self._early.take())

    def connection_failed(
        self, connection: MessageConnection, problem: DialError, address: Address | None
    ) -> None:
        """See `ConnectionUser`."""
        self.end(str(problem))

    def message(self, connection: MessageConnection, message: bytes) -> None:
        """See `ConnectionUser`."""
        if self.is_open:
            self.answered(message)

    def connection_over(self, connection: MessageConnection, detail: str) -> None:
        """See `ConnectionUser`."""
        self._pool.watch_closing(connection)
        self.end(detail)


class SharedDial:
    """
    The dial of an association: it has reached what the pool has reached.

    :ivar tried: None: the pool tries, not this.
    """

    def __init__(self, pool: QuestionPool, owner: DialOwner, streams: DatagramStreams, source: str) -> None:
        """
        :param streams: makes the association's side of the pool.
        :param source: the client, as limits count it.
        """
        self._source = source
        self.tried: Address | None = None
        self._pool = pool
        self._owner = owner
        self._streams = streams

    def __repr__(self) -> str:
        return f"<SharedDial of {self._pool!r}>"

    def start(self) -> None:
        """Join the pool; the outcome may come before this returns."""
        self._pool.join(self)

    def cancel(self) -> None:
        """Wait no longer."""
        self._pool.joining.pop(self, None)

    def reached(self, connection: SharedConnection) -> None:
        """The pool has a connection."""
        destination, address = connection.destination, connection.address
        assert destination is not None
        if not destination.take():
            limit = destination.options.max_conns_per_target
            problem = TargetsFull(f"{destination.label}: max-conns-per-target={limit}")
            self._owner.dial_failed(problem, address)
            return
        carrier = QuestionCarrier(self._pool, address, connection.local, self._source)
        self._owner.dialled(self._streams.over_messages(carrier), destination)

    def failed(self, problem: DialError, address: Address | None) -> None:
        """The pool could reach no target."""
        self._owner.dial_failed(problem, address)
