"""When changed files are looked at."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.run.settling import LONGEST, QUIET, WRITING, Settling


class SettlingTests(SynchronousTestCase):
    """The state machine; times are given."""

    def setUp(self) -> None:
        self.settling = Settling()

    def test_nothing(self) -> None:
        """Without a change there is no look."""
        self.assertIsNone(self.settling.due)

    def test_quiet(self) -> None:
        """A look comes a moment after the last change."""
        self.settling.noticed(10.0, "a", is_open=False)
        self.assertEqual(self.settling.due, 10.0 + QUIET)
        self.settling.noticed(10.05, "b")
        self.assertEqual(self.settling.due, 10.05 + QUIET)

    def test_no_end(self) -> None:
        """Changes that do not end put the look off for a while only."""
        for tick in range(100):
            self.settling.noticed(10.0 + tick / 20, "a", is_open=False)
        self.assertEqual(self.settling.due, 10.0 + LONGEST)

    def test_writing(self) -> None:
        """A file that is being written is not looked at until it is closed, or nothing comes for long."""
        for tick in range(100):
            self.settling.noticed(10.0 + tick, "a", is_open=True)
        self.assertEqual(self.settling.due, 109.0 + WRITING)
        self.settling.noticed(110.0, "a")
        self.assertEqual(self.settling.due, 110.0 + WRITING)
        self.settling.noticed(110.5, "b", is_open=False)
        self.assertEqual(self.settling.due, 110.5 + WRITING)
        self.settling.noticed(111.0, "a", is_open=False)
        self.assertLessEqual(self.settling.due, 111.0 + QUIET)

    def test_looked(self) -> None:
        """A look begins anew; what comes while it is made is for the next one."""
        self.settling.noticed(10.0, "a", is_open=True)
        self.settling.looked()
        self.assertIsNone(self.settling.due)
        self.settling.noticed(20.0)
        self.assertEqual(self.settling.due, 20.0 + QUIET)
