"""Tests of `portfwd.streams.allowance`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.streams.allowance import UNBOUND, Allowance, Waiter
from portfwd.values import Address, InetAddress

OTHER = InetAddress("192.0.2.2", 1)


class Purse:
    """Grants what it is told to, and writes down what becomes of it."""

    def __init__(self, *grants: int) -> None:
        self.waits = False
        self.is_open = True
        self.waited = 2.5
        self.did: list[tuple[object, ...]] = []
        self._grants = list(grants)

    def ask(self, waiter: Waiter) -> int:
        granted = self._grants.pop(0)
        self.waits = not granted
        return granted

    def settle(self, granted: int, used: int) -> None:
        self.did.append((granted, used))

    def leave(self) -> None:
        self.waits = False
        self.did.append(("leave",))

    def go_as(self, client: Address) -> None:
        self.waits = False
        self.did.append((client,))


class Idle:
    """A flow that waits."""

    def granted(self, count: int) -> None:
        """The test looks at the allowance."""


class AllowanceTests(SynchronousTestCase):
    """What may still be read."""

    def test_one_bound(self) -> None:
        """A bound that is not there never holds; the other is lowered by each read."""
        counted, granted = Allowance(10), Allowance(grants=Purse())
        granted.granted = 10
        for allowance in (counted, granted):
            self.assertEqual(allowance.left, 10)
            allowance.take(7)
            self.assertEqual((allowance.left, allowance.taken), (3, 7))

    def test_both_bounds(self) -> None:
        """The smaller one holds, also after the other was given anew."""
        allowance = Allowance(10, Purse())
        allowance.granted = 4
        self.assertEqual(allowance.left, 4)
        allowance.take(4)
        self.assertEqual((allowance.left, allowance.counted), (0, 6))
        allowance.granted += 100
        self.assertEqual(allowance.left, 6)
        allowance.counted = UNBOUND
        self.assertEqual(allowance.left, 100)

    def test_grants(self) -> None:
        """A grant is there until it is used or returned; what was read beyond it is accounted for, too."""
        purse = Purse(10, 20, 0)
        allowance = Allowance(grants=purse)
        self.assertTrue(allowance.is_paced)
        self.assertTrue(allowance.ask(Idle()))
        allowance.take(4)
        allowance.settle()
        allowance.settle()
        self.assertTrue(allowance.ask(Idle()))
        allowance.settle(25)
        self.assertEqual(purse.did, [(6, 0), (20, 25)])
        self.assertFalse(allowance.ask(Idle()))
        self.assertEqual((allowance.waits, allowance.waited), (True, 2.5))
        self.assertIn("0 waits", repr(allowance))

    def test_leaving(self) -> None:
        """Who leaves the queue, or turns out to be another client, returns what was granted."""
        purse = Purse(10, 0)
        allowance = Allowance(grants=purse)
        allowance.ask(Idle())
        allowance.leave()
        allowance.ask(Idle())
        self.assertTrue(allowance.go_as(OTHER))
        self.assertFalse(allowance.go_as(OTHER))
        self.assertEqual(purse.did, [("leave",), (10, 0), (OTHER,), (OTHER,)])

    def test_no_limit(self) -> None:
        """Without limited bandwidth nothing is asked for, and nobody waits."""
        allowance = Allowance(3)
        self.assertTrue(allowance.ask(Idle()))
        allowance.settle(100)
        allowance.leave()
        self.assertFalse(allowance.go_as(OTHER))
        self.assertEqual(
            (allowance.left, allowance.is_paced, allowance.is_open, allowance.waits, allowance.waited),
            (3, False, True, False, 0.0),
        )

    def test_repr(self) -> None:
        """One line says what is left."""
        self.assertEqual(repr(Allowance(3)), "<Allowance 3>")
        self.assertEqual(repr(Allowance()), "<Allowance unbound>")
