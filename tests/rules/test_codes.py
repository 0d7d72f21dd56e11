"""Tests of `portfwd.rules.codes`: for each code a file, and the exact text about it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.codes import CODES
from tests.rules.golden import broken_files, golden_path, problems_of, text_of


class GoldenTests(SynchronousTestCase):
    """The files in ``broken`` and what is said about them."""

    maxDiff = None

    def test_texts(self) -> None:
        """Every problem of a broken file is told at once, with its place, the line, and the way out."""
        for path in broken_files():
            self.assertEqual(text_of(path), golden_path(path).read_text("utf-8"), path.name)

    def test_named_by_code(self) -> None:
        """The file called after a code has a problem with that code."""
        for path in broken_files():
            self.assertIn(path.stem, {problem.code for problem in problems_of(path)}, path.name)

    def test_every_code(self) -> None:
        """There is a file for every code, and none for a code that does not exist."""
        self.assertEqual({path.stem for path in broken_files()}, set(CODES))

    def test_sentences(self) -> None:
        """A code is kebab-case and explained by a sentence."""
        for code, sentence in CODES.items():
            self.assertRegex(code, r"\A[a-z0-9]+(-[a-z0-9]+)*\Z")
            self.assertRegex(sentence, r"\A(?:[A-Z]|rinetd).*\.\Z")

    def test_places(self) -> None:
        """The marked characters are there: a place never reaches beyond its line."""
        for path in broken_files():
            for problem in problems_of(path):
                where = problem.location
                if where.column:
                    self.assertLessEqual(where.column, len(where.text) + 1, problem)
                    self.assertLessEqual(
                        where.column + where.length - 1, max(len(where.text), where.column), problem
                    )
