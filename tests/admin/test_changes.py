"""Tests of `portfwd.admin.changes`: the latest lines of the log."""

from __future__ import annotations

from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.changes import KEPT, LONGEST, ChangeLog


class ChangeLogTests(SynchronousTestCase):
    """Lines as they are logged."""

    def setUp(self) -> None:
        self.changes = ChangeLog()
        self.publisher = LogPublisher(self.changes)
        self.log = Logger("portfwd.service", observer=self.publisher)

    def lines(self, after: int = 0) -> list[tuple[int, str, str]]:
        """Numbers, levels and texts of what is kept."""
        return [(one.number, one.level, one.text) for one in self.changes.since(after)]

    def test_kept(self) -> None:
        """Lines have numbers; `since` returns the later ones."""
        self.log.info("{rule}: paused", rule="web")
        self.log.warn("later")
        self.assertEqual(self.lines(), [(1, "info", "web: paused"), (2, "warn", "later")])
        self.assertEqual(self.lines(1), [(2, "warn", "later")])
        self.assertEqual((self.lines(2), self.changes.last), ([], 2))
        self.assertGreater(next(self.changes.since(0)).time, 0)
        self.assertEqual(repr(self.changes), "<ChangeLog 2 of 2>")

    def test_left_out(self) -> None:
        """Lines for debugging, and those of other programs, are left out."""
        self.log.debug("no")
        Logger("elsewhere", observer=self.publisher).error("no")
        self.publisher(
            {"log_format": "no", "log_level": LogLevel.info, "log_namespace": "x", "log_time": 1.0}
        )
        self.assertEqual(self.lines(), [])

    def test_bounds(self) -> None:
        """A bounded number of lines is kept, each of a bounded length, without control characters."""
        for number in range(KEPT + 5):
            self.log.info("{number}", number=number)
        self.assertEqual((len(self.lines()), self.lines()[0][0]), (KEPT, 6))
        self.log.info("{text}", text="a\n\x1b[31m" + "x" * LONGEST)
        text = self.lines(KEPT + 5)[0][2]
        self.assertEqual(len(text), LONGEST)
        self.assertTrue(text.startswith(r"a\x0a\x1b[31mxx"))
