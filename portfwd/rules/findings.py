# -*- test-case-name: tests.rules.test_findings -*-
"""
The problems found so far in one reading, in the order of the files.

Readers report here and go on. It refuses codes that `portfwd.rules.codes` does
not list, so that the reference misses none.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from portfwd.errors import Location, Problem, Severity
from portfwd.rules.codes import CODES
from portfwd.rules.tokens import Line, Word, WordFault

#: Problems of each severity that are kept: more say that it is the wrong file, and would be a flood.
MAX_PROBLEMS: Final = 1000


class Findings:
    """Collects problems, a bounded number of each severity; says whether any of them refuses the file."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._counts = dict.fromkeys(Severity, 0)
        self.failed = False

    def __repr__(self) -> str:
        return f"<Findings {len(self._problems)}{' failed' if self.failed else ''}>"

    def error(self, where: Location, code: str, message: str, hint: str = "") -> None:
        """Report what refuses the file."""
        self._add(Problem(where, code, message, hint))

    def warning(self, where: Location, code: str, message: str, hint: str = "") -> None:
        """Report what the user should know but does not refuse the file."""
        self._add(Problem(where, code, message, hint, Severity.WARNING))

    def fault(self, line: Line, word: Word, fault: WordFault) -> None:
        """Report what a reader of values says about `word`."""
        self.error(line.place(word, fault), fault.code, fault.message, fault.hint)

    def mark(self) -> int:
        """How many problems there are: the place to which `since` and `replace` go back."""
        return len(self._problems)

    def since(self, mark: int) -> bool:
        """Whether an error was reported since `mark`."""
        return any(problem.severity is Severity.ERROR for problem in self._problems[mark:])

    def replace(self, mark: int, columns: range, problem: Problem) -> None:
        """Report `problem` in place of those since `mark` that begin in `columns`, which follow from it."""
        self._problems[mark:] = [
            other for other in self._problems[mark:] if other.location.column not in columns
        ]
        self._add(problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Report problems that were found elsewhere."""
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
        """All of them: by file in the order of `files`, then by place."""
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
    """``did you mean …?`` with the nearest of `known`, or empty."""
    spelling = word[:64].lower().replace("_", "-")
    near = difflib.get_close_matches(spelling, sorted(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


def shown(text: str) -> str:
    """`text` between single quotes as a message shows it: printable, and not endless."""
    text = text if len(text) <= 60 else text[:57] + "..."
    return "'" + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text) + "'"
