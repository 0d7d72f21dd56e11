"""Tests of `portfwd.filters.builtin.direction_option`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.builtin.direction_option import ARROWS, directions_of
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction


class WayTests(SynchronousTestCase):
    """The words of ``direction=``."""

    def test_words(self) -> None:
        """Up is to the upstream, down to the client; both are both."""
        self.assertEqual(directions_of("up"), {TO_UPSTREAM})
        self.assertEqual(directions_of("down"), {TO_CLIENT})
        self.assertEqual(directions_of("both"), set(Direction))
        self.assertEqual(set(ARROWS), set(Direction))

    def test_other_words(self) -> None:
        """Another word is an error that names those there are."""
        error = self.assertRaises(ValueError, directions_of, "sideways")
        self.assertIn("up, down, both", str(error))
