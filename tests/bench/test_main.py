"""Tests for the command line of the lab."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.__main__ import chosen, publish
from bench.loads.programme import rows
from tests.bench.test_report import RESULTS


class ChosenTests(SynchronousTestCase):
    """Which rows are run."""

    def names(self, only: list[str] | None, quick: bool) -> list[str]:
        """Names of the chosen rows."""
        return [row.name for row in chosen(rows(), only, quick)]

    def test_all(self) -> None:
        """Without options all are run."""
        self.assertEqual(self.names(None, False), [row.name for row in rows()])

    def test_group(self) -> None:
        """A group is all its rows, or with --quick its quick ones."""
        self.assertEqual(self.names(["idle"], False), ["idle-1000", "idle-10000"])
        self.assertEqual(self.names(["idle"], True), ["idle-1000"])

    def test_row(self) -> None:
        """A row that is named is run, also with --quick."""
        self.assertEqual(self.names(["idle-10000"], True), ["idle-10000"])

    def test_unknown(self) -> None:
        """A word that is neither is refused with the groups there are."""
        self.assertIn("bulk, sweep", str(self.assertRaises(ValueError, self.names, ["blk"], False)))


class PublishTests(SynchronousTestCase):
    """Writing the page."""

    def test_written(self) -> None:
        """The page keeps its own words, and the pictures stand in the folder of its name."""
        folder = Path(self.mktemp())
        folder.mkdir()
        page = folder / "performance.md"
        page.write_text("# Performance\n\nWhy it is fast.\n")
        publish(RESULTS, page)
        text = page.read_text()
        self.assertIn("Why it is fast.", text)
        self.assertIn("(performance/bulk-8-to-client.svg)", text)
        self.assertTrue((folder / "performance" / "bulk-8-to-client.svg").exists())
