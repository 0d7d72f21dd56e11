"""Many waits on one timer."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.turn_clock import AT_ONCE
from portfwd.upstreams.timeout_queue import TimeoutQueue


class TimeoutQueueTests(SynchronousTestCase):
    """On a clock."""

    def setUp(self) -> None:
        """Waits of ten seconds."""
        self.clock = Clock()
        self.timeouts = TimeoutQueue(self.clock, 10)
        self.over: list[str] = []

    def wait(self, name: str) -> None:
        """Begin a wait."""
        self.timeouts.wait(name, lambda: self.over.append(name))

    def test_in_order(self) -> None:
        """Each is called at its own time, and one timer is enough."""
        self.wait("a")
        self.clock.advance(4)
        self.wait("b")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(6)
        self.assertEqual(self.over, ["a"])
        self.clock.advance(3.9)
        self.assertEqual(self.over, ["a"])
        self.clock.advance(0.1)
        self.assertEqual(self.over, ["a", "b"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_forgotten(self) -> None:
        """Who is forgotten is not called; with the last one the timer goes."""
        self.wait("a")
        self.wait("b")
        self.timeouts.forget("a")
        self.timeouts.forget("nobody")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.timeouts.forget("b")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(20)
        self.assertEqual(self.over, [])
        self.assertIn("0 waiting", repr(self.timeouts))

    def test_anew(self) -> None:
        """A wait that begins anew lasts its whole time again."""
        self.wait("a")
        self.clock.advance(9)
        self.wait("a")
        self.clock.advance(9)
        self.assertEqual(self.over, [])
        self.clock.advance(1)
        self.assertEqual(self.over, ["a"])

    def test_waiting_again_when_called(self) -> None:
        """Who is called may wait again."""
        self.timeouts.wait("a", lambda: self.wait("a"))
        self.clock.advance(10)
        self.assertEqual(self.over, [])
        self.clock.advance(10)
        self.assertEqual(self.over, ["a"])

    def test_forgotten_by_another(self) -> None:
        """Who is forgotten by one that is called in the same moment is not called."""
        self.timeouts.wait("a", lambda: self.timeouts.forget("b"))
        self.wait("b")
        self.wait("c")
        self.clock.advance(10)
        self.assertEqual(self.over, ["c"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_raises(self) -> None:
        """The others are called all the same, a moment later."""
        self.timeouts.wait("a", lambda: self.fail("as it should"))
        self.wait("b")
        self.assertRaises(self.failureException, self.clock.advance, 10)
        self.clock.advance(0)
        self.assertEqual(self.over, ["b"])

    def test_so_many_at_once(self) -> None:
        """Of waits that end together a part is told at a time; what is due meanwhile is done in between."""
        names = [str(number) for number in range(2 * AT_ONCE + 1)]
        self.timeouts.wait("first", lambda: self.clock.callLater(0, self.over.append, "between"))
        for name in names:
            self.wait(name)
        self.clock.advance(10)
        self.assertEqual(self.over, [*names[: AT_ONCE - 1], "between", *names[AT_ONCE - 1 :]])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many(self) -> None:
        """To tell one of 40 000 that wait looks at none of the others: it takes next to no memory."""
        self.timeouts.wait("first", lambda: None)
        self.clock.advance(1)
        for number in range(40_000):
            self.timeouts.wait(number, lambda: None)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        self.clock.advance(9)
        _, peak = tracemalloc.get_traced_memory()
        self.assertIn("40000 waiting", repr(self.timeouts))
        self.assertLess(peak - before, 10_000)
        self.clock.advance(1)
        self.assertIn("0 waiting", repr(self.timeouts))

    @given(
        st.lists(
            st.tuples(st.sampled_from(["wait", "forget", "advance"]), st.integers(0, 4), st.integers(1, 7))
        )
    )
    def test_as_a_delayed_call_each(self, steps: list[tuple[str, int, int]]) -> None:
        """The same calls at the same times as a delayed call for each would make."""
        clock, model, calls = Clock(), {}, []  # type: ignore[var-annotated]
        timeouts, expected = TimeoutQueue(clock, 10), []
        for what, who, much in steps:
            if what == "wait":
                timeouts.wait(who, lambda who=who: calls.append((clock.seconds(), who)))  # type: ignore[misc]
                model.pop(who, None)
                model[who] = clock.seconds() + 10
            elif what == "forget":
                timeouts.forget(who)
                model.pop(who, None)
            else:
                for _ in range(much):
                    clock.advance(1)
                    due = [one for one, at in model.items() if at <= clock.seconds()]
                    expected += [(clock.seconds(), one) for one in due]
                    for one in due:
                        del model[one]
        self.assertEqual(calls, expected)
        self.assertEqual(bool(clock.getDelayedCalls()), bool(model))
