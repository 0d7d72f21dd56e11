"""Delayed calls in the order of their times."""

from __future__ import annotations

import weakref
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.delayed_calls import MOST_CANCELLED, DelayedCalls

#: Seconds that nothing here takes.
LONG = 3600.0


class DelayedCallsTests(SynchronousTestCase):
    """Calls, at times that the test tells. That they behave as Twisted's is tested with each clock."""

    def setUp(self) -> None:
        self.now = 100.0
        self.told: list[float | None] = []
        self.calls = DelayedCalls(lambda: self.now, self._told)
        self.called: list[str] = []

    def _told(self) -> None:
        self.told.append(self.calls.next_due)

    def later(self, delay: float, name: str) -> Any:
        """A call that writes down its name."""
        return self.calls.add(delay, self.called.append, (name,), {})

    def test_told_of_the_first(self) -> None:
        """The clock is told when another call is the first one, and when none is left."""
        first = self.later(5, "a")
        self.later(9, "b").cancel()
        second = self.later(4, "c")
        self.assertEqual(self.told, [105, 104])
        first.reset(1)
        self.assertEqual(self.told, [105, 104, 101])
        second.cancel()
        first.cancel()
        self.assertEqual((self.told[-1], len(self.calls)), (None, 0))

    def test_told_once_after_a_run(self) -> None:
        """While calls are made the clock is told nothing, and what they add waits for the next time."""
        self.calls.add(0, lambda: [self.later(delay, "x") for delay in (2, 1, 0)], (), {})
        self.told.clear()
        self.calls.run_due()
        self.assertEqual((self.told, self.called), ([100], []))

    def test_some(self) -> None:
        """No more are made than asked for; those that were cancelled do not count."""
        for name in "abcd":
            self.later(1, name)
        self.later(0.5, "x").cancel()
        self.now += 1
        self.calls.run_due(3)
        self.assertEqual((self.called, self.told[-1]), (["a", "b", "c"], 101))
        self.calls.run_due(3)
        self.assertEqual((self.called, self.told[-1]), (["a", "b", "c", "d"], None))

    def test_within(self) -> None:
        """Once the seconds are over no other one is begun."""
        for _ in range(3):
            self.calls.add(1, self._take_time, (), {})
        self.now += 1
        self.calls.run_due(within=0.5)
        self.assertEqual((len(self.calls), self.told[-1]), (1, 101))
        self.calls.run_due()
        self.assertEqual(len(self.calls), 0)

    def _take_time(self) -> None:
        self.now += 0.25

    def test_cancelled(self) -> None:
        """A call that is cancelled is not made, and many of them are not kept until their time."""
        calls = [self.later(LONG, "x") for _ in range(3 * MOST_CANCELLED)]
        kept = self.later(1, "kept")
        for call in calls:
            call.cancel()
        references = [weakref.ref(call) for call in calls]
        del call, calls
        self.assertEqual(self.calls.active(), [kept])
        kept_alive = [reference for reference in references if reference() is not None]
        self.assertLess(len(kept_alive), 2 * MOST_CANCELLED)
        self.now += LONG
        self.calls.run_due()
        self.assertEqual((self.called, len(self.calls)), (["kept"], 0))

    def test_one_that_raises(self) -> None:
        """Whatever it raises is logged, and the others are made."""
        self.calls.add(1, lambda: 1 / 0, (), {})
        self.later(1, "a")
        self.now += 1
        self.calls.run_due()
        self.assertEqual((self.called, len(self.flushLoggedErrors(ZeroDivisionError))), (["a"], 1))

    def test_the_past(self) -> None:
        """A time in the past is an error."""
        self.assertRaises(ValueError, self.later, -1, "x")
