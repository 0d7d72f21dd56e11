"""Tests for the descriptor budget, by example and against a model."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial import unittest

from portfwd.limits.descriptors import OPERATORS, PER_SESSION, RESERVE, SHARE, DescriptorBudget, Share


class BudgetTests(unittest.SynchronousTestCase):
    """`DescriptorBudget`."""

    def test_the_reserve_stays(self) -> None:
        """Descriptors are given until only the reserve is left; a refusal spends nothing."""
        budget = DescriptorBudget(RESERVE + 5, 1)
        self.assertTrue(budget.take(PER_SESSION))
        self.assertTrue(budget.take(PER_SESSION))
        self.assertFalse(budget.take(1))
        self.assertEqual(repr(budget), f"<DescriptorBudget 5 of {RESERVE + 5}, 0 waiting>")

    def test_no_limit(self) -> None:
        """Without a limit there are always more."""
        budget = DescriptorBudget(0, 0)
        self.assertTrue(budget.take(1_000_000))
        self.assertEqual(repr(budget), "<DescriptorBudget 1000000 of any number, 0 waiting>")

    def test_woken_in_order_and_once(self) -> None:
        """Those who wait are woken in their order, once; who waits twice is woken once."""
        budget, woken = DescriptorBudget(64, 0), list[str]()
        first: Callable[[], None] = lambda: woken.append("first")  # noqa: E731
        budget.wait(first)
        budget.wait(lambda: woken.append("second"))
        budget.wait(first)
        budget.give_back(0)
        budget.give_back(0)
        self.assertEqual(woken, ["first", "second"])

    def test_waits_again(self) -> None:
        """Who is woken, gets nothing and waits again is woken the next time, not at once."""
        budget, woken = DescriptorBudget(64, 0), list[str]()

        def again() -> None:
            woken.append("woken")
            budget.wait(again)

        budget.wait(again)
        budget.give_back(0)
        self.assertEqual(woken, ["woken"])
        budget.give_back(0)
        self.assertEqual(woken, ["woken"] * 2)

    def test_forgotten_by_another(self) -> None:
        """Who is forgotten while others are woken is not woken any more; forgetting the unknown is fine."""
        budget, woken = DescriptorBudget(64, 0), list[str]()
        late: Callable[[], None] = lambda: woken.append("late")  # noqa: E731
        budget.wait(lambda: budget.forget(late))
        budget.wait(late)
        budget.give_back(0)
        budget.forget(late)
        self.assertEqual(woken, [])


class ShareTests(unittest.SynchronousTestCase):
    """`Share`: no rule takes all."""

    def setUp(self) -> None:
        self.budget = DescriptorBudget(1024, 24)
        #: What rules can have at all.
        self.room = 1000 - RESERVE - OPERATORS

        self.others = self.budget.share("others")

    def fill(self, name: str) -> Share:
        """Take as many as a rule gets."""
        share = self.budget.share(name)
        while share.take(PER_SESSION):
            """More."""
        return share

    def test_greedy(self) -> None:
        """One greedy rule of several gets two thirds."""
        taken = self.fill("greedy").taken
        self.assertLess(abs(taken - self.room * SHARE / (SHARE + 1)), 2 * PER_SESSION)

    def test_alone(self) -> None:
        """The only rule gets all but what operators need."""
        del self.others
        self.assertGreater(self.fill("only").taken, self.room - PER_SESSION)

    def test_others(self) -> None:
        """Every other rule still gets some."""
        greedy = [self.fill(f"greedy {number}") for number in range(3)]
        modest = [self.budget.share(f"modest {number}") for number in range(10)]
        self.assertTrue(all(share.take(PER_SESSION) for share in modest))
        self.assertLessEqual(self.budget.spent, 1024 - RESERVE - OPERATORS)
        self.assertTrue(greedy)

    def test_given_back(self) -> None:
        """What one gives back the other may have: at last greedy rules have the same."""
        first, second = self.fill("first"), self.budget.share("second")
        for _ in range(2000):
            first.give_back(PER_SESSION)
            second.take(PER_SESSION)
            first.take(PER_SESSION)
        self.assertLess(abs(first.taken - second.taken), 4 * PER_SESSION)

    def test_woken_in_order_and_once(self) -> None:
        """Those who wait are woken in their order, once; who waits twice is woken once."""
        budget, woken = DescriptorBudget(64, 0), list[str]()
        first: Callable[[], None] = lambda: woken.append("first")  # noqa: E731
        budget.wait(first)
        budget.wait(lambda: woken.append("second"))
        budget.wait(first)
        budget.give_back(0)
        budget.give_back(0)
        self.assertEqual(woken, ["first", "second"])

    def test_waits_again(self) -> None:
        """Who is woken, gets nothing and waits again is woken the next time, not at once."""
        budget, woken = DescriptorBudget(64, 0), list[str]()

        def again() -> None:
            woken.append("woken")
            budget.wait(again)

        budget.wait(again)
        budget.give_back(0)
        self.assertEqual(woken, ["woken"])
        budget.give_back(0)
        self.assertEqual(woken, ["woken"] * 2)

    def test_forgotten_by_another(self) -> None:
        """Who is forgotten while others are woken is not woken any more; forgetting the unknown is fine."""
        budget, woken = DescriptorBudget(64, 0), list[str]()
        late: Callable[[], None] = lambda: woken.append("late")  # noqa: E731
        budget.wait(lambda: budget.forget(late))
        budget.wait(late)
        budget.give_back(0)
        budget.forget(late)
        self.assertEqual(woken, [])


class BudgetMachine(RuleBasedStateMachine):
    """What is spent is what was taken and not given back, and it never reaches into the reserve."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = DescriptorBudget(64, 7)
        self.taken: list[int] = []
        self.waiting: list[int] = []
        self.woken: list[int] = []
        self.wakes: dict[int, Callable[[], None]] = {}

    @rule(count=st.integers(1, 20))
    def take(self, count: int) -> None:
        """Take some, if they fit."""
        fits = 7 + sum(self.taken) + count <= 64 - RESERVE
        assert self.budget.take(count) is fits
        if fits:
            self.taken.append(count)

    @precondition(lambda self: self.taken)
    @rule(index=st.integers(0, 100))
    def give_back(self, index: int) -> None:
        """Give one taking back: all who wait are woken, in their order."""
        self.woken.clear()
        self.budget.give_back(self.taken.pop(index % len(self.taken)))
        assert self.woken == self.waiting
        self.waiting.clear()

    @rule(number=st.integers(0, 3))
    def wait(self, number: int) -> None:
        """Wait, perhaps once more."""
        wake = self.wakes.setdefault(number, lambda: self.woken.append(number))
        self.budget.wait(wake)
        if number not in self.waiting:
            self.waiting.append(number)

    @precondition(lambda self: self.wakes)
    @rule(number=st.integers(0, 3))
    def forget(self, number: int) -> None:
        """Wait no more."""
        if number in self.wakes:
            self.budget.forget(self.wakes[number])
        if number in self.waiting:
            self.waiting.remove(number)

    @invariant()
    def adds_up(self) -> None:
        """The books are right."""
        assert self.budget.spent == 7 + sum(self.taken) <= 64 - RESERVE


class ModelTests(unittest.SynchronousTestCase):
    """The budget against the model."""

    def test_model(self) -> None:
        """Whatever is taken, given back, waited for and forgotten, the books are right."""
        run_state_machine_as_test(
            BudgetMachine,
            settings=settings(
                max_examples=60,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
