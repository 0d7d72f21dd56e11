# -*- test-case-name: tests.rules.test_findings -*-
"""
Collects the problems of one reading, in the order of the files.

Readers report problems and continue. Codes that are missing in `portfwd.rules.codes` are refused, so the
reference is complete.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from portfwd.errors import Location, Problem, Severity
from portfwd.rules.codes import CODES
from portfwd.rules.tokens import Line, Word, WordFault

#: Most problems of each severity. More of them mean that it is not a rules file.
MAX_PROBLEMS: Final = 1000

#: Words that a hint lists: a line of them.
MOST_LISTED: Final = 12


class Findings:
    """A bounded number of problems of each severity."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._counts = dict.fromkeys(Severity, 0)
        self.failed = False

    def __repr__(self) -> str:
        return f"<Findings {len(self._problems)}{' failed' if self.failed else ''}>"

    def error(self, where: Location, code: str, message: str, hint: str = "") -> None:
        """Report an error, which refuses the file."""
        self._add(Problem(where, code, message, hint))

    def warning(self, where: Location, code: str, message: str, hint: str = "") -> None:
        """Report a warning, which does not refuse the file."""
        self._add(Problem(where, code, message, hint, Severity.WARNING))

    def fault(self, line: Line, word: Word, fault: WordFault) -> None:
        """Report a fault in `word` that a reader of values has found."""
        self.error(line.place(word, fault), fault.code, fault.message, fault.hint)

    def mark(self) -> int:
        """Number of problems so far, for `since` and `replace`."""
        return len(self._problems)

    def since(self, mark: int) -> bool:
        """Whether an error was reported since `mark`."""
        return any(problem.severity is Severity.ERROR for problem in self._problems[mark:])

    def replace(self, mark: int, columns: range, problem: Problem) -> None:
        """Report `problem` and drop those since `mark` that begin in `columns`: they follow from it."""
        self._problems[mark:] = [
            other for other in self._problems[mark:] if other.location.column not in columns
        ]
        self._add(problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Report problems that other code has found."""
        for problem in problems:
            self._add(problem)

    def _add(self, problem: Problem) -> None:
        if problem.code not in CODES:
            raise KeyError(problem.code)
        severity = problem.severity
        self.failed = self.failed or severity is Severity.ERROR
        self._counts[severity] += 1
        if self._counts[severity] <= MAX_PROBLEMS:
            self._problems.append(problem)
        elif self._counts[severity] == MAX_PROBLEMS + 1:
            what = f"there are more than {MAX_PROBLEMS} {severity.value}s; the others are not shown"
            self._problems.append(
                Problem(problem.location, "too-many-problems", what, "is this a rules file?", severity)
            )

    def sorted(self, files: Iterable[str] = ()) -> tuple[Problem, ...]:
        """All problems, sorted by file in the order of `files`, then by place."""
        order = {name: index for index, name in reversed(list(enumerate(files)))}
        return tuple(
            sorted(
                self._problems,
                key=lambda problem: (
                    order.get(problem.location.file, len(order)),
                    problem.location.line,
                    problem.location.column,
                ),
            )
        )


def suggestion(word: str, known: Iterable[str]) -> str:
    """``did you mean …?`` with the nearest word of `known`; empty if none is near."""
    spelling = word[:64].lower().replace("_", "-")
    near = difflib.get_close_matches(spelling, sorted(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


def nearest(word: str, known: Iterable[str], listed: str = "") -> str:
    """
    What to do about an unknown `word`: the nearest of `known`, else where or which they are.

    :param listed: the command that lists them, where they are too many for a line.
    """
    known = sorted(known)
    near = suggestion(word, known)
    if near or listed:
        return near or f"'{listed}' lists them"
    return f"there is {', '.join(known)}" if len(known) <= MOST_LISTED else ""


def shown(text: str) -> str:
    """`text` in single quotes for a message: printable and of limited length."""
    text = text if len(text) <= 60 else text[:57] + "..."
    return "'" + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text) + "'"
