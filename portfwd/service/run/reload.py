# -*- test-case-name: tests.service.run.test_reload -*-
"""
The result of a reload: whether it was applied, the differences, the failures, and notes.

`portfwd.service.run.transition` applies new rules; `portfwd.service.run.forwarder` decides when.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from portfwd.errors import Problem, Severity
from portfwd.rules.diagnostics import format_problem
from portfwd.rules.queries.diff import Difference

#: Most differences, and most failures, that one reload logs.
MAX_LINES: Final = 50


@frozen
class ReloadResult:
    """
    The result of a reload.

    :ivar applied: whether the new rules are active; always False for a dry run.
    :ivar dry_run: whether it was only tried.
    :ivar difference: difference between the old and the new rules; None if the new ones could not be read.
    :ivar problems: the problems of the file, including warnings.
    :ivar failures: one line for each failure. If there are any, nothing was changed.
    :ivar renewed: one line for each rule whose text is the same, but not its files or sockets.
    :ivar notes: settings that did not take effect although the reload was applied, with the remedy.
    :ivar seconds: its duration.
    :ivar longest: seconds of its longest slice, in which no session was served.
    """

    applied: bool = False
    dry_run: bool = False
    difference: Difference | None = None
    problems: tuple[Problem, ...] = ()
    failures: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    longest: float = 0.0

    @property
    def refused(self) -> bool:
        """Whether there are failures."""
        return bool(self.failures)

    def __str__(self) -> str:
        """One line."""
        if self.failures:
            count = len(self.failures)
            return f"refused, nothing was changed: {count} {'thing is' if count == 1 else 'things are'} wrong"
        if self.difference is None or not self.difference:
            return "the rules are the same" if self.renewed else "nothing is different"
        return str(self.difference)

    def lines(self) -> Iterator[str]:
        """The result as text, with at most `MAX_LINES` failures, warnings and differences each."""
        yield f"{'dry run: ' if self.dry_run else ''}{self}"
        for failure in _first(self.failures):
            yield from failure.split("\n")
        yield from _first([str(one) for one in self.problems if one.severity is Severity.WARNING])
        if self.difference is not None:
            yield from shortened(self.difference)
        yield from _first([f"~ {line}" for line in self.renewed])
        yield from _first([f"note: {note}" for note in self.notes])


def _first(lines: Sequence[str]) -> Iterator[str]:
    """At most `MAX_LINES` lines. The last one has the number of omitted ones."""
    yield from lines[:MAX_LINES]
    if len(lines) > MAX_LINES:
        yield f"… and {len(lines) - MAX_LINES} more; 'portfwd check' tells all that is wrong with a file"


def shortened(difference: Difference) -> Iterator[str]:
    """At most `MAX_LINES` lines of a difference. The last one has the number of omitted ones."""
    count = (
        len(difference.settings) + len(difference.removed) + len(difference.changed) + len(difference.added)
    )
    for number, line in enumerate(difference.lines(), 1):
        if number > MAX_LINES:
            yield f"… and {count - MAX_LINES} more"
            return
        yield line


def refusal(problems: Sequence[Problem], failures: Sequence[str] = ()) -> tuple[str, ...]:
    """The failures of a file with `problems`, each with its place, and further failures."""
    return (*map(format_problem, problems), *dict.fromkeys(failures))
