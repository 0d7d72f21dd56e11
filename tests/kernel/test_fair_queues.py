"""Tests for the queues of events and turns that wait, by group."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial import unittest

from portfwd.kernel.fair_queues import QUOTA, FairQueues, Group
from tests.kernel.test_poller import Watcher


class FairQueuesTests(unittest.SynchronousTestCase):
    """Two groups, one of which has much."""

    def setUp(self) -> None:
        self.queues = FairQueues()
        self.crowd, self.other = Group("crowd"), Group("other")

    def test_quota(self) -> None:
        """Of each group some events are next, in the order in which they came."""
        for descriptor in range(1000):
            self.queues.add_event(self.crowd, descriptor, 1)
        self.queues.add_event(self.other, 5000, 4)
        first, second = self.queues.next_events(), self.queues.next_events()
        self.assertEqual(first, [*((number, 1) for number in range(QUOTA)), (5000, 4)])
        self.assertEqual(second, [(number, 1) for number in range(QUOTA, 2 * QUOTA)])
        self.assertEqual(
            repr(self.queues), f"<FairQueues [<Group crowd events={1000 - 2 * QUOTA} turns=0>] []>"
        )

    def test_more_of_one(self) -> None:
        """A descriptor whose events wait keeps its place, and is told of all of them at once."""
        for descriptor, bits in ((1, 1), (2, 1), (1, 4)):
            self.queues.add_event(self.crowd, descriptor, bits)
        self.assertEqual(self.queues.next_events(), [(1, 5), (2, 1)])
        self.assertEqual((self.queues.next_events(), list(self.queues.with_events)), ([], []))

    def test_forgotten(self) -> None:
        """What is forgotten is not told; nor is another one with its number told of what was before it."""
        for descriptor in (1, 2, 3):
            self.queues.add_event(self.crowd, descriptor, 1)
        self.crowd.bits.pop(1, None)
        self.crowd.bits.pop(2, None)
        self.crowd.bits.pop(9, None)
        self.queues.add_event(self.crowd, 1, 4)
        self.assertEqual(self.queues.next_events(), [(1, 4), (3, 1)])
        self.assertEqual(self.queues.next_events(), [])

    def test_turns(self) -> None:
        """A group with one turn does not wait for all turns of another."""
        turns = [Watcher() for _ in range(5)]
        for turn in turns[:4]:
            self.queues.add_turn(self.crowd, turn)
        self.queues.add_turn(self.other, turns[4])
        order = [turns.index(self.queues.next_turn()) for _ in turns]  # type: ignore[arg-type]
        self.assertEqual(order, [0, 4, 1, 2, 3])

    def test_clear(self) -> None:
        """Nothing waits any more, and nobody is marked as waiting."""
        turn = Watcher()
        turn.queued = True
        self.queues.add_turn(self.crowd, turn)
        self.queues.add_event(self.other, 1, 1)
        self.queues.clear()
        self.assertEqual(
            (turn.queued, self.queues.next_events(), len(self.queues.with_turns)), (False, [], 0)
        )
        self.queues.add_event(self.other, 1, 1)
        self.assertEqual(self.queues.next_events(), [(1, 1)])

    @given(
        st.lists(st.one_of(st.tuples(st.integers(0, 3), st.integers(0, 50)), st.none(), st.integers(0, 50)))
    )
    def test_whatever_comes(self, steps: list[tuple[int, int] | int | None]) -> None:
        """Every event is told once, none twice, whatever is added, taken and forgotten in between."""
        queues, groups = FairQueues(), [Group(str(number)) for number in range(4)]
        expected: dict[int, int] = {}

        def take() -> None:
            for descriptor, bits in queues.next_events():
                self.assertEqual(expected.pop(descriptor), bits)

        for step in steps:
            if step is None:
                take()
            elif isinstance(step, int):
                expected.pop(step, None)
                groups[step % 4].bits.pop(step, None)
            else:
                bit, descriptor = step
                expected[descriptor] = expected.get(descriptor, 0) | 1 << bit
                queues.add_event(groups[descriptor % 4], descriptor, 1 << bit)
        while queues.with_events:
            take()
        self.assertEqual(expected, {})
