"""Tests of `portfwd.rules.diagnostics`: problems for people and for machines."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Location, Problem, RulesError, Severity
from portfwd.rules.diagnostics import MAX_SHOWN, format_problem, problem_to_json

LINE = "    web: :8080 -> 10.0.0.5:80  ilde=5m"


class FormatTests(SynchronousTestCase):
    """``file:line:col: severity: message`` and what is beneath it."""

    def test_whole(self) -> None:
        """Place, severity and message; the line; a caret under the place; the way out."""
        problem = Problem(
            Location("rules.conf", 7, 32, 4, LINE),
            "unknown-option",
            "unknown option 'ilde'",
            "did you mean 'idle'?",
        )
        self.assertEqual(
            format_problem(problem),
            "rules.conf:7:32: error: unknown option 'ilde'\n"
            f"    {LINE}\n"
            "                                   ^~~~\n"
            "    did you mean 'idle'?",
        )

    def test_less_known(self) -> None:
        """What is not known is left out."""
        self.assertEqual(
            format_problem(Problem(Location("f"), "c", "m", severity=Severity.WARNING)), "f: warning: m"
        )
        self.assertEqual(format_problem(Problem(Location("f", 3), "c", "m")), "f:3: error: m")
        self.assertEqual(
            format_problem(Problem(Location("f", 3, key="a.b"), "c", "m", "h")), "f:3: error: a.b: m\n    h"
        )

    def test_location(self) -> None:
        """A place prints as far as it is known."""
        for place, text in (
            (Location("f"), "f"),
            (Location("f", 2), "f:2"),
            (Location("f", 2, 3), "f:2:3"),
            (Location("f", 2, 3, key="a[0]"), "f:2:3: a[0]"),
        ):
            self.assertEqual(str(place), text)

    def caret(self, text: str, column: int, length: int = 1) -> list[str]:
        """The source line and the caret line, without the indent."""
        lines = format_problem(Problem(Location("f", 1, column, length, text), "c", "m")).split("\n")
        return [line[4:] for line in lines[1:]]

    def test_tabs(self) -> None:
        """Tabs stay in the padding, so the caret stands under the word however wide they are."""
        self.assertEqual(self.caret("\ta\tbc", 4, 2), ["\ta\tbc", "\t \t^~"])

    def test_wide(self) -> None:
        """A character that takes two columns is padded by two, one that takes none by none."""
        self.assertEqual(self.caret("日e\u0301x", 4), ["日e\u0301x", "   ^"])
        self.assertEqual(self.caret("日本x", 1, 2)[1], "^~~~")

    def test_end(self) -> None:
        """A place at the end of the line has its caret there; none reaches beyond."""
        self.assertEqual(self.caret("ab", 3), ["ab", "  ^"])
        self.assertEqual(self.caret("ab", 2, 50), ["ab", " ^"])

    def test_long_line(self) -> None:
        """Of an endless line only what is around the place is shown."""
        text = "x" * 5000 + "HERE" + "y" * 5000
        source, caret = self.caret(text, 5001, 4)
        self.assertEqual(len(source), MAX_SHOWN + 6)
        self.assertEqual(source[caret.index("^") :][: len(caret.strip())], "HERE")
        self.assertTrue(source.startswith("...") and source.endswith("..."))
        self.assertFalse(self.caret(text, 1)[0].startswith("..."))
        self.assertFalse(self.caret(text, 10004)[0].endswith("..."))

    def test_control_characters(self) -> None:
        """A file cannot send escape sequences to the terminal that shows its problems."""
        self.assertEqual(self.caret("a\x1b[31m", 1)[0], "a\N{REPLACEMENT CHARACTER}[31m")

    def test_exception(self) -> None:
        """The exception's text is a line for each problem."""
        problems = [Problem(Location("f", 1, 2), "c", "one"), Problem(Location("f", 3, 4), "c", "two")]
        self.assertEqual(str(RulesError(problems)), "f:1:2: error: one\nf:3:4: error: two")


class JSONTests(SynchronousTestCase):
    """Problems for machines."""

    def test_whole(self) -> None:
        """Every part has its key; what is not known is None."""
        problem = Problem(Location("f", 1, 2, 3, "abcd", "k"), "no-rules", "m", "h", Severity.WARNING)
        self.assertEqual(
            problem_to_json(problem),
            {
                "file": "f", "line": 1, "column": 2, "length": 3, "key": "k", "severity": "warning",
                "code": "no-rules", "message": "m", "hint": "h", "source": "abcd",
            },
        )  # fmt: skip
        empty = problem_to_json(Problem(Location("f"), "no-rules", "m"))
        self.assertEqual(
            [empty[key] for key in ("line", "column", "length", "key", "hint", "source")], [None] * 6
        )
