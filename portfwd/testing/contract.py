# -*- test-case-name: tests.testing.test_contract -*-
"""
The filter contract as a test: `check_filter` runs a filter in many ways, and says what it broke.

An author gives a few conversations that the filter is made for. They are cut everywhere, cut
short, damaged, run beside each other, met by a dial that fails and closed in the middle;
junk is sent until a filter that hoards it shows. The damage is the same in every run.

It shows that a filter keeps the contract, not that it does the right thing: what should come
out of a conversation is for the author's own tests to say, with `portfwd.testing.Pipe`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any, Final

from zope.interface import Invalid
from zope.interface.verify import verifyObject

from portfwd.filters.api import IFilter
from portfwd.testing.pipe import Outcome, Pipe
from portfwd.testing.splits import describe, splits
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction

#: What a filter is made for: bytes of the client, or who says what, in turn.
Sample = bytes | Sequence[tuple[Direction, bytes]]

_Script = list[tuple[Direction, bytes]]

#: How often each sample is damaged.
DAMAGES: Final = 50

#: Events in a row, after the end of both sides or between two pieces, in which a filter must come to rest.
MAX_EVENTS: Final = 2_000

#: Junk that is sent beyond what may be held, in pieces of this size.
JUNK: Final = 4096

#: Bytes that a filter may keep in attributes beside what the relay may hold for it: tables, a last line.
OWN: Final = 64 * 1024


class ContractBroken(AssertionError):
    """A filter does not keep the contract; the text says how, and how to see it again."""


class Unanswered(Exception):
    """What `check_filter` lets an `Await` raise."""


def check_filter(
    make: Callable[[], object],
    samples: Iterable[Sample],
    *,
    results: Callable[[object], object] = lambda awaitable: None,
    datagrams: bool = False,
) -> None:
    """
    Make sure that a filter keeps the contract, whatever the network does.

    It raises nothing and returns verdicts only; the same bytes give the same, however they
    are cut; ends travel in finite time; two connections do not know of each other; what it
    keeps is bounded; what it awaits may raise.

    >>> from portfwd.filters import Filter
    >>> check_filter(Filter, [b"anything"])

    :param make: makes what is to be checked, anew for each session: a filter's class, or a function that
        returns a filter, a factory or a plug-in.
    :param samples: conversations it is made for; bytes are the client's.
    :param results: of what it awaits, by the awaitable; None, if nothing is said.
    :param datagrams: each piece of a sample is a datagram, and is not cut.
    :raises ContractBroken: it does not.
    """
    scripts = [_script(sample) for sample in samples]
    if not scripts:
        raise ValueError("check_filter needs a sample of what the filter is made for")
    check = _Check(make, results, datagrams)
    check.shape()
    alone = [check.run(f"sample {number}", script) for number, script in enumerate(scripts, 1)]
    for number, (script, outcome) in enumerate(zip(scripts, alone, strict=True), 1):
        check.again(number, script, outcome)
        if not datagrams:
            check.cut(number, script, outcome)
        check.cut_short(number, script)
        check.dial_fails(number, script)
        check.asks_fail(number, script)
        check.damage(number, script)
        check.junk(number, script)
    check.side_by_side(scripts, alone)


def _script(sample: Sample) -> _Script:
    return [(TO_UPSTREAM, sample)] if isinstance(sample, bytes) else list(sample)


class _Check:
    """One filter that is checked, and how it is run."""

    def __init__(
        self, make: Callable[[], object], results: Callable[[object], object], datagrams: bool
    ) -> None:
        self._make = make
        self._results = results
        self._datagrams = datagrams

    # Sessions

    def _open(self, **options: Any) -> Pipe:
        return Pipe(self._make(), strict=False, datagrams=self._datagrams, **options)

    def _send(self, pipe: Pipe, script: Iterable[tuple[Direction, bytes]]) -> None:
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
        """End both sides, and see that the ends come out and nothing was raised."""
        if not self._datagrams:
            for direction in (TO_UPSTREAM, TO_CLIENT):
                if direction is TO_UPSTREAM or pipe.connected:
                    pipe.end(direction)
        for _ in range(MAX_EVENTS):
            self._settle(pipe)
            if pipe.rest(1) and not pipe.awaiting:
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
        """The filter has the methods, its factory the attributes, that the relay asks for."""
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
        """A second session is like the first, and like one that is shown everything."""
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

    def _compare(self, how: str, direction: Direction, cut: Outcome, whole: Outcome) -> None:
        same = cut == whole
        if not same and whole.finished is not None and cut.finished == whole.finished:
            # What came in one piece with the bytes for which it closes may have passed before.
            up, down = (cut.to_upstream, whole.to_upstream), (cut.to_client, whole.to_client)
            along, back = (up, down) if direction is TO_UPSTREAM else (down, up)
            same = back[0] == back[1] and (along[0].startswith(along[1]) or along[1].startswith(along[0]))
        if not same:
            raise ContractBroken(f"{how}: {cut}, in one piece it was {whole}")

    def cut_short(self, number: int, script: _Script) -> None:
        """A session may end or be closed at any time, and time may pass between any two pieces."""
        for index in range(len(script) + 1):
            how = f"sample {number} closed after {index} pieces"
            pipe = self._open()
            self._send(pipe, script[:index])
            pipe.close()
            self._see(how, pipe)
            self.run(f"sample {number} ended after {index} pieces", script[:index])
            pipe = self._open()
            self._send(pipe, script[:index])
            pipe.advance(60.0)
            self._send(pipe, script[index:])
            self._finish(f"sample {number} with a minute after {index} pieces", pipe)

    def dial_fails(self, number: int, script: _Script) -> None:
        """There may be no upstream."""
        pipe = self._open(connects=False)
        self._send(pipe, script)
        if pipe.dialled is not None and pipe.finished is None:
            pipe.fail()
        pipe.close()
        self._see(f"sample {number} with a dial that fails", pipe)

    def asks_fail(self, number: int, script: _Script) -> None:
        """What is awaited may raise: then the filter says what follows, or the session ends."""
        error = Unanswered("check_filter lets every Await fail once")
        pipe = self._open()
        for index in range(len(script) + 1):
            while pipe.awaiting:
                pipe.settle(error)
            if index < len(script) and (script[index][0] is TO_UPSTREAM or pipe.connected):
                pipe.send(*script[index])
        pipe.close()
        # A filter without `failed` raises it, so to speak; what else it raises is its own mistake.
        pipe.troubles[:] = [trouble for trouble in pipe.troubles if trouble.error is not error]
        self._see(f"sample {number} with results that do not come", pipe)

    def damage(self, number: int, script: _Script) -> None:
        """Bytes may be anything."""
        # The same damage in every run; nothing secret.
        random = Random(number)  # noqa: S311
        for damage in range(DAMAGES):
            damaged = [(direction, _damaged(data, random)) for direction, data in script]
            if random.random() < 0.2:
                damaged = damaged[: random.randrange(len(damaged) + 1)]
            self.run(f"sample {number}, damage {damage}", damaged)

    def junk(self, number: int, script: _Script) -> None:
        """What a filter keeps is bounded, whatever it is sent."""
        random = Random(number)  # noqa: S311
        pipe = self._open()
        limit = OWN + sum(2 * stage.max_hold for stage in pipe.chain.stages)
        self._send(pipe, script)
        for _ in range(2 * limit // JUNK + 1):
            self._send(pipe, [(direction, random.randbytes(JUNK)) for direction in Direction])
        kept = sum(_bytes_in(stage.filter) for stage in pipe.chain.stages)
        if kept > limit:
            raise ContractBroken(
                f"it keeps {kept} bytes of junk behind sample {number}; say NEED_MORE instead"
            )
        self._finish(f"sample {number} and junk", pipe)

    def side_by_side(self, scripts: list[_Script], alone: list[Outcome]) -> None:
        """Sessions do not know of each other."""
        pipes = [self._open() for _ in scripts]
        for turn in range(max(map(len, scripts))):
            for pipe, script in zip(pipes, scripts, strict=True):
                self._send(pipe, script[turn : turn + 1])
        for number, (pipe, outcome) in enumerate(zip(pipes, alone, strict=True), 1):
            how = f"sample {number} beside the others"
            other = self._finish(how, pipe)
            if other != outcome:
                raise ContractBroken(f"{how}: {other}, alone it was {outcome}")


def _damaged(data: bytes, random: Random) -> bytes:
    """`data`, with something wrong."""
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
    """The bytes that are kept in the attributes of `thing`, and in containers there."""
    seen: set[int] = set()
    left = [thing]
    size = 0
    while left:
        one: Any = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, bytes | bytearray):
            size += len(one)
        elif isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list | tuple | set | frozenset) or type(one).__name__ == "deque":
            left += one
        if one is thing:
            left += getattr(one, "__dict__", {}).values()
            slots = (name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ()))
            left += [getattr(one, name) for name in slots if hasattr(one, name)]
    return size
