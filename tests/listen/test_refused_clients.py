"""Tests of `portfwd.listen.refused_clients`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.listen.refused_clients import MOST_REFUSED, REFUSED_FOR, RefusedClients


class RefusedClientsTests(SynchronousTestCase):
    """On a clock."""

    def test_for_a_while(self) -> None:
        """A client is remembered for a time and then forgotten."""
        clock = Clock()
        refused = RefusedClients(clock)
        refused.add("a")
        self.assertEqual(("a" in refused, "b" in refused), (True, False))
        clock.advance(REFUSED_FOR)
        self.assertNotIn("a", refused)
        self.assertEqual(repr(refused), "<RefusedClients 0>")

    def test_bounded(self) -> None:
        """The oldest client is forgotten when there are too many."""
        refused = RefusedClients(Clock())
        for number in range(MOST_REFUSED + 1):
            refused.add(number)
        self.assertEqual((0 in refused, 1 in refused), (False, True))
        self.assertEqual(repr(refused), f"<RefusedClients {MOST_REFUSED}>")
