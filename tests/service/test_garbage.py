"""Tests for `portfwd.service.garbage`."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.garbage import kept


class KeptTests(SynchronousTestCase):
    """What is made while rules become listeners."""

    def setUp(self) -> None:
        """Put back what the test changes for the whole process."""
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.enable)

    def test_off_and_on_again(self) -> None:
        """The collector rests meanwhile, and what was made is frozen."""
        before = gc.get_freeze_count()
        with kept():
            self.assertFalse(gc.isenabled())
            made = [[] for _ in range(1000)]  # type: ignore[var-annotated]
        self.assertTrue(gc.isenabled())
        self.assertGreaterEqual(gc.get_freeze_count() - before, len(made))

    def test_after_an_error(self) -> None:
        """An exception passes, and the collector is on again."""
        with self.assertRaises(ZeroDivisionError), kept():
            raise ZeroDivisionError
        self.assertTrue(gc.isenabled())

    def test_off_before(self) -> None:
        """A collector that somebody else turned off stays off."""
        gc.disable()
        with kept():
            """Nothing to keep."""
        self.assertFalse(gc.isenabled())
