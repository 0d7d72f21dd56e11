"""Tests for `portfwd.filters.chain.chain` with chains, inputs and times that nobody thought of."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import ConnectRefused
from portfwd.filters import (
    DONE,
    DROP,
    NEED_MORE,
    TO_CLIENT,
    TO_UPSTREAM,
    Again,
    Announce,
    Await,
    Bypass,
    Close,
    Copy,
    Delay,
    Direction,
    Factory,
    Filter,
    Forward,
    InetAddress,
    NeedMore,
    Reply,
    Route,
    Sink,
    Verdict,
    Wake,
)
from portfwd.filters.chain.effects import Arm, Begin, Finish, PauseReading, ReadOn, SendEnd, StartDial, Write
from portfwd.testing import Pipe
from tests.filters.scripted import SUMMARY, Scripted, chain_of, seat

#: Bytes that the filters here may have held for them.
HOLD = 64
PIECES = st.binary(max_size=HOLD // 2)
DIRECTIONS = st.sampled_from([TO_UPSTREAM, TO_CLIENT])


class Fickle(Filter):
    """
    Passes every byte in its place, in one way after another: by chance, the same for the same seed.

    :ivar delays_left: how often it may still put off what it could do at once.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.delays_left = 40

    def received(self, direction: Direction, data: bytes) -> Verdict:
        cut = self.random.randrange(len(data) + 1)
        ways: list[Verdict] = [
            None, data, Forward(data), [Forward(data[:cut]), Forward(data[cut:])], [None, NeedMore(rest=b"")],
            Wake(self.random.random()), [Bypass(self.random.randrange(9)), Wake(0.1)], Bypass(3, data),
            Delay(0, data), [Forward(data[:cut]), Again(data[cut:])] if cut else None,
        ]  # fmt: skip
        if self.random.random() < 0.05:
            ways = [DONE, [Forward(data), DONE], [Delay(1, data), DONE]]
        elif self.delays_left and self.random.random() < 0.5:
            self.delays_left -= 1
            seconds = self.random.random()
            ways = [
                Await(Deferred()), Delay(seconds, data), [Delay(seconds, data[:cut]), Delay(0.5, data[cut:])],
                Delay(seconds),
                [Forward(data[:cut]), Delay(seconds, data[cut:])], [None, Await(Deferred())],
                [Forward(data[:cut]), NeedMore(rest=data[cut:][:HOLD])] if len(data) - cut <= HOLD else None,
            ]  # fmt: skip
            if len(data) <= HOLD:
                ways += [NEED_MORE, NeedMore(min(HOLD, len(data) + 7)), [NEED_MORE, Await(Deferred())]]
        return self.random.choice(ways)

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        ways = [None, NEED_MORE, Delay(1), [Delay(1, held)], Await(Deferred()), [Delay(1), None], DONE, held]
        return self.random.choice(ways)

    def resumed(self, result: object) -> Verdict:
        return self.random.choice([None, Delay(1), DONE if self.random.random() < 0.1 else Wake(1)])


def rest(pipe: Pipe) -> None:
    """Let everything come that is waited for."""
    while not pipe.rest() or pipe.awaiting:
        if pipe.awaiting:
            pipe.settle()


class FaithfulTests(SynchronousTestCase):
    """Filters that alter nothing, whatever else they do."""

    @given(
        st.lists(st.integers(0, 2**32), max_size=4),
        st.lists(st.tuples(DIRECTIONS, st.lists(PIECES, min_size=1, max_size=8)), max_size=12),
        st.randoms(use_true_random=False),
        st.booleans(),
    )
    @settings(max_examples=300, deadline=None)
    def test_every_byte(
        self, seeds: list[int], talk: list[tuple[Direction, list[bytes]]], random: Random, shows_all: bool
    ) -> None:
        """Every byte comes out once, in order, then the end, in each direction; what waits is bounded."""
        pipe = Pipe(*(seat(Fickle(seed), max_hold=HOLD)[0] for seed in seeds), shows_all=shows_all)
        sent = dict.fromkeys(Direction, b"")
        bound = (len(seeds) + 1) * 8 * HOLD
        for direction, pieces in talk:
            pipe.send(direction, *pieces)
            sent[direction] += b"".join(pieces)
            self.assertTrue(sent[direction].startswith(pipe.output(direction)))
            self.assertLessEqual(pipe.chain.held(direction), bound)
            if random.random() < 0.5:
                pipe.advance(random.random())
            if pipe.awaiting and random.random() < 0.5:
                pipe.settle()
        first, second = random.sample(list(Direction), 2)
        for direction in (first, second):
            pipe.end(direction)
            rest(pipe)
            self.assertIn(direction, pipe.ended)
            self.assertEqual(pipe.output(direction), sent[direction])
        self.assertEqual((pipe.finished, pipe.troubles), (None, []))
        self.assertIsNotNone(pipe.summary)

    @given(st.lists(st.integers(0, 2**32), min_size=1, max_size=3), st.lists(PIECES, max_size=20))
    @settings(max_examples=100, deadline=None)
    def test_seen_or_not(self, seeds: list[int], pieces: list[bytes]) -> None:
        """Whether what need not be shown is shown makes no difference to anybody."""
        outcomes = []
        for shows_all in (False, True):
            pipe = Pipe(*(seat(Fickle(seed), max_hold=HOLD)[0] for seed in seeds), shows_all=shows_all)
            pipe.send(TO_UPSTREAM, *pieces)
            rest(pipe)
            outcomes.append(pipe.outcome)
        self.assertEqual(outcomes[0], outcomes[1])


SMALL = st.binary(max_size=5)
SECONDS = st.sampled_from([0, 0.5, 1, -1, float("inf")])
ONE_VERDICT = st.one_of(
    st.none(), SMALL, st.sampled_from([DONE, DROP, NEED_MORE, "text", 17, Close]),
    st.builds(NeedMore, st.none() | st.integers(-1, 9), st.none() | SMALL),
    st.builds(Bypass, st.integers(-1, 9), st.none() | SMALL),
    st.builds(Forward, SMALL), st.builds(Reply, SMALL), st.builds(Delay, SECONDS, SMALL),
    st.builds(Copy, st.just(Sink("file", "/tmp/x", 1)), SMALL),
    st.builds(Route, st.sampled_from([None, "there"])),
    st.builds(Announce, st.just(InetAddress("192.0.2.9", 1))), st.builds(Wake, SECONDS),
    st.builds(lambda: Await(Deferred())), st.builds(Close, st.just("no"), SMALL, st.booleans()),
    st.builds(KeyError),
)  # fmt: skip
VERDICTS = st.one_of(ONE_VERDICT, st.lists(ONE_VERDICT, max_size=4))
EVENTS = st.one_of(
    st.tuples(st.just("received"), DIRECTIONS, SMALL),
    st.tuples(st.just("ended"), DIRECTIONS),
    st.tuples(st.just("connected"), st.none()),
    st.tuples(st.just("dial_failed"), st.just(ConnectRefused("no"))),
    st.tuples(st.just("due"), st.integers(0, 9)),
    st.tuples(st.just("settled"), st.integers(0, 9), st.none()),
    st.tuples(st.just("passed"), DIRECTIONS, st.integers(0, 9)),
)


class Chaotic(Scripted):
    """Answers each call with the next of some verdicts, in turn."""

    def __init__(self, verdicts: list[Any]) -> None:
        super().__init__()
        self.verdicts = verdicts

    def _answer(self, event: str, *arguments: Any) -> Any:
        answer = self.verdicts[len(self.calls) % len(self.verdicts)]
        self.calls.append((event, *arguments))
        if isinstance(answer, Exception):
            raise answer
        return answer


@st.composite
def seats(draw: st.DrawFn) -> tuple[Factory, Filter]:
    """A filter that returns anything, and a factory that says anything."""
    return seat(
        Chaotic(draw(st.lists(VERDICTS, min_size=1, max_size=5))),
        routes=draw(st.booleans()),
        max_hold=draw(st.integers(0, 20)),
        directions=frozenset(draw(st.sets(DIRECTIONS))),
        on_timeout=draw(st.sampled_from(["close", "pass"])),
        on_error=draw(st.sampled_from(["close", "bypass"])),
    )


class ChaosTests(SynchronousTestCase):
    """Filters that return anything at all, in sessions where anything happens."""

    @given(st.lists(seats(), max_size=4), st.lists(EVENTS, max_size=25), st.booleans())
    @settings(max_examples=500, deadline=None)
    def test_promises(
        self, made: list[tuple[Factory, Filter]], events: list[tuple[Any, ...]], datagrams: bool
    ) -> None:
        """The relay may rely on this, whatever filters do: nothing is raised, and effects are in order."""
        chain = chain_of(*made, datagrams=datagrams)
        effects = chain.open()
        connected = False
        ended: list[object] = []
        for name, *arguments in events:
            # A relay connects once, when it was told to dial, and hears the upstream only then.
            dialled = any(isinstance(effect, StartDial) for effect in effects)
            if name in ("connected", "dial_failed") and (connected or not dialled):
                continue
            if TO_CLIENT in arguments and not connected:
                continue
            # And after an end nothing.
            if arguments[0] in ended:
                continue
            if name == "ended":
                ended.append(arguments[0])
            if name == "connected":
                self.assertFalse(any(self.goes(effect, TO_UPSTREAM) for effect in effects))
                connected = True
            before = chain.finished
            got = getattr(chain, name)(*arguments)
            self.assertEqual(got if before else [], [])
            effects += got
        self.promised(effects)
        closed = chain.closed(SUMMARY)
        self.assertLessEqual(len(closed), len(made))
        for _, one in made:
            assert isinstance(one, Scripted)
            self.assertEqual(
                (one.told("opened") <= 1, one.told("connected") <= 1, one.told("closed")), (True, True, 1)
            )
            self.assertEqual(one.calls[-1], ("closed", SUMMARY))

    def goes(self, effect: object, direction: Direction) -> bool:
        """Whether something goes out in `direction`."""
        return isinstance(effect, Write | SendEnd) and effect.direction is direction

    def promised(self, effects: list[Any]) -> None:
        """These effects, of a whole session, are in order."""
        kinds = [type(effect) for effect in effects]
        self.assertLessEqual(kinds.count(StartDial), 1)
        self.assertNotIn(Finish, kinds[:-1])
        for direction in Direction:
            out = [effect for effect in effects if self.goes(effect, direction)]
            self.assertNotIn(SendEnd(direction), out[:-1])
            reading = [
                kind
                for kind, effect in zip(kinds, effects, strict=True)
                if effect in (PauseReading(direction), ReadOn(direction))
            ]
            self.assertEqual(reading, ([PauseReading, ReadOn] * len(reading))[: len(reading)])
        keys = [effect.key for effect in effects if isinstance(effect, Arm | Begin)]
        self.assertEqual(len(keys), len(set(keys)))
