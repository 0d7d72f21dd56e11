"""Tests of `portfwd.streams.allowance`: two bounds, and the smaller one holds."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.streams.allowance import UNBOUND, Allowance


class AllowanceTests(SynchronousTestCase):
    """What may still be read."""

    def test_one_bound(self) -> None:
        """A bound that is not there never holds; the other is lowered by each read."""
        for allowance in (Allowance(counted=10), Allowance(granted=10)):
            self.assertEqual(allowance.left, 10)
            allowance.take(7)
            self.assertEqual((allowance.left, allowance.taken), (3, 7))

    def test_both_bounds(self) -> None:
        """The smaller one holds, also after the other was given anew."""
        allowance = Allowance(counted=10, granted=4)
        self.assertEqual(allowance.left, 4)
        allowance.take(4)
        self.assertEqual((allowance.left, allowance.counted), (0, 6))
        allowance.granted += 100
        self.assertEqual(allowance.left, 6)
        allowance.counted = UNBOUND
        self.assertEqual(allowance.left, 100)

    def test_repr(self) -> None:
        """One line says what is left."""
        self.assertEqual(repr(Allowance(counted=3)), "<Allowance 3>")
        self.assertEqual(repr(Allowance()), "<Allowance unbound>")
