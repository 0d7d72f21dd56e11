"""Clocks whose calls take turns."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from portfwd.kernel.turn_clock import SLICE, TurnClock
from tests.kernel.turning import TurningClock


class TurnClockTests(SynchronousTestCase):
    """One clock."""

    def setUp(self) -> None:
        self.loop = TurningClock()
        self.clock = TurnClock(self.loop, 2)
        self.called: list[object] = []

    def test_interface(self) -> None:
        """It is a clock as any reactor's."""
        verifyObject(IReactorTime, self.clock)

    def test_turns(self) -> None:
        """Of calls that are due together two are made in a turn, and what they call for comes behind."""
        self.clock.callLater(1, lambda: self.clock.callLater(0, self.called.append, "behind"))
        for number in range(4):
            self.clock.callLater(1, self.called.append, number)
        self.assertEqual(repr(self.clock), "<TurnClock 5 calls>")
        seen = []
        for _ in range(3):
            self.loop.turn(1 if not seen else 0)
            seen.append(list(self.called))
        self.assertEqual(seen, [[0], [0, 1, 2], [0, 1, 2, 3, "behind"]])
        self.assertEqual((self.clock.getDelayedCalls(), self.loop.calls), ([], []))

    def test_one_timer(self) -> None:
        """One timer stands for all calls, at the time of the first; none is left without calls."""
        calls = [self.clock.callLater(delay, self.called.append, delay) for delay in (3, 5, 1)]
        self.assertEqual([call.getTime() for call in self.loop.calls], [1])
        for call in calls:
            call.cancel()
        self.assertEqual(self.loop.calls, [])

    def test_after_a_cancelled_one(self) -> None:
        """A call that is added when only a cancelled one is left has a timer."""
        self.clock.callLater(1, self.called.append, "first")
        self.clock.callLater(5, self.called.append, "never").cancel()
        self.loop.turn(1)
        self.clock.callLater(9, self.called.append, "last")
        self.loop.turn(9)
        self.assertEqual(self.called, ["first", "last"])

    def test_a_slow_call(self) -> None:
        """After a call that takes long the others wait, however few they are."""

        def take_time() -> None:
            self.loop.rightNow += SLICE

        clock = TurnClock(self.loop, 9)
        for function in (take_time, partial(self.called.append, "later")):
            clock.callLater(1, function)
        self.loop.turn(1)
        self.assertEqual(self.called, [])
        self.loop.turn()
        self.assertEqual(self.called, ["later"])

    def test_rules_in_turn(self) -> None:
        """A rule with many calls does not delay that of another one."""
        top = TurnClock(self.loop, 1)
        busy, other = TurnClock(top, 2), TurnClock(top, 2)
        for number in range(100):
            busy.callLater(1, self.called.append, number)
        other.callLater(1, self.called.append, "other")
        for _ in range(3):
            self.loop.turn(0 if self.called else 1)
        self.assertEqual(self.called, [0, 1, "other", 2, 3])

    @given(
        st.lists(st.tuples(st.sampled_from(["call", "cancel", "reset", "delay", "pass"]), st.integers(0, 9))),
        st.integers(1, 3),
    )
    def test_as_twisted_has_it(self, steps: list[tuple[str, int]], most: int) -> None:
        """Whatever is done to calls, the same are made at the same times as by Twisted's own clock."""
        ours: list[int] = []
        theirs: list[int] = []
        under, model = Clock(), Clock()
        clock = TurnClock(TurnClock(under, most), most)
        made: list[Any] = []
        for number, (what, much) in enumerate(steps):
            active = [pair for pair in made if pair[1].active()]
            if what == "call":
                both = (clock, ours), (model, theirs)
                made.append(tuple(cast(Any, at).callLater(much, to.append, number) for at, to in both))
            elif what == "pass":
                under.advance(much)
                model.advance(much)
                self.assertEqual(sorted(ours), sorted(theirs))
                self.assertEqual(len(clock.getDelayedCalls()), len(model.calls))
            elif active:
                for one in active[much % len(active)]:
                    if what == "cancel":
                        one.cancel()
                    else:
                        getattr(one, what)(much)
            # A timer that is missing shows at once, and not only when time passes.
            first = min((call.getTime() for call in clock.getDelayedCalls()), default=None)
            if first is not None:
                self.assertLessEqual(min(call.getTime() for call in under.calls), max(first, under.seconds()))
