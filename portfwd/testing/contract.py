# -*- test-case-name: tests.testing.test_contract -*-
"""
Check the filter contract: `check_filter` runs a filter in many ways and reports violations.

The author provides sample conversations. They are split at every position, truncated, damaged, run
concurrently, closed early, and run with a dial that fails. Random bytes are sent to detect unbounded memory.
The damage is the same in every run.

It checks the contract, not the function of the filter. For that, write tests with `portfwd.testing.Pipe`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from random import Random
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Final

from twisted.internet.defer import Deferred
from zope.interface import Invalid
from zope.interface.verify import verifyObject

from portfwd.filters.api import Connection, IFilter, RouteClause
from portfwd.testing.outcome import Outcome
from portfwd.testing.pipe import Pipe
from portfwd.testing.splits import SIZES, describe, splits
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction, counted

#: A sample conversation: bytes of the client, or pairs of a direction and bytes.
Sample = bytes | Sequence[tuple[Direction, bytes]]

_Script = list[tuple[Direction, bytes]]

#: Number of damaged variants of each sample.
DAMAGES: Final = 50

#: Maximum events, after the end of both sides or between two pieces, until a filter must not act any more.
MAX_EVENTS: Final = 2_000

#: Size of the pieces of random bytes that are sent to detect unbounded memory.
JUNK: Final = 4096

#: Maximum bytes in attributes of a filter, in addition to those that the relay holds for it: tables, a last
#: line.
OWN: Final = 64 * 1024


#: Maximum number of objects that are visited to measure the memory of a filter.
MOST_OBJECTS: Final = 100_000

#: Types that are not counted as memory of a session: code, and objects of the relay.
NOT_KEPT: Final = (type, ModuleType, FunctionType, BuiltinFunctionType, Connection, Pipe)


class ContractBroken(AssertionError):
    """A filter does not keep the contract. The text says how, and how to reproduce it."""


class Unanswered(Exception):
    """The exception that `check_filter` makes an `Await` raise."""


def check_filter(
    make: object,
    samples: Iterable[Sample],
    *,
    results: Callable[[object], object] = lambda awaitable: None,
    datagrams: bool = False,
    routes: Sequence[RouteClause] = (),
    pipelining: bool = True,
) -> None:
    """
    Check that a filter keeps the filter contract.

    The filter must raise no exception and return verdicts only. The same bytes must have the same outcome,
    however they are cut. Ends must be passed on in finite time. Connections must not depend on each other.
    What the filter keeps must be bounded. Its awaitables may raise.

    >>> from portfwd.filters import Filter
    >>> check_filter(Filter, [b"anything"])

    :param make: a filter's class or a factory's, a factory, a plug-in, or a function that returns one of
        these or a filter. A class or a function is called for each session.
    :param samples: conversations for which the filter is made: bytes of the client, or pairs of a direction
        and bytes.
    :param results: returns the result of an awaitable.
    :param datagrams: each piece of a sample is a datagram, and is not cut.
    :param routes: ``route`` lines, for plug-ins and classes that take them.
    :param pipelining: also send requests before the answers to earlier ones, whose order replies must not
        change. False: the protocol does not allow it.
    :raises ContractBroken: the filter does not keep the contract.
    :raises ValueError: there are no samples.
    """
    scripts = [_script(sample) for sample in samples]
    if not scripts:
        raise ValueError("check_filter needs a sample of what the filter is made for")
    check = _Check(make, results, datagrams, routes)
    check.shape()
    alone = [check.run(f"sample {number}", script) for number, script in enumerate(scripts, 1)]
    for number, (script, outcome) in enumerate(zip(scripts, alone, strict=True), 1):
        check.again(number, script, outcome)
        if not datagrams:
            check.cut(number, script, outcome)
            check.cut_everywhere(number, script, outcome)
            if pipelining:
                check.pipelined(number, script, outcome)
        check.cut_short(number, script)
        check.dial_fails(number, script)
        check.asks_fail(number, script)
        check.answered_at_once(number, script, outcome)
        check.shared_results(number, script, outcome)
        check.damage(number, script)
        check.junk(number, script)
    check.side_by_side(scripts, alone)


def _script(sample: Sample) -> _Script:
    return [(TO_UPSTREAM, sample)] if isinstance(sample, bytes) else list(sample)


class _Check:
    """The check of one filter."""

    def __init__(
        self,
        make: object,
        results: Callable[[object], object],
        datagrams: bool,
        routes: Sequence[RouteClause],
    ) -> None:
        self._make = make
        self._results = results
        self._datagrams = datagrams
        self._routes = routes

    # Sessions

    def _open(self, **options: Any) -> Pipe:
        make: Any = self._make
        # A pipe instantiates a class and passes the routes that it accepts.
        made = make if isinstance(make, type) or not callable(make) else make()
        return Pipe(made, routes=self._routes, strict=False, datagrams=self._datagrams, **options)

    def _send(self, pipe: Pipe, script: Iterable[tuple[Direction, bytes]]) -> None:
        self._settle(pipe)
        for direction, data in script:
            if direction is TO_UPSTREAM or pipe.connected:
                pipe.send(direction, data)
            self._settle(pipe)

    def _settle(self, pipe: Pipe) -> None:
        for _ in range(MAX_EVENTS):
            if not pipe.awaiting:
                return
            pipe.settle(self._results(pipe.awaiting[0]))
        raise ContractBroken(f"it awaits one thing after another, more than {MAX_EVENTS}")

    def _finish(self, how: str, pipe: Pipe) -> Outcome:
        """End both sides; check that the ends are passed on and nothing was raised."""
        open_ends = [] if self._datagrams else [TO_UPSTREAM, TO_CLIENT]
        for _ in range(MAX_EVENTS):
            # Some filters dial only after a while; the upstream cannot end before.
            for direction in tuple(open_ends):
                if direction is TO_UPSTREAM or pipe.connected:
                    open_ends.remove(direction)
                    pipe.end(direction)
            self._settle(pipe)
            if pipe.rest(1) and not pipe.awaiting and not (pipe.connected and open_ends):
                break
        else:
            raise ContractBroken(f"{how}: it does not come to rest after both ends")
        if pipe.connected and pipe.summary is None and not self._datagrams:
            missing = ", ".join(one.value for one in Direction if one not in pipe.ended)
            raise ContractBroken(f"{how}: the end does not travel on: {missing}")
        outcome = pipe.outcome
        pipe.close()
        self._see(how, pipe)
        return outcome

    def _see(self, how: str, pipe: Pipe) -> None:
        if pipe.troubles:
            error = pipe.troubles[0].error
            raise ContractBroken(f"{how}: it raised {type(error).__name__}: {error}") from error

    def run(self, how: str, script: _Script, **options: Any) -> Outcome:
        """One whole session."""
        pipe = self._open(**options)
        self._send(pipe, script)
        return self._finish(how, pipe)

    # What is checked

    def shape(self) -> None:
        """The filter has the methods, and its factory the attributes, that the relay requires."""
        pipe = self._open()
        for stage in pipe.chain.stages:
            try:
                verifyObject(IFilter, stage.filter, tentative=True)
            except Invalid as error:
                raise ContractBroken(f"it is no filter: {error}") from error
            for name, good in (
                ("on_timeout", stage.on_timeout in ("close", "pass")),
                ("on_error", stage.on_error in ("close", "bypass")),
                ("max_hold", isinstance(stage.max_hold, int) and stage.max_hold >= 0),
                ("on_overflow", stage.on_overflow in ("close", "pass")),
                ("hold_timeout", isinstance(stage.hold_timeout, int | float) and stage.hold_timeout > 0),
            ):
                if not good:
                    raise ContractBroken(f"its {name} is {getattr(stage, name)!r}; see IFilterFactory")
        self._see("building and opening it", pipe)
        pipe.close()
        self._see("closing it unused", pipe)

    def again(self, number: int, script: _Script, outcome: Outcome) -> None:
        """A second session has the same outcome, also if all bytes are shown."""
        for how, options in (("run again", {}), ("shown what need not be", {"shows_all": True})):
            other = self.run(f"sample {number} {how}", script, **options)
            if other != outcome:
                raise ContractBroken(f"sample {number} {how}: {other}, first it was {outcome}")

    def cut(self, number: int, script: _Script, outcome: Outcome) -> None:
        """Each piece of the sample may be cut anywhere."""
        for index, (direction, data) in enumerate(script):
            for pieces in splits(data):
                cut = [*script[:index], *((direction, piece) for piece in pieces), *script[index + 1 :]]
                how = f"sample {number}, piece {index + 1} cut into {describe(pieces)}"
                self._compare(how, direction, self.run(how, cut), outcome)

    def cut_everywhere(self, number: int, script: _Script, outcome: Outcome) -> None:
        """Both sides may be cut at once."""
        for step in SIZES:
            pieces = [
                (direction, data[start : start + step])
                for direction, data in script
                for start in range(0, len(data), step)
            ]
            other = self.run(f"sample {number}", pieces)
            # If the filter closes, one direction may have passed more bytes before than in one piece.
            same = other == outcome or (
                outcome.finished is not None
                and other.finished == outcome.finished
                and _agree(other.to_upstream, outcome.to_upstream)
                and _agree(other.to_client, outcome.to_client)
            )
            if not same:
                how = f"sample {number}, both sides cut into pieces of {counted(step, 'byte')}"
                raise ContractBroken(f"{how}: {other}, in one piece it was {outcome}")

    def pipelined(self, number: int, script: _Script, outcome: Outcome) -> None:
        """A client that does not wait for answers gets them in the same order."""
        how = f"sample {number} with all of the client's bytes first"
        client = [(direction, data) for direction, data in script if direction is TO_UPSTREAM]
        upstream = [(direction, data) for direction, data in script if direction is TO_CLIENT]
        if len(client) < 2 or not upstream or outcome.finished is not None:
            return
        pipe = self._open()
        self._send(pipe, client)
        if not pipe.connected or pipe.finished is not None or not pipe.to_client:
            pipe.close()
            return  # nothing was replied before an answer
        early = pipe.to_client
        self._send(pipe, upstream)
        other = self._finish(how, pipe)
        if other.to_client != outcome.to_client and sorted(other.to_client) == sorted(outcome.to_client):
            raise ContractBroken(
                f"{how}: its reply {early!r} overtakes answers that are still due: the client gets"
                f" {other.to_client!r}, otherwise {outcome.to_client!r}; keep the reply until they have"
                " passed, or say pipelining=False where the protocol forbids it"
            )

    def answered_at_once(self, number: int, script: _Script, outcome: Outcome) -> None:
        """A result may be available before the method of the filter has returned."""
        how = f"sample {number} with results that are there at once"
        asked: list[object] = []

        def answer(awaitable: object) -> object:
            asked.append(awaitable)
            return self._results(awaitable)

        other = self.run(how, script, fires=answer)
        if asked and other != outcome:
            raise ContractBroken(f"{how}: {other}, later it was {outcome}")

    def shared_results(self, number: int, script: _Script, outcome: Outcome) -> None:
        """Several sessions may await one Deferred: none changes or cancels what the others get."""
        how = f"sample {number} beside sessions that await the same Deferred"
        pipes = [self._open()]
        first: Any = pipes[0].awaiting[0] if pipes[0].awaiting else None
        if isinstance(first, Deferred):
            pipes += [self._open(), self._open()]
        if any(not pipe.awaiting or pipe.awaiting[0] is not first for pipe in pipes):
            for pipe in pipes:
                pipe.close()
            return
        pipes[0].close()
        if first.called:
            raise ContractBroken(f"{how}: a session that is closed ends what the others await")
        first.callback(self._results(first))
        for pipe in pipes[1:]:
            self._send(pipe, script)
            other = self._finish(how, pipe)
            if other != outcome:
                raise ContractBroken(f"{how}: {other}, alone it was {outcome}")

    def _compare(self, how: str, direction: Direction, cut: Outcome, whole: Outcome) -> None:
        same = cut == whole
        if not same and whole.finished is not None and cut.finished == whole.finished:
            # What came in one piece with the bytes for which it closes may have passed before.
            up, down = (cut.to_upstream, whole.to_upstream), (cut.to_client, whole.to_client)
            along, back = (up, down) if direction is TO_UPSTREAM else (down, up)
            same = back[0] == back[1] and _agree(*along)
        if not same:
            raise ContractBroken(f"{how}: {cut}, in one piece it was {whole}")

    def cut_short(self, number: int, script: _Script) -> None:
        """A session may end or be closed at any time, and time may pass between any two pieces."""
        for index in range(len(script) + 1):
            how = f"sample {number} closed after {counted(index, 'piece')}"
            pipe = self._open()
            self._send(pipe, script[:index])
            pipe.close()
            self._see(how, pipe)
            self.run(f"sample {number} ended after {counted(index, 'piece')}", script[:index])
            pipe = self._open()
            self._send(pipe, script[:index])
            pipe.advance(60.0)
            self._send(pipe, script[index:])
            self._finish(f"sample {number} with a minute after {counted(index, 'piece')}", pipe)

    def dial_fails(self, number: int, script: _Script) -> None:
        """There may be no upstream."""
        pipe = self._open(connects=False)
        self._send(pipe, script)
        if pipe.dialled is not None and pipe.finished is None:
            pipe.fail()
        pipe.close()
        self._see(f"sample {number} with a dial that fails", pipe)

    def asks_fail(self, number: int, script: _Script) -> None:
        """An awaitable may raise. Then the filter decides, or the session ends."""
        error = Unanswered("check_filter lets every Await fail once")
        pipe = self._open()
        for index in range(len(script) + 1):
            while pipe.awaiting:
                pipe.settle(error)
            if index < len(script) and (script[index][0] is TO_UPSTREAM or pipe.connected):
                pipe.send(*script[index])
        pipe.close()
        # For a filter without `failed` this exception is reported; any other one is an error of the filter.
        pipe.troubles[:] = [trouble for trouble in pipe.troubles if trouble.error is not error]
        self._see(f"sample {number} with results that do not come", pipe)

    def damage(self, number: int, script: _Script) -> None:
        """Bytes may be anything."""
        # A fixed seed: the same damage in every run.
        random = Random(number)  # noqa: S311
        for damage in range(DAMAGES):
            damaged = [(direction, _damaged(data, random)) for direction, data in script]
            if random.random() < 0.2:
                damaged = damaged[: random.randrange(len(damaged) + 1)]
            self.run(f"sample {number}, damage {damage}", damaged)

    def junk(self, number: int, script: _Script) -> None:
        """The memory of a filter is bounded for any input."""
        random = Random(number)  # noqa: S311
        pipe = self._open()
        limit = OWN + sum(2 * stage.max_hold for stage in pipe.chain.stages)
        self._send(pipe, script)
        before = sum(_bytes_in(stage.filter) for stage in pipe.chain.stages)
        for _ in range(2 * limit // JUNK + 1):
            self._send(pipe, [(direction, random.randbytes(JUNK)) for direction in Direction])
        kept = sum(_bytes_in(stage.filter) for stage in pipe.chain.stages) - before
        if kept > limit:
            raise ContractBroken(
                f"it keeps {counted(kept, 'byte')} of junk behind sample {number}; say NEED_MORE instead"
            )
        self._finish(f"sample {number} and junk", pipe)

    def side_by_side(self, scripts: list[_Script], alone: list[Outcome]) -> None:
        """Sessions do not affect each other."""
        pipes = [self._open() for _ in scripts]
        for turn in range(max(map(len, scripts))):
            for pipe, script in zip(pipes, scripts, strict=True):
                self._send(pipe, script[turn : turn + 1])
        for number, (pipe, outcome) in enumerate(zip(pipes, alone, strict=True), 1):
            how = f"sample {number} beside the others"
            other = self._finish(how, pipe)
            if other != outcome:
                raise ContractBroken(f"{how}: {other}, alone it was {outcome}")


def _agree(one: bytes, other: bytes) -> bool:
    """Whether one is a prefix of the other."""
    return one.startswith(other) or other.startswith(one)


def _damaged(data: bytes, random: Random) -> bytes:
    """Return `data` with random damage."""
    start, stop = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
    junk = random.randbytes(random.choice((1, 2, 8, 300)))
    return random.choice(
        (
            data[:start],
            data[stop:],
            data[:start] + data[stop:],
            data[:start] + junk + data[start:],
            data[:start] + junk + data[start + len(junk) :],
            data + data[start:stop],
            junk,
        )
    )


def _bytes_in(thing: object) -> int:
    """Count the bytes and characters in the attributes of `thing`, with nested containers and objects."""
    seen: set[int] = set()
    left = [thing]
    size = 0
    while left and len(seen) < MOST_OBJECTS:
        one: Any = left.pop()
        if id(one) in seen or isinstance(one, NOT_KEPT):
            continue
        seen.add(id(one))
        if isinstance(one, bytes | bytearray | str):
            size += len(one)
        elif isinstance(one, memoryview):
            size += one.nbytes
        elif isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset | deque):
            left += one
        elif isinstance(one, BytesIO):
            size += len(one.getbuffer())
        else:
            left += getattr(one, "__dict__", {}).values()
            slots = (name for kind in type(one).__mro__ for name in _slots(kind))
            left += [getattr(one, name) for name in slots if hasattr(one, name)]
    return size


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
