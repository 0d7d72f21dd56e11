# -*- test-case-name: tests.relay.test_question_pool -*-
"""
The dial and the carrier of an association that uses a pool of connections (`portfwd.relay.question_pool`).

DNS questions are sent over the connections of the pool. A message that is not a question
(`portfwd.wire.dns.is_question`) may belong to another protocol with the same framing. The association then
gets a connection of its own, on which messages pass unchanged.
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
    Carries the questions and answers of an association.

    :ivar source: the client as limits count it.
    :ivar is_open: whether it is open.
    :ivar taker: receives the answers.
    :ivar unanswered: number of dropped questions.
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
            # Break reference cycles, so that nothing waits for the garbage collector.
            self.taker = None
            own, self._own = self._own, None
            if own is not None:
                own.close()

    def answered(self, message: bytes) -> None:
        """See `Asker`."""
        if self.taker is not None:
            self.taker.received(message)

    def end(self, detail: str) -> None:
        """No upstream could be reached: end the association."""
        if self.is_open and self.taker is not None:
            self.taker.broken(detail)

    # The association's own connection

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
    The dial of an association. It succeeds when the pool has a connection.

    :ivar tried: always None, because the pool dials.
    """

    def __init__(self, pool: QuestionPool, owner: DialOwner, streams: DatagramStreams, source: str) -> None:
        """
        :param streams: makes the stream of the association.
        :param source: the client as limits count it.
        """
        self._source = source
        self.tried: Address | None = None
        self._pool = pool
        self._owner = owner
        self._streams = streams

    def __repr__(self) -> str:
        return f"<SharedDial of {self._pool!r}>"

    def start(self) -> None:
        """Join the pool. The owner may be called before this returns."""
        self._pool.join(self)

    def cancel(self) -> None:
        """Stop waiting."""
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
        """The pool could not reach a target."""
        self._owner.dial_failed(problem, address)
