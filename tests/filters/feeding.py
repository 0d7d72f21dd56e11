"""Lets a client talk to a chain of filters, in any pieces, with an upstream that answers nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import evolve
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import DialError
from portfwd.filters import TO_UPSTREAM, Address, Connection, Factory, InetAddress
from portfwd.filters.chain.chain import make_chain
from portfwd.filters.chain.effects import Arm, Begin, Effect, Finish, Judge, StartDial, Trouble, Write

CLIENT = InetAddress("192.0.2.1", 5000)
LOCAL = InetAddress("198.51.100.1", 443)
UPSTREAM = InetAddress("203.0.113.1", 8080)


def make_connection(client: Address | None = CLIENT, **values: Any) -> Connection:
    """Make a connection as a listener would."""
    return Connection(7, "web", Logger(), **{"client": client, "local": LOCAL, **values})


class Talk:
    """
    One client and what becomes of its connection.

    :ivar dial: what was to be dialled; it succeeds at once, or fails with `problem`.
    :ivar finish: how a filter ended it.
    :ivar judged: the client that was announced.
    :ivar upstream: bytes that the upstream got, write by write.
    :ivar client: bytes that the client got.
    """

    def __init__(
        self,
        *factories: Factory,
        connection: Connection | None = None,
        problem: DialError | None = None,
        asked: Sequence[Address] = (),
    ) -> None:
        """
        :param problem: why the dial fails.
        :param asked: addresses that the dial asks about before that.
        """
        self.connection = connection or make_connection()
        self.dial: StartDial | None = None
        self.finish: Finish | None = None
        self.judged: Judge | None = None
        self.upstream: list[bytes] = []
        self.client = b""
        self._problem = problem
        self._asked = asked
        self._timers: list[Arm] = []
        names = (f"filter-{number}" for number in range(len(factories)))
        self._chain = make_chain(list(zip(names, factories, strict=False)), self.connection)
        if self._chain is not None:
            self._do(self._chain.open())

    @property
    def untouched(self) -> bool:
        """No filter cared for this connection."""
        return self._chain is None

    @property
    def target(self) -> object:
        """What was dialled instead of the rule's own target."""
        assert self.dial is not None, self.finish
        return self.dial.target

    @property
    def reason(self) -> str:
        """Why a filter ended it."""
        assert self.finish is not None, self.dial
        return self.finish.detail

    def say(self, *pieces: bytes) -> Talk:
        """The client sends; returns itself."""
        assert self._chain is not None
        for piece in pieces:
            self._do(self._chain.received(TO_UPSTREAM, piece))
        return self

    def end(self) -> Talk:
        """The client ends; returns itself."""
        assert self._chain is not None
        self._do(self._chain.ended(TO_UPSTREAM))
        return self

    def wait(self) -> float:
        """Let the time that filters have run out; returns how many seconds it was."""
        assert self._chain is not None
        [arm] = self._timers
        self._do(self._chain.due(arm.key))
        return arm.seconds

    def _do(self, effects: list[Effect]) -> None:
        assert self._chain is not None
        for effect in effects:
            match effect:
                case Write():
                    if effect.direction is TO_UPSTREAM:
                        self.upstream.append(effect.data)
                    else:
                        self.client += effect.data
                case StartDial():
                    self.dial = effect
                    for address in self._asked:
                        assert effect.permits is not None
                        effect.permits(address)
                    failed = self._problem
                    chain = self._chain
                    self._do(chain.connected(UPSTREAM) if failed is None else chain.dial_failed(failed))
                case Finish():
                    self.finish = effect
                case Judge():
                    self.judged = effect
                    self._do(self._chain.judged())
                case Arm():
                    self._timers.append(effect)
                case Begin():
                    # What filters ask for here is answered at once.
                    self._do(self._chain.settled(effect.key, _result(effect.awaitable)))
                case Trouble():
                    raise effect.error

    def outcome(self) -> tuple[object, ...]:
        """What must not depend on how bytes came."""
        dialled = None if self.dial is None else (self.dial.target,)
        return dialled, self.finish, self.judged, b"".join(self.upstream), self.client


def _result(awaitable: Any) -> object:
    try:
        awaitable.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError(f"{awaitable} has no result yet")


def splits(data: bytes) -> Iterator[Sequence[bytes]]:
    """Ways to cut `data`: whole, byte by byte, and in two at many places."""
    yield [data]
    if len(data) < 400:
        yield [data[place : place + 1] for place in range(len(data))]
    for place in range(1, len(data), 1 + len(data) // 100):
        yield [data[:place], data[place:]]


class FilterTestCase(SynchronousTestCase):
    """Asks filters in every way in which bytes can come."""

    def talk(
        self,
        *factories: Factory,
        data: bytes,
        connection: Connection | None = None,
        problem: DialError | None = None,
    ) -> Talk:
        """Send `data` in many ways, and expect the same outcome each time; returns the talk of the first."""
        connection = connection or make_connection()
        talks: list[Talk] = []
        for pieces in splits(data):
            # What filters leave in one connection is not for the next one to find.
            fresh = evolve(connection, tags=dict(connection.tags))
            talks.append(Talk(*factories, connection=fresh, problem=problem).say(*pieces))
            self.assertEqual(talks[-1].outcome(), talks[0].outcome(), pieces)
        return talks[0]
