"""Tests for the limits of look-ups under way."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.look_ups import NOBODY, Asker, LookUpLimits

ASKERS = [Asker(rule, source) for rule in ("a", "b", "c") for source in ("", "192.0.2.1", "192.0.2.2")]


class LookUpLimitsTests(SynchronousTestCase):
    """`LookUpLimits`."""

    def test_each_limit(self) -> None:
        """Each limit says its own name and number."""
        limits = LookUpLimits(total=3, per_rule=2, per_source=1)
        self.assertEqual(limits.take(Asker("a", "192.0.2.1")), "")
        self.assertEqual(limits.take(Asker("b", "192.0.2.1")), "1 look-ups of this client are under way")
        self.assertEqual(limits.take(Asker("a", "")), "")
        self.assertEqual(limits.take(Asker("a", "192.0.2.2")), "2 look-ups of this rule are under way")
        self.assertEqual(limits.take(NOBODY), "")
        self.assertEqual(limits.take(Asker("c", "192.0.2.3")), "3 look-ups are under way")

    @given(st.lists(st.tuples(st.sampled_from(ASKERS), st.booleans()), max_size=60))
    def test_bounds_hold(self, steps: list[tuple[Asker, bool]]) -> None:
        """Whatever is taken and given back in any order, no bound is passed, and nothing stays behind."""
        limits = LookUpLimits(total=5, per_rule=3, per_source=2)
        taken: Counter[Asker] = Counter()
        for asker, takes in steps:
            if takes:
                taken[asker] += not limits.take(asker)
            elif taken[asker]:
                taken[asker] -= 1
                limits.give_back(asker)
            self.assertLessEqual(taken.total(), 5)
            for rule in "abc":
                self.assertLessEqual(sum(n for one, n in taken.items() if one.rule == rule), 3)
            for source in ("192.0.2.1", "192.0.2.2"):
                self.assertLessEqual(sum(n for one, n in taken.items() if one.source == source), 2)
        for asker in taken.elements():
            limits.give_back(asker)
        self.assertEqual(limits.take(NOBODY), "")
        limits.give_back(NOBODY)
        self.assertEqual(repr(limits), "<LookUpLimits 0 of 5, of 0 rules and 0 clients>")
