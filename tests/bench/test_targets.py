"""Tests for `bench.loads.targets`."""

from __future__ import annotations

from itertools import count

from twisted.trial.unittest import SynchronousTestCase

from bench.loads.targets import pick_us, pool_of
from portfwd.rules.model import Balance


class PickTests(SynchronousTestCase):
    """What is measured."""

    def test_every_balance(self) -> None:
        """Sessions come and go, for each balance; the time is that of the picks alone."""
        for balance in Balance:
            seconds = count()
            self.assertEqual(pick_us(7, balance, 100, lambda: next(seconds)), 1e6 / 100)  # noqa: B023

    def test_pool(self) -> None:
        """Each target has an address of its own."""
        self.assertEqual(len({one.key for one in pool_of(1000, Balance.FIRST).members}), 1000)
