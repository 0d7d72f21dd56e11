"""Tests of tables and figures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.cli.columns import fitted_table, shortened, size_text, table, time_text


class ColumnTests(SynchronousTestCase):
    """Text for terminals."""

    def test_table(self) -> None:
        """Columns are as wide as their widest cell; numbers stand right; no line ends in blanks."""
        found = table(("ID", "NAME", "X"), [("7", "a", ""), ("123", "bcdef", "y")], ("ID",))
        self.assertEqual(found, " ID  NAME   X\n  7  a\n123  bcdef  y")

    def test_shortened(self) -> None:
        """What is too long loses its middle."""
        found = [shortened("abcdefghij", width) for width in (10, 9, 4, 2, 1, 0)]
        self.assertEqual(found, ["abcdefghij", "abcd\u2026ghij", "ab\u2026j", "a\u2026", "a", ""])

    @given(st.lists(st.text(max_size=40), min_size=3, max_size=3), st.integers(12, 120))
    def test_fitted(self, cells: list[str], width: int) -> None:
        """A fitted table is as wide as asked at most, and keeps the columns that may not be left out."""
        found = fitted_table(("ID", "N", "X"), [cells], ("ID",), width, shrink={"ID": 3, "N": 9}, drop=("X",))
        self.assertLessEqual(max(map(len, found.split("\n"))), width)
        self.assertIn("ID", found)

    def test_escaped(self) -> None:
        """A cell cannot move the cursor."""
        self.assertEqual(table(("A",), [("\x1b[2J",)]), "A\n\\x1b[2J")

    def test_sizes(self) -> None:
        """Three or four figures, whatever the size."""
        for size, text in (
            (None, "-"),
            (0, "0 B"),
            (999.6, "1000 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (99 * 1024, "99.0 KiB"),
            (512 * 1024, "512 KiB"),
            (1024**2 - 1, "1.0 MiB"),
            (3.25 * 1024**4, "3.2 TiB"),
            (5000 * 1024**5, "5000 PiB"),
        ):
            self.assertEqual(size_text(size), text, size)

    def test_times(self) -> None:
        """Two units at most."""
        for seconds, text in (
            (0.9, "0s"),
            (59, "59s"),
            (125, "2m05s"),
            (15130, "4h12m"),
            (86400 * 3 + 3600 * 7, "3d07h"),
        ):
            self.assertEqual(time_text(seconds), text)
