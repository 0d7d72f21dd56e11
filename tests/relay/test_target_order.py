"""Tests for the order of targets: one question, one object."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import TargetsFull
from portfwd.relay.destination import Destination
from portfwd.relay.target_order import InOrder
from portfwd.rules.model import Options


class InOrderTests(SynchronousTestCase):
    """`InOrder`."""

    def test_order(self) -> None:
        """Each target once, in the order given, then none."""
        targets = [Destination(label, Options()) for label in "abc"]
        order = InOrder(targets)
        self.assertEqual(repr(order), "<InOrder 3 left>")
        self.assertEqual([order.next() for _ in range(4)], [*targets, None])

    def test_slots(self) -> None:
        """A chosen target has a slot taken; a full one is an error that names the limit."""
        one = Destination("a", Options(max_conns_per_target=1))
        self.assertIs(InOrder([one]).next(), one)
        self.assertEqual(one.occupancy.taken, 1)
        order = InOrder([one])
        refused = order.next()
        self.assertIsInstance(refused, TargetsFull)
        self.assertEqual(str(refused), "a: max-conns-per-target=1")
        self.assertIsNone(order.next())
