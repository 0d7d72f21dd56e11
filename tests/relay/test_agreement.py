"""
`portfwd.testing.Pipe` and the relay agree: what a filter does on plain bytes it does on sockets.

Hypothesis draws chains of filters that act at given bytes of a stream, wherever reads cut it, and what both
sides send. Every relay must deliver the same bytes and ends as the pipe says, whose time is as the stage's.
"""

from __future__ import annotations

import itertools
from typing import Any

from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IDelayedCall
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import (
    DONE,
    TO_CLIENT,
    TO_UPSTREAM,
    Address,
    Bypass,
    Close,
    Connection,
    Delay,
    Direction,
    Factory,
    Filter,
    Forward,
    NeedMore,
    Reply,
    Route,
    Verdict,
    Wake,
)
from portfwd.testing import Pipe
from portfwd.values import CloseReason, Side
from tests.relay import stage as stages
from tests.relay.stage import FAMILIES, STREAMS, Peer, Session, Stage, TurnedReactor

C, U = Side.CLIENT, Side.UPSTREAM
SOURCE = {TO_UPSTREAM: C, TO_CLIENT: U}
WAY = {C: TO_UPSTREAM, U: TO_CLIENT}

#: The relays, each in the words of a stage; the filter that they are made with is replaced.
KINDS = ("pair-blind", "copy-blind", "splice-blind", "auto-blind")

#: Seconds that pass at each step, in two halves. Delays are whole halves, so that the stage's time,
#: which stands still between them, and the pipe's, which does not, come to the same.
STEP = 1.0


class OrderlyReactor(TurnedReactor):
    """Calls that are due together are made in the order in which they were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count()

    def callLater(self, delay: float, *call: Any, **named: Any) -> IDelayedCall:
        # A little early, the first of them the most: due at the same half of a step all the same.
        early = 1e-2 - 1e-8 * next(self._numbers) if delay >= STEP / 2 else 0.0
        return super().callLater(delay - early, *call, **named)


@frozen
class Act:
    """
    What becomes of the next bytes of a direction.

    :ivar what: ``pass``, ``hold`` (and forward in two parts), ``drop``, ``replace``, ``reply``, ``delay``,
        ``bypass``, ``route``; or ``done``, ``close``, ``abort`` at the next byte.
    """

    what: str
    size: int = 1
    seconds: float = STEP / 2


@frozen
class Plan:
    """
    A filter that acts as planned, then passes everything.

    :ivar acts: one after another, by direction.
    :ivar ends: what it does at the end of a direction: nothing, or ``reply``, ``delay``, ``add``.
    :ivar greets: it speaks to both sides when it is connected.
    :ivar ways: the directions that it looks at.
    :ivar wakes: when it is woken, in seconds, and what it does then: ``delay`` or ``forward`` some bytes of
        its own, ``bypass`` some of the next ones, or be ``done``.
    """

    up: tuple[Act, ...] = ()
    down: tuple[Act, ...] = ()
    ends: str = ""
    greets: bool = False
    ways: frozenset[Direction] = frozenset(Direction)
    wakes: tuple[tuple[float, str], ...] = ()

    @property
    def routes(self) -> bool:
        """Whether the dial waits for it."""
        return TO_UPSTREAM in self.ways and any(act.what == "route" for act in self.up)

    @property
    def crosses(self) -> bool:
        """Whether one direction may feel what happens in the other."""
        words = {act.what for act in self.up + self.down}
        speaks = self.greets or bool(self.wakes) or self.ends == "reply"
        return speaks or bool(words & {"reply", "close", "abort", "route"})

    def clause(self) -> Factory:
        """The factory of such filters."""
        return Factory(lambda connection: Planned(self), self.ways, self.routes)


class Planned(Filter):
    """Acts as planned."""

    def __init__(self, plan: Plan) -> None:
        self._acts = {TO_UPSTREAM: list(plan.up), TO_CLIENT: list(plan.down)}
        self._plan = plan

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        wakes = [Wake(seconds, what) for seconds, what in self._plan.wakes]
        return [*wakes, Reply(b"hello ")] if self._plan.greets else wakes

    def woken(self, token: object) -> Verdict:
        """See `IFilter`."""
        match token:
            case "delay":
                return Delay(STEP, b"late ")
            case "forward":
                return Forward(b"early ")
            case "bypass":
                return Bypass(1000)
        return DONE

    def connected(self, upstream: Address | None) -> Verdict:
        """See `IFilter`."""
        return [Forward(b"header "), Reply(b"ready ")] if self._plan.greets else None

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        acts, out = self._acts[direction], list[Any]()
        while acts and data:
            act = acts[0]
            if act.what in ("done", "close", "abort"):
                last = {"close": Close("planned", b"bye"), "abort": Close("planned", abort=True)}
                return [*out, last[act.what]] if act.what in last else [*out, Forward(data), DONE]
            if act.what == "bypass":
                acts.pop(0)
                out.append(Forward(data[: act.size]))
                if len(data) <= act.size:
                    return [*out, Bypass(act.size - len(data), b"")]
            elif len(data) < act.size:
                return [*out, NeedMore(act.size, data)]
            else:
                acts.pop(0)
                out += self._do(act, data[: act.size])
            data = data[act.size :]
        return [*out, Forward(data)]

    def _do(self, act: Act, data: bytes) -> list[Any]:
        match act.what:
            case "drop":
                return []
            case "replace":
                return [Forward(b"[" + data[::-1][: act.size // 2] + b"]")]
            case "reply":
                return [Forward(data), Reply(b"<" + data[:7] + b">")]
            case "delay":
                return [Delay(act.seconds, data)]
            case "route":
                return [Route(), Forward(data)]
            case "hold":
                return [Forward(data[:1]), Forward(data[1:])]
        return [Forward(data)]

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        match self._plan.ends:
            case "reply":
                return [Forward(held), Reply(b"over ")]
            case "delay":
                return [Forward(held), Delay(STEP)]
            case "add":
                return [Forward(held), Forward(b" end")]
        return None


Script = list[tuple[Side, str, int]]

LITTLE = st.integers(1, 300)
GATHERED = st.one_of(LITTLE, st.integers(1, 12_000))
ACTS = st.one_of(
    st.builds(Act, st.sampled_from(["pass", "hold", "drop", "replace", "reply", "route"]), GATHERED),
    st.builds(Act, st.just("delay"), GATHERED, st.sampled_from([0.0, STEP / 2, STEP, 2 * STEP])),
    st.builds(Act, st.just("bypass"), st.one_of(LITTLE, st.integers(1, 150_000))),
    st.builds(Act, st.sampled_from(["done", "close", "abort"])),
)
PLANS = st.builds(
    Plan,
    st.lists(ACTS, max_size=5).map(tuple),
    st.lists(ACTS.filter(lambda act: act.what != "route"), max_size=4).map(tuple),
    st.sampled_from(["", "", "reply", "delay", "add"]),
    st.booleans(),
    st.sampled_from([frozenset(Direction)] * 3 + [frozenset({TO_UPSTREAM}), frozenset({TO_CLIENT})]),
    st.lists(
        st.tuples(
            st.sampled_from([STEP, 1.5 * STEP, 3 * STEP]),
            st.sampled_from(["delay", "forward", "bypass", "done"]),
        ),
        max_size=3,
        unique_by=lambda wake: wake[0],
    ).map(tuple),
)
SIZES = st.one_of(
    LITTLE, st.sampled_from([8191, 8192, 8193, 30_000, 70_000, 200_000]), st.integers(1, 200_000)
)

#: So much, and all of a script together, is read and delayed without anything being stopped.
READ_AT_ONCE = 2000

STEPS = st.tuples(
    st.sampled_from(list(Side)), st.sampled_from(["send", "send", "send", "end", "stop", "resume"]), SIZES
)


class Said:
    """What the pipe says of a script."""

    def __init__(self, plans: list[Plan]) -> None:
        self.pipe = Pipe(*(plan.clause() for plan in plans))
        self._sent = dict.fromkeys(Side, 0)
        self._ended: set[Side] = set()

    def play(self, script: Script, early: int) -> None:
        """The script, then both ends."""
        for number, step in enumerate(script):
            if number >= early:
                self._pass_time()
            self.do(*step)
        self._pass_time()
        self._pass_time()
        for side in Side:
            self.do(side, "end", 0)
            self._pass_time()
        for _ in range(20):
            self._pass_time()

    def do(self, side: Side, act: str, count: int) -> None:
        """One step."""
        if side not in self._ended and (side is C or self.pipe.connected or self.pipe.summary is not None):
            if act == "send":
                at = self._sent[side]
                self._sent[side] = min(at + count, stages.MOST_BYTES)
                self.pipe.send(WAY[side], bytes(STREAMS[side][at : self._sent[side]]))
            elif act == "end":
                self._ended.add(side)
                self.pipe.end(WAY[side])

    def _pass_time(self) -> None:
        self.pipe.advance(STEP / 2)
        self.pipe.advance(STEP / 2)


class AgreementTests(SynchronousTestCase):
    """The pipe and every relay."""

    def setUp(self) -> None:
        self.patch(stages, "TurnedReactor", OrderlyReactor)
        self.stage = Stage("linger=1000s half-close=1000s", kinds=KINDS)
        self.addCleanup(self.stage.close)

    def play(self, kind: str, family: str, plans: list[Plan], script: Script, early: int) -> Session:
        """The script over one relay."""
        (live,) = (one for one in self.stage.forwarder.rules if one.name == f"{family}-{kind}")
        live.filters = tuple((Factory.__name__, plan.clause()) for plan in plans)
        session = self.stage.begin(kind, family)
        for number, (side, act, count) in enumerate(script):
            if number >= early:
                self.stage.settle(session, STEP)
            session.do(side, act, count)
            if number < early:
                session.client.act()
        self.stage.settle(session, STEP)
        for side in Side:
            session.do(side, "resume")
        self.stage.settle(session, STEP)
        for side in Side:
            session.do(side, "end")
            self.stage.settle(session, STEP)
        for _ in range(20):
            if session.line is None:
                self.stage.settle(session, STEP)
        return session

    def check(self, said: Pipe, session: Session, what: str) -> None:
        """The same bytes, the same ends, the same reason."""
        line = session.line
        assert line is not None, f"not over: {what}"
        finished = said.finished
        if finished is not None:
            # A pipe does not know what the peer's kernel has acknowledged.
            detail, _, unacknowledged = line.detail.partition("; ")
            self.assertEqual((line.reason, detail), (CloseReason.FILTER, finished.detail), what)
            self.assertIn("not acknowledged" if unacknowledged else "", unacknowledged, what)
        else:
            self.assertIs(line.reason, CloseReason.NORMAL, what)
        abort = finished is not None and finished.abort
        for peer, output in ((session.upstream, said.to_upstream), (session.client, said.to_client)):
            self.check_peer(peer, output, abort, what)

    def check_peer(self, peer: Peer, output: bytes, abort: bool, what: str) -> None:
        """What one side got is what the pipe wrote to it."""
        received = bytes(peer.received)
        what = f"{peer.side.value} got {len(received)} of {len(output)}: {what}"
        if abort:
            # A reset takes away what is under way, and what the filters had not passed when one aborted.
            both = min(len(received), len(output))
            self.assertEqual(received[:both], output[:both], what)
        elif peer.socket is None:
            self.assertEqual(output, b"", what)
        else:
            self.assertEqual((received == output, peer.seen), (True, "end"), what)

    @settings(max_examples=60, deadline=None)
    @given(
        family=st.sampled_from(FAMILIES),
        plans=st.lists(PLANS, min_size=1, max_size=3),
        script=st.lists(STEPS, max_size=7),
        early=st.integers(0, 2),
    )
    def test_agreement(self, family: str, plans: list[Plan], script: Script, early: int) -> None:
        """Whatever the filters do, the pipe foretells it."""
        crossing = sum(plan.crosses for plan in plans)
        if crossing:
            # Who stops reading changes when the other side is read, and so the order of answers.
            script = [step for step in script if step[1] not in ("stop", "resume")]
        if crossing > 1 or any(plan.routes for plan in plans):
            # Whose answer is first, and what comes before the dial, is a matter of how reads cut what is
            # sent: as many as there are writes.
            script = [(side, act, min(count, READ_AT_ONCE)) for side, act, count in script]
            # And of two that close, the first is another one where the client's bytes came before the dial.
            early = 0 if crossing > 1 else min(early, 1)
        # Before the forwarder has seen a client nobody else can do anything.
        early = min([early, *(number for number, step in enumerate(script) if step[0] is U)])
        said = Said(plans)
        said.play(script, early)
        for kind in KINDS:
            session = self.play(kind, family, plans, script, early)
            self.check(said.pipe, session, f"{family} {kind} {early} {script} {plans}")
            session.client.close()
            session.upstream.close()
        self.assertEqual(self.stage.forwarder.session_count, 0)
