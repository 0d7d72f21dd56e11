"""Tests for `portfwd.service.daemon.garbage`."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.daemon.garbage import MOST_SEEN, kept


class KeptTests(SynchronousTestCase):
    """What is made while rules become listeners."""

    def setUp(self) -> None:
        """Put back what the test changes for the whole process."""
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.enable)

    def test_many(self) -> None:
        """The collector is off meanwhile; objects of many rules are frozen, and no full round sees them."""
        before = gc.get_freeze_count()
        with kept(lambda: MOST_SEEN + 1):
            self.assertFalse(gc.isenabled())
            made = [[] for _ in range(1000)]  # type: ignore[var-annotated]
        self.assertTrue(gc.isenabled())
        self.assertGreaterEqual(gc.get_freeze_count() - before, len(made))

    def test_start(self) -> None:
        """A start freezes what it made, however few rules there are."""
        gc.unfreeze()
        with kept():
            pass
        self.assertGreater(gc.get_freeze_count(), 0)

    def test_few(self) -> None:
        """A reload of few rules freezes nothing: later rounds find cycles that were alive then."""
        gc.freeze()
        before = gc.get_freeze_count()
        with kept(lambda: MOST_SEEN):
            made = [[] for _ in range(1000)]  # type: ignore[var-annotated]
        self.assertLessEqual(gc.get_freeze_count(), before)
        self.assertTrue(gc.is_tracked(made))

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
