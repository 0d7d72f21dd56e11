"""Tests for the clock that nobody can set, under reactors that count by the wall clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor, selectreactor
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from portfwd.kernel import steady as module
from portfwd.kernel.event_loop import PollerReactor
from portfwd.kernel.steady import SteadyClock, SteadyReactor, steady

#: Seconds that nothing here takes.
LONG = 3600.0


class CallTests(SynchronousTestCase):
    """Delayed calls, at times that the test tells; the thread has nobody to wake."""

    def setUp(self) -> None:
        self.now = 100.0
        self.patch(module, "IDLE", 0.0)
        self.clock = SteadyClock(lambda call: None, lambda: self.now)
        self.called: list[str] = []

    def later(self, delay: float, name: str) -> Any:
        """A call that writes down its name."""
        return self.clock.callLater(delay, self.called.append, name)

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and make what is due."""
        self.now += seconds
        self.clock.run_due()

    def test_interfaces(self) -> None:
        """It is a clock as any reactor's."""
        verifyObject(IReactorTime, self.clock)
        verifyObject(IDelayedCall, self.later(1, "a"))

    def test_in_order(self) -> None:
        """Calls are made in the order of their times, not before them."""
        self.later(2, "b")
        self.later(1, "a")
        self.pass_by(0.9)
        self.assertEqual((self.called, repr(self.clock)), ([], "<SteadyClock 2 calls>"))
        self.pass_by(2)
        self.assertEqual((self.called, self.clock.getDelayedCalls()), (["a", "b"], []))

    def test_moved(self) -> None:
        """A call can be put off, and moved up."""
        first, second = self.later(1, "first"), self.later(5, "second")
        first.delay(9)
        second.reset(2)
        self.pass_by(3)
        self.assertEqual(self.called, ["second"])
        self.pass_by(7)
        self.assertEqual(self.called, ["second", "first"])

    def test_one_that_raises(self) -> None:
        """Whatever it raises is logged, and the others are made."""
        self.clock.callLater(1, lambda: 1 / 0)
        self.later(1, "a")
        self.pass_by(1)
        self.assertEqual((self.called, len(self.flushLoggedErrors(ZeroDivisionError))), (["a"], 1))

    @given(
        st.lists(st.tuples(st.sampled_from(["call", "cancel", "reset", "delay", "pass"]), st.integers(0, 9)))
    )
    def test_as_twisted_has_it(self, steps: list[tuple[str, int]]) -> None:
        """Whatever is done to calls, the same are made at the same times as by Twisted's own clock."""
        ours, theirs = [], []  # type: ignore[var-annotated]
        now = [0.0]
        clock, model = SteadyClock(lambda call: None, lambda: now[0]), Clock()
        made: list[tuple[Any, Any]] = []
        for number, (what, much) in enumerate(steps):
            active = [pair for pair in made if pair[1].active()]
            if what == "call":
                add, note = (cast(Any, one.append) for one in (ours, theirs))
                made.append((clock.callLater(much, add, number), model.callLater(much, note, number)))
            elif what == "pass":
                now[0] += much
                clock.run_due()
                model.advance(much)
                self.assertEqual(sorted(ours), sorted(theirs))
            elif active:
                for one in active[much % len(active)]:
                    if what == "cancel":
                        one.cancel()
                    else:
                        getattr(one, what)(much)


class ThreadTests(SynchronousTestCase):
    """The thread that wakes the reactor."""

    def test_woken(self) -> None:
        """It wakes the reactor when the first call is due, and again for a call that is due earlier."""
        woken: list[float] = []
        awake = threading.Event()

        def wake(call: Callable[[], None]) -> None:
            woken.append(time.monotonic())
            awake.set()

        clock = SteadyClock(wake)
        clock.callLater(LONG, self.fail)
        begun = time.monotonic()
        clock.callLater(0.01, lambda: None)
        self.assertTrue(awake.wait(60))
        self.assertGreaterEqual(woken[0] - begun, 0.01)

    def test_it_ends(self) -> None:
        """When there is nothing to wait for the thread ends, and another one begins for the next call."""
        self.patch(module, "IDLE", 0.0)
        awake = threading.Event()
        clock = SteadyClock(lambda call: awake.set())
        for _ in range(2):
            clock.callLater(0, lambda: None)
            thread = clock.thread
            assert thread is not None
            self.assertTrue(awake.wait(60))
            thread.join(60)
            self.assertIsNone(clock.thread)
            awake.clear()
            clock.run_due()


class ReactorTests(TestCase):
    """A reactor with that clock."""

    def test_which(self) -> None:
        """
        Reactors that count by the wall clock are wrapped; ours, and the clocks of tests, are left as they
        are.
        """
        own, other = PollerReactor(), selectreactor.SelectReactor()
        for one in (own, other):
            self.addCleanup(one.waker.connectionLost, None)
        clock: Any = Clock()
        self.assertIs(steady(own), own)
        self.assertIs(steady(clock), clock)
        wrapped = steady(other)
        self.assertIsInstance(wrapped, SteadyReactor)
        self.assertIs(steady(wrapped), wrapped)
        self.assertTrue(IReactorFDSet.providedBy(wrapped))
        self.assertEqual(wrapped.getReaders(), other.getReaders())
        self.assertIn("SelectReactor", repr(wrapped))

    async def test_a_call(self) -> None:
        """A call is made on the reactor's thread, whatever the wall clock says."""
        self.patch(time, "time", lambda: 0.0)
        here = threading.get_ident()
        made: Any = SteadyReactor(reactor)
        self.assertEqual(await deferLater(made, 0.01, threading.get_ident), here)
