# -*- test-case-name: tests.testing.test_pipe -*-
"""
A session without sockets: runs filters on plain bytes.

`Pipe` does what the relay does for a chain, with a simulated clock and upstream. It shows bytes to filters,
does not read stopped directions, moves bytes that need not be shown, dials, waits and closes. The relay must
behave in the same way.

>>> from portfwd.filters import NEED_MORE, TO_UPSTREAM, Close, Filter
>>> class SSHOnly(Filter):
...     def received(self, direction, data):
...         if direction is TO_UPSTREAM and not data.startswith(b"SSH-"):
...             return NEED_MORE if b"SSH-".startswith(data) else Close("not SSH", b"SSH only")
>>> pipe = Pipe(SSHOnly)
>>> pipe.send(TO_UPSTREAM, b"SS", b"H-2.0")
>>> pipe.to_upstream
b'SSH-2.0'
>>> pipe = Pipe(SSHOnly)
>>> pipe.send(TO_UPSTREAM, b"GET / HTTP/1.1")
>>> pipe.to_client, pipe.finished.detail
(b'SSH only', 'not SSH')

It opens no file and no connection: copies and dials are only recorded.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from portfwd.errors import ConnectRefused, DialError
from portfwd.filters.api import Connection, RouteClause, Sink
from portfwd.filters.chain.chain import Chain, make_chain
from portfwd.filters.chain.effects import (
    Abandon,
    Arm,
    Begin,
    Disarm,
    Effect,
    Finish,
    GoOn,
    Judge,
    PauseReading,
    ReadOn,
    Secure,
    SendEnd,
    StartDial,
    Store,
    Trouble,
    Unseen,
    Write,
)
from portfwd.testing.awaitables import Awaitables
from portfwd.testing.clauses import clause_of
from portfwd.testing.outcome import Notes, Outcome
from portfwd.values import (
    TO_CLIENT,
    TO_UPSTREAM,
    Address,
    CloseReason,
    Direction,
    FlowSummary,
    InetAddress,
    SessionSummary,
    Side,
)

#: Addresses of the client, the listener and the upstream, from the ranges for documentation (RFC 5737).
CLIENT: Final = InetAddress("192.0.2.1", 50000)
LOCAL: Final = InetAddress("198.51.100.1", 443)
UPSTREAM: Final = InetAddress("203.0.113.1", 8443)


class Pipe:
    """
    A session without sockets: filters see the bytes that a test sends, and it keeps what they do.

    :ivar connection: the `Connection` of the filters.
    :ivar notes: the events that filters logged.
    :ivar chain: the `portfwd.filters.chain.chain.Chain`.
    :ivar now: seconds since the session was opened; see `advance`.
    :ivar writes: the writes in each direction, in order; for datagrams, the datagrams.
    :ivar ended: the directions whose end was passed on.
    :ivar dialled: the target and the permitted addresses; None before the dial.
    :ivar connected: whether the upstream is connected.
    :ivar secured: the sides on which a filter started TLS, in order. There is no handshake: what the side
        sends from then on, and the bytes behind the request, are taken as decrypted.
    :ivar stopped: the directions that are not read.
    :ivar copies: the bytes that were written to each sink.
    :ivar judged: the addresses that filters announced, in order.
    :ivar troubles: the filters that raised an exception.
    :ivar finished: how a filter or the dial ended the session; None if it did not.
    :ivar summary: the summary that filters got at the close; None before.
    :ivar effects: all effects that the chain asked for, in order.
    """

    def __init__(
        self,
        *filters: object,
        routes: Sequence[RouteClause] = (),
        connection: Connection | None = None,
        connects: bool = True,
        shows_all: bool = False,
        strict: bool = True,
        datagrams: bool = False,
        fires: Callable[[object], object] | None = None,
        runs: bool = False,
    ) -> None:
        """
        Open the session.

        :param filters: the filters in the order of the rule: each a `Filter`, a factory, a class of one, or
            a plug-in, which gets its default options. A factory that is made here is started; see `started`.
        :param routes: ``route`` lines for plug-ins.
        :param connection: the `Connection` of the filters; None: one with made-up addresses.
        :param connects: whether a dial succeeds at once; otherwise call `connect` or `fail`.
        :param shows_all: also show bytes that need not be shown, as some relays do. The outcome is the same.
        :param strict: raise the exceptions of filters, after they had their effect.
        :param datagrams: each piece that is sent is a datagram.
        :param fires: returns the result of an awaitable, which is then there at once.
        :param runs: run awaited coroutines, as the relay does; otherwise they wait for `settle`.
        """
        self.notes = Notes()
        self.connection = connection or Connection(1, "test", self.notes, client=CLIENT, local=LOCAL)
        self.now = 0.0
        self.writes: dict[Direction, list[bytes]] = {TO_UPSTREAM: [], TO_CLIENT: []}
        self.ended: set[Direction] = set()
        self.dialled: StartDial | None = None
        self.connected = False
        self.stopped: set[Direction] = set()
        self.secured: list[Side] = []
        self.copies: dict[Sink, bytes] = {}
        self.judged: list[Judge] = []
        self.troubles: list[Trouble] = []
        self.finished: Finish | None = None
        self.summary: SessionSummary | None = None
        self.effects: list[Effect] = []
        self._connects = connects
        self._shows_all = shows_all
        self._strict = strict
        self._datagrams = datagrams
        self._raised = 0
        self._awaited = Awaitables(self._settled, fires, runs=runs)
        self._timers: list[tuple[float, int]] = []
        self._unseen: dict[Direction, int | None] = {TO_UPSTREAM: 0, TO_CLIENT: 0}
        self._unread: dict[Direction, deque[bytes]] = {TO_UPSTREAM: deque(), TO_CLIENT: deque()}
        self._source_ended: set[Direction] = set()
        self._end_read: set[Direction] = set()
        self._reading = False
        self._todo: deque[Effect] = deque()
        self._doing = False
        clauses = [clause_of(one, routes) for one in filters]
        self.connection.wake = self._wake
        made = make_chain(clauses, self.connection, datagrams=datagrams)
        self.chain = made if made is not None else Chain((), self.connection, datagrams=datagrams)
        self._do(self.chain.open())
        self._complain()

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{len(self.output(direction))} {direction.value}{' ended' if direction in self.ended else ''}"
            for direction in Direction
        )
        return f"<Pipe of {self.chain!r}: {sizes}>"

    # Results

    def output(self, direction: Direction) -> bytes:
        """Return all bytes that were written in `direction`."""
        return b"".join(self.writes[direction])

    @property
    def to_upstream(self) -> bytes:
        """All bytes that were written to the upstream."""
        return self.output(TO_UPSTREAM)

    @property
    def to_client(self) -> bytes:
        """All bytes that were written to the client."""
        return self.output(TO_CLIENT)

    @property
    def awaiting(self) -> list[Awaitable[object]]:
        """
        The awaitables for which filters wait, the oldest first; see `settle`.

        A Deferred is removed when it fires.
        """
        return self._awaited.awaitables

    @property
    def outcome(self) -> Outcome:
        """The outcome so far. It does not depend on how the bytes were cut into pieces."""
        return Outcome(
            self.to_upstream,
            self.to_client,
            frozenset(self.ended),
            self.finished,
            self.dialled is not None,
            self.dialled and self.dialled.target,
            dict(self.copies),
            tuple(self.secured),
        )

    # Events

    def send(self, direction: Direction, *pieces: bytes) -> None:
        """
        Let the source of `direction` send these pieces, one after another.

        While `direction` is not read, pieces wait.
        """
        self._check_source(direction)
        for piece in pieces:
            if piece or self._datagrams:
                self._unread[direction].append(piece)
                self._read()
        self._complain()

    def end(self, *directions: Direction) -> None:
        """Let the sources end these directions; without arguments both."""
        for direction in directions or (TO_UPSTREAM, TO_CLIENT):
            self._check_source(direction)
            self._source_ended.add(direction)
            self._read()
        self._complain()

    def connect(self, upstream: Address | None = UPSTREAM) -> None:
        """
        Let the dial succeed.

        :raises RuntimeError: nothing is being dialled.
        """
        self._check_dial()
        self._connect(upstream)
        self._complain()

    def fail(self, error: DialError | None = None) -> None:
        """
        Let the dial fail. Without `error`, the connection is refused.

        :raises RuntimeError: nothing is being dialled.
        """
        self._check_dial()
        self._do(self.chain.dial_failed(error or ConnectRefused("connection refused")))
        self._complain()

    def advance(self, seconds: float) -> None:
        """Let time pass. Timers that expire meanwhile are run in their order."""
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            self.now, key = heapq.heappop(self._timers)
            self._do(self.chain.due(key))
        self.now = until
        self._complain()

    def rest(self, events: int = 1000) -> bool:
        """
        Let time pass until there is no timer left.

        :param events: the maximum of timers that are run.
        :returns: whether there is no timer left.
        """
        while self._timers and events:
            self.advance(max(0.0, self._timers[0][0] - self.now))
            events -= 1
        return not self._timers

    def settle(self, result: object = None) -> None:
        """
        Give this result to the oldest of `awaiting`; an exception is raised there.

        :raises RuntimeError: no filter waits.
        """
        self._awaited.settle_oldest(result)
        self._complain()

    def close(self, reason: CloseReason = CloseReason.NORMAL) -> None:
        """
        Close the session, as the relay does for `reason`; the filters are told.

        A session closes by itself when a filter ends it, and when both directions have ended.
        """
        self._close(reason)
        self._complain()

    # The relay

    def _check_source(self, direction: Direction) -> None:
        if direction is TO_CLIENT and not self.connected and self.summary is None:
            raise RuntimeError("the upstream can say nothing: it is not connected")
        if direction in self._source_ended:
            raise RuntimeError(f"{direction.value} has ended")

    def _check_dial(self) -> None:
        if self.dialled is None or self.connected or self.finished is not None:
            raise RuntimeError("nothing is being dialled")

    def _connect(self, upstream: Address | None) -> None:
        self.connected = True
        self._do(self.chain.connected(upstream))

    def _read(self) -> None:
        """Read while bytes or ends are available."""
        if self._reading:
            return
        self._reading = True
        while any(self._read_one(direction) for direction in Direction):
            pass
        self._reading = False

    def _read_one(self, direction: Direction) -> bool:
        """Read a piece or an end; return whether there was one."""
        if direction in self.stopped or self.summary is not None:
            return False
        if self._unread[direction]:
            self._show(direction, self._unread[direction].popleft())
            return True
        if direction in self._source_ended and direction not in self._end_read:
            self._end_read.add(direction)
            if self._unseen[direction] is None and not self._shows_all:
                self._write_end(direction)
            else:
                self._do(self.chain.ended(direction))
            return True
        return False

    def _show(self, direction: Direction, data: bytes) -> None:
        unseen = self._unseen[direction]
        if unseen == 0 or self._shows_all:
            self._do(self.chain.received(direction, data))
            return
        moved = data[:unseen]
        self.writes[direction].append(moved)
        if unseen is not None:
            self._unseen[direction] = 0
            if len(data) > unseen:
                self._unread[direction].appendleft(data[unseen:])
            self._do(self.chain.passed(direction, len(moved)))

    def _do(self, effects: list[Effect]) -> None:
        """Perform the effects of the chain; effects that they cause are performed after them."""
        self.effects += effects
        self._todo.extend(effects)
        if self._doing:
            return
        self._doing = True
        while self._todo:
            self._do_one(self._todo.popleft())
        self._doing = False
        self._read()

    def _do_one(self, effect: Effect) -> None:
        match effect:
            case Write():
                # After an end that was passed on unseen, nothing can be written.
                if effect.direction not in self.ended:
                    self.writes[effect.direction].append(effect.data)
            case SendEnd():
                self._write_end(effect.direction)
            case StartDial():
                self.dialled = effect
                if self._connects:
                    self._connect(UPSTREAM)
            case Judge():
                self.judged.append(effect)
                self._do(self.chain.judged())
            case GoOn():
                self._do(self.chain.go_on())
            case Finish():
                self.finished = effect
                self._close(CloseReason.FILTER)
            case Arm():
                heapq.heappush(self._timers, (self.now + effect.seconds, effect.key))
            case Disarm():
                self._timers = [timer for timer in self._timers if timer[1] != effect.key]
                heapq.heapify(self._timers)
            case Begin():
                self._awaited.begin(effect)
            case Abandon():
                self._awaited.abandon(effect.key)
            case Secure():
                self.secured.append(effect.side)
                if effect.rest:
                    self._unread[effect.side.sends].appendleft(effect.rest)
                self._do(self.chain.secured(effect.side))
            case Store():
                self.copies[effect.sink] = self.copies.get(effect.sink, b"") + effect.data
            case PauseReading():
                self.stopped.add(effect.direction)
            case ReadOn():
                self.stopped.discard(effect.direction)
            case Unseen():
                self._unseen[effect.direction] = effect.count
            case Trouble():
                self.troubles.append(effect)

    def _wake(self, call: object) -> None:
        """Wake a filter: `connection.wake` was called."""
        self._do(self.chain.woken(call))

    def _settled(self, key: int, result: object) -> None:
        """A filter's awaitable has this result, or raised this exception."""
        if isinstance(result, BaseException):
            self._do(self.chain.failed(key, result))
        else:
            self._do(self.chain.settled(key, result))

    def _write_end(self, direction: Direction) -> None:
        self.ended.add(direction)
        if len(self.ended) == len(Direction):
            self._close(CloseReason.NORMAL)

    def _close(self, reason: CloseReason) -> None:
        if self.summary is not None:
            return
        self.summary = SessionSummary(
            id=self.connection.id,
            rule=self.connection.rule,
            written=("*", "443", "upstream", "8443"),
            client=self.connection.client,
            local=self.connection.local,
            upstream=self.connection.upstream,
            opened_at=0.0,
            duration=self.now,
            to_upstream=FlowSummary(bytes=len(self.to_upstream)),
            to_client=FlowSummary(bytes=len(self.to_client)),
            reason=reason,
            detail=self.finished.detail if self.finished is not None else "",
        )
        self._timers.clear()
        self._awaited.close()
        self._do(self.chain.closed(self.summary))

    def _complain(self) -> None:
        """Raise the exception of a filter."""
        self._awaited.see_failures()
        if self._strict and len(self.troubles) > self._raised:
            self._raised = len(self.troubles)
            raise self.troubles[-1].error
