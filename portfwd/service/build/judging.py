# -*- test-case-name: tests.service.build.test_judging -*-
"""
All reasons for which a start refuses rules that could be read; used by ``check`` and by a start.

It combines the lists of other modules. The readable rules of a file with errors are judged too, so all
mistakes of a file are reported at once. Facts that only the network or the running system know are not
checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from portfwd.errors import Problem, Severity
from portfwd.rules.model import Ruleset
from portfwd.rules.support import unsupported
from portfwd.service.build.check_trials import impossible_checks
from portfwd.service.build.checks import plugin_problems
from portfwd.service.build.factories import Selection
from portfwd.service.build.openings import opening_problems
from portfwd.service.tls.problems import tls_problems
from portfwd.upstreams.checks.registry import CheckRegistry

#: Warnings about missing things without which a start continues, and about options that the reader of the
#: file could not judge. Other warnings are for ``check``, or for the log of the running process.
DONE_WITHOUT: Final = frozenset({"check-impossible", "no-directory", "not-writable", "option-without-effect"})


def judge(ruleset: Ruleset, filters: Selection, reactor: Any = None) -> tuple[Problem, ...]:
    """
    The problems of `ruleset`, including warnings.

    :param filters: gets the factories of the rules' filters.
    :param reactor: see `opening_problems`.
    """
    checks = CheckRegistry.installed()  # read once for both, at the first rule with a check
    return (
        *unsupported(ruleset),
        *plugin_problems(ruleset, filters, checks),
        *impossible_checks(ruleset, checks),
        *opening_problems(ruleset, reactor),
        *tls_problems(ruleset, filters.clauses),
    )


def matters_at_start(problem: Problem) -> bool:
    """Whether a start refuses the rules because of it, or continues without something."""
    return problem.severity is Severity.ERROR or problem.code in DONE_WITHOUT


def merged(told: Sequence[Problem], others: Iterable[Problem], files: Sequence[str]) -> tuple[Problem, ...]:
    """
    The problems of reading and of judging, in order.

    :param told: those that the readers of the file have found.
    :param others: further ones; those with the place and code of a problem in `told` are left out.
    :param files: see `in_order`.
    """
    known = {(problem.location, problem.code) for problem in told}
    new = (problem for problem in others if (problem.location, problem.code) not in known)
    return in_order((*told, *new), files)


def in_order(problems: Iterable[Problem], files: Sequence[str]) -> tuple[Problem, ...]:
    """`problems` in the order in which the files are read."""
    order = {path: number for number, path in enumerate(files)}

    def position(problem: Problem) -> tuple[int, int, int]:
        where = problem.location
        return order.get(where.file, 0), where.line, where.column

    return tuple(sorted(problems, key=position))
