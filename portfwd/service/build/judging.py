# -*- test-case-name: tests.service.build.test_judging -*-
"""
Everything for which a start refuses rules that were read well, in one list; ``check`` and the start ask here.

What each of the lists says is theirs. It refuses to look at what only the network or the system knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from portfwd.errors import Problem, Severity
from portfwd.rules.model import Ruleset
from portfwd.rules.support import unsupported
from portfwd.service.build.checks import plugin_problems
from portfwd.service.build.factories import Selection
from portfwd.service.build.openings import opening_problems
from portfwd.service.tls.problems import tls_problems

#: Warnings of what a start does without. Others are for ``check``, or for the log once the process is up.
DONE_WITHOUT: Final = frozenset({"no-directory", "not-writable"})


def judge(ruleset: Ruleset, filters: Selection, reactor: Any = None) -> tuple[Problem, ...]:
    """
    Everything that is wrong with what `ruleset` names, and warnings.

    :param filters: gets the factories of the rules' filters.
    :param reactor: see `opening_problems`.
    """
    return (
        *unsupported(ruleset),
        *plugin_problems(ruleset, filters),
        *opening_problems(ruleset, reactor),
        *tls_problems(ruleset, filters.clauses),
    )


def matters_at_start(problem: Problem) -> bool:
    """Whether a start refuses the rules for it, or does without something."""
    return problem.severity is Severity.ERROR or problem.code in DONE_WITHOUT


def in_order(problems: Iterable[Problem], files: Sequence[str]) -> tuple[Problem, ...]:
    """`problems` in the order in which the files are read."""
    order = {path: number for number, path in enumerate(files)}

    def position(problem: Problem) -> tuple[int, int, int]:
        where = problem.location
        return order.get(where.file, 0), where.line, where.column

    return tuple(sorted(problems, key=position))
