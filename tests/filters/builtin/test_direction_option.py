"""Tests of `portfwd.filters.builtin.direction_option`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.builtin.direction_option import ARROWS, direction, directions_of
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction


class WayTests(SynchronousTestCase):
    """The words of ``direction=``."""

    def test_words(self) -> None:
        """A direction is called by its name; up and down are short for it."""
        self.assertEqual(directions_of("to-upstream"), {TO_UPSTREAM})
        self.assertEqual(directions_of("to-client"), {TO_CLIENT})
        self.assertEqual(directions_of("up"), {TO_UPSTREAM})
        self.assertEqual(directions_of("down"), {TO_CLIENT})
        self.assertEqual(directions_of("both"), set(Direction))
        self.assertEqual(set(ARROWS), set(Direction))

    def test_read(self) -> None:
        """An option's value is the long word, however it was written."""
        self.assertEqual(
            [direction().read(word) for word in ("up", "to-client")], ["to-upstream", "to-client"]
        )

    def test_other_words(self) -> None:
        """Another word is an error that names those there are."""
        error = self.assertRaises(ValueError, directions_of, "sideways")
        self.assertIn("to-upstream, to-client, both", str(error))
