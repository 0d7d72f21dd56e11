# -*- test-case-name: tests.service.run.test_reload -*-
"""
What came of a reload: whether it was applied, what is different, what was refused, what is to be known.

How the rules at work become others is `portfwd.service.run.transition`'s, when is
`portfwd.service.run.forwarder`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from portfwd.errors import Problem, Severity
from portfwd.rules.diagnostics import format_problem
from portfwd.rules.queries.diff import Difference

#: Differences, and as many failures, that one reload logs; who changes more than this sees it in the file.
MAX_LINES: Final = 50


@frozen
class ReloadResult:
    """
    What came of a reload.

    :ivar applied: whether the new rules are at work; never for a dry run.
    :ivar dry_run: whether it was only to be tried.
    :ivar difference: between the rules before and the new ones; None where these could not be read.
    :ivar problems: what is wrong with the file, warnings included.
    :ivar failures: a line for each thing that cannot be had; with any of them nothing was changed.
    :ivar notes: what is not as the file says although it was applied, and what to do about it.
    :ivar seconds: how long it took.
    :ivar longest: seconds of the longest slice of it, in which no traffic was served.
    """

    applied: bool = False
    dry_run: bool = False
    difference: Difference | None = None
    problems: tuple[Problem, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    longest: float = 0.0

    @property
    def refused(self) -> bool:
        """Whether something is wrong."""
        return bool(self.failures)

    def __str__(self) -> str:
        """One line."""
        if self.failures:
            count = len(self.failures)
            return f"refused, nothing was changed: {count} {'thing is' if count == 1 else 'things are'} wrong"
        if self.difference is None or not self.difference:
            return "nothing is different"
        return str(self.difference)

    def lines(self) -> Iterator[str]:
        """All of it for people: of failures, warnings and differences `MAX_LINES` at most, each."""
        yield f"{'dry run: ' if self.dry_run else ''}{self}"
        for failure in _first(self.failures):
            yield from failure.split("\n")
        yield from _first([str(one) for one in self.problems if one.severity is Severity.WARNING])
        if self.difference is not None:
            yield from shortened(self.difference)
        yield from _first([f"note: {note}" for note in self.notes])


def _first(lines: Sequence[str]) -> Iterator[str]:
    """`MAX_LINES` of them; the last one says how many more there are."""
    yield from lines[:MAX_LINES]
    if len(lines) > MAX_LINES:
        yield f"… and {len(lines) - MAX_LINES} more; 'portfwd check' tells all that is wrong with a file"


def shortened(difference: Difference) -> Iterator[str]:
    """The lines of a difference, `MAX_LINES` at most; the last one says how many more there are."""
    count = (
        len(difference.settings) + len(difference.removed) + len(difference.changed) + len(difference.added)
    )
    for number, line in enumerate(difference.lines(), 1):
        if number > MAX_LINES:
            yield f"… and {count - MAX_LINES} more"
            return
        yield line


def refusal(problems: Sequence[Problem], failures: Sequence[str] = ()) -> tuple[str, ...]:
    """The failures of a file with `problems`, each with its place, and of what else cannot be had."""
    return (*map(format_problem, problems), *dict.fromkeys(failures))
