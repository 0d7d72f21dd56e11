# -*- test-case-name: tests.relay.test_question_pool -*-
"""
Sends DNS questions of many clients over a few connections (``framing=length16`` from datagrams to a stream).

DNS clients use a new source port for each question. With a connection for each association, the few TCP
connections of a server would be used up after a few questions. The associations of a rule therefore share
connections, as RFC 7766 section 6.2 recommends for clients:

- Each question gets a unique number on its connection, and its answer, which may arrive in any order, gets
  the client's number back (section 7: "the ID used … MUST be unused").
- An answer that is longer than what its client accepts is truncated (`portfwd.wire.dns.truncate_for_udp`).
- A connection without unanswered questions ends after `IDLE` seconds.
- "If a client … with outstanding queries … the connection closes, it SHOULD retry": unanswered questions are
  sent once more on another connection. A connection with at least one answer does not count as an attempt,
  because some servers close after a few answers; from then on, connections have at most that many questions
  in flight.

A message that is not a question (`portfwd.wire.dns.is_question`) may belong to another protocol with the same
framing. Its association gets a connection of its own, where messages pass unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.errors import DialError
from portfwd.limits.descriptors import Descriptors
from portfwd.limits.question_shares import QuestionShares
from portfwd.relay.message_connection import MessageConnection
from portfwd.values import Address
from portfwd.wire.dns import IDS, read_id, truncate_for_udp, with_id

if TYPE_CHECKING:
    from portfwd.relay.message_connection import DialMaker

#: Connections that the associations of one listener share. RFC 7766 section 6.2.2 recommends one, but with a
#: server that answers in order, all clients would wait for its slowest answer.
MOST_CONNECTIONS: Final = 4

#: Number of unanswered questions on each connection at which another one is opened.
BUSY: Final = 8

#: Most unanswered questions on one connection: as many as servers accept (unbound's default for
#: ``incoming-num-tcp`` buffers; BIND's ``tcp-clients`` of one connection is at least 23). Others wait.
PIPELINE: Final = 64

#: Most unanswered or waiting questions of one listener's associations, and their bytes. Further ones are
#: dropped, and their clients repeat them. `portfwd.limits.question_shares` limits the share of one client.
MOST_QUESTIONS: Final = 4096
MOST_BYTES: Final = 4 * 1024 * 1024

#: Seconds after which a connection without unanswered questions ends. RFC 7766 section 6.2.3: "on the order
#: of a few seconds".
IDLE: Final = 5.0

#: Seconds without an answer after which a connection is dropped and its questions are sent on another one.
#: DNS clients repeat after the same time.
STALLED: Final = 5.0

#: Seconds after which a question is dropped: two tries of a DNS client.
LIFE: Final = 10.0

#: Seconds within which an ended connection must close.
CLOSING: Final = 5.0

#: Seconds between two checks of the connections.
LOOK: Final = 1.0

#: Number of times that a question is sent.
TRIES: Final = 2


class QuestionSource(Protocol):
    """
    The sender of questions: `portfwd.relay.shared_dial.QuestionCarrier`.

    :ivar source: the client as limits count it.
    :ivar is_open: whether it still accepts answers.
    :ivar unanswered: number of its dropped questions.
    """

    source: str
    is_open: bool
    unanswered: int

    def answered(self, message: bytes) -> None:
        """An answer with the number of its question."""

    def end(self, detail: str) -> None:
        """No upstream can be reached."""


class Joining(Protocol):
    """Waits for a connection. One of these methods is called."""

    def reached(self, connection: SharedConnection) -> None:
        """A connection is open."""

    def failed(self, problem: DialError, address: Address | None) -> None:
        """No target could be reached."""


@define(eq=False)
class Question:
    """
    A question of one client.

    :ivar number: its number from the client.
    :ivar tries: number of connections that sent it and ended without any answer.
    """

    carrier: QuestionSource
    message: bytes
    number: int
    asked_at: float
    tries: int = 0

    @property
    def source(self) -> str:
        """See `QuestionSource`."""
        return self.carrier.source

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.message)


class SharedConnection(MessageConnection):
    """
    A connection and its questions.

    :ivar asked: unanswered questions by their number on this connection.
    :ivar sent: number of sent questions. Numbers are never reused, so a late answer matches no question.
    :ivar answered: number of answers.
    :ivar heard_at: time of the last answer, of its opening, or of the first question after an idle time.
    """

    def __init__(self, pool: QuestionPool, dial: DialMaker) -> None:
        super().__init__(pool, dial, pool.budget)
        self.asked: dict[int, Question] = {}
        self.sent = 0
        self.answered = 0
        self.heard_at = 0.0

    def ask(self, question: Question, now: float) -> None:
        """Send `question`."""
        if not self.asked:
            self.heard_at = now
        number = self.sent
        self.sent += 1
        self.asked[number] = question
        self.send(with_id(question.message, number))


class QuestionPool:
    """
    The connections of one listener's associations.

    :ivar dial: makes a dial of the rule's targets.
    :ivar joining: associations that wait for the first connection.
    :ivar budget: the budget for the descriptors of connections; None for none.
    """

    def __init__(self, clock: IReactorTime, dial: DialMaker) -> None:
        self.dial = dial
        self.joining: dict[Joining, None] = {}
        self.budget: Descriptors | None = None
        self._clock = clock
        self._connections: dict[SharedConnection, None] = {}
        self._closing: dict[MessageConnection, None] = {}
        self._shares: QuestionShares[Question] = QuestionShares(MOST_QUESTIONS, MOST_BYTES)
        self._pipeline = PIPELINE
        self._handing = False
        self._timer: IDelayedCall | None = None

    def __repr__(self) -> str:
        return f"<QuestionPool {len(self._connections)} connections, {self._shares.count} questions>"

    def now(self) -> float:
        """The reactor's seconds."""
        return self._clock.seconds()

    # Associations

    def join(self, joining: Joining) -> None:
        """Call `joining` if a connection is open, or with the result of a dial."""
        for connection in self._connections:
            if connection.state == "open":
                joining.reached(connection)
                return
        self.joining[joining] = None
        if not self._connections:
            self._connect()

    # Questions

    def ask(self, carrier: QuestionSource, message: bytes) -> bool:
        """Send a question of `carrier`. False if there are too many questions."""
        number = read_id(message)
        if number is None or not self._shares.add(Question(carrier, message, number, self.now())):
            return False
        self._hand_out()
        return True

    def _hand_out(self) -> None:
        """Send waiting questions as far as connections are available."""
        if self._handing:
            return
        self._handing = True
        try:
            while (question := self._shares.first(MOST_CONNECTIONS * self._pipeline)) is not None:
                if not question.carrier.is_open:
                    self._shares.drop(question)
                    continue
                connection = self._pick()
                if connection is None:
                    break
                self._shares.send(question)
                connection.ask(question, self.now())
        finally:
            self._handing = False

    def _pick(self) -> SharedConnection | None:
        """The connection with the fewest questions. Opens another one if all have many."""
        best: SharedConnection | None = None
        dialling = False
        for one in self._connections:
            dialling = dialling or one.state == "dialling"
            if one.state != "open" or len(one.asked) >= self._pipeline or one.sent >= IDS:
                continue
            if best is None or len(one.asked) < len(best.asked):
                best = one
        if best is not None and len(best.asked) < BUSY:
            return best
        if not dialling and len(self._connections) < MOST_CONNECTIONS:
            self._connect()
        return best

    # Connections

    def _connect(self) -> None:
        made = SharedConnection(self, self.dial)
        self._connections[made] = None
        self._look_later()
        made.start()

    def connected(self, connection: SharedConnection) -> None:
        """See `ConnectionUser`."""
        connection.heard_at = self.now()
        joining, self.joining = self.joining, {}
        for one in joining:
            one.reached(connection)
        self._hand_out()

    def connection_failed(
        self, connection: MessageConnection, problem: DialError, address: Address | None
    ) -> None:
        """See `ConnectionUser`."""
        self._connections.pop(connection, None)  # type: ignore[call-overload]
        joining, self.joining = self.joining, {}
        for one in joining:
            one.failed(problem, address)
        if any(one.state in ("open", "dialling") for one in self._connections):
            return
        for question in self._shares.firsts():
            self._shares.drop(question)
            question.carrier.unanswered += 1
            question.carrier.end(str(problem))

    def message(self, connection: SharedConnection, message: bytes) -> None:
        """See `ConnectionUser`: an answer. It is dropped if it matches no question."""
        connection.heard_at = self.now()
        number = read_id(message)
        question = None if number is None else connection.asked.pop(number, None)
        if question is None:
            return
        connection.answered += 1
        if connection.answered >= 2 * self._pipeline:
            self._pipeline = min(PIPELINE, 2 * self._pipeline)
        self._shares.landed(question)
        self._shares.forget(question)
        carrier = question.carrier
        if carrier.is_open:
            carrier.answered(with_id(truncate_for_udp(message, question.message), question.number))
        if self._shares:
            self._hand_out()

    def connection_over(self, connection: SharedConnection, detail: str) -> None:
        """See `ConnectionUser`: send unanswered questions again."""
        self._connections.pop(connection, None)
        self.watch_closing(connection)
        unanswered = list(connection.asked.values())
        connection.asked.clear()
        if unanswered and connection.answered:
            self._pipeline = max(1, min(self._pipeline, connection.answered))
        again = []
        for question in unanswered:
            self._shares.landed(question)
            question.tries += not connection.answered
            if question.tries < TRIES and question.carrier.is_open:
                again.append(question)
            else:
                self._shares.forget(question)
                question.carrier.unanswered += 1
        self._shares.wait_again(again)
        self._hand_out()

    def watch_closing(self, connection: MessageConnection) -> None:
        """Abort `connection` if it does not close in time."""
        if connection.state == "closing":
            connection.closing_since = self.now()
            self._closing[connection] = None
            self._look_later()

    # Time

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(LOOK, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self.now()
        for question in self._shares.firsts():
            if now - question.asked_at >= LIFE:
                self._shares.drop(question)
                question.carrier.unanswered += 1
        for connection in tuple(self._closing):
            if connection.state == "closed":
                del self._closing[connection]
            elif now - connection.closing_since >= CLOSING:
                del self._closing[connection]
                connection.abort()
        for connection in tuple(self._connections):
            self._look_at(connection, now)
        self._hand_out()
        if self._connections or self._closing or self._shares:
            self._look_later()

    def _look_at(self, connection: SharedConnection, now: float) -> None:
        if connection.state != "open":
            return
        if connection.asked and now - connection.heard_at >= STALLED:
            connection.answered = 0  # its last answer was long ago
            connection.abort()
            return
        for number, question in tuple(connection.asked.items()):
            if now - question.asked_at < LIFE:
                break
            del connection.asked[number]
            self._shares.landed(question)
            self._shares.forget(question)
            question.carrier.unanswered += 1
        if not connection.asked and (now - connection.heard_at >= IDLE or connection.sent >= IDS):
            connection.close()

    def close(self) -> None:
        """End all connections at once."""
        self._shares = QuestionShares(MOST_QUESTIONS, MOST_BYTES)
        for connection in self._connections:
            connection.asked.clear()
        for one in (*self._connections, *self._closing):
            one.abort()
        self._connections.clear()
        self._closing.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
