# -*- test-case-name: tests.service.build.test_checks -*-
"""
``check`` clauses of rules, and the plug-ins that they name: joined here, as `portfwd.service.build.filters`
joins filters.

It runs no check: `portfwd.service.run.checking` does.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, field, frozen

from portfwd.errors import Problem
from portfwd.filters.options import OptionFiles, OptionProblem
from portfwd.filters.registry import Unavailable
from portfwd.rules.findings import Findings
from portfwd.rules.model import CheckSpec, Rule, Ruleset
from portfwd.service.build.factories import Selection
from portfwd.service.build.filters import DISK, clause_place, filter_problems
from portfwd.upstreams.checks.api import Check
from portfwd.upstreams.checks.registry import CheckRegistry
from portfwd.upstreams.checks.timing import Timing


@frozen(eq=False)
class ReadyCheck:
    """
    One ``check`` clause, made ready.

    :ivar name: the check's, as the rule writes it.
    :ivar identity: equal for clauses that say the same of one target, however often they ask.
    """

    name: str
    check: Check
    timing: Timing
    identity: str = field()


@frozen
class ReadyChecks:
    """The checks of a rule; those that have a problem are left out."""

    checks: tuple[ReadyCheck, ...] = ()
    problems: tuple[Problem, ...] = ()


def configure_checks(
    rule: Rule,
    registry: CheckRegistry,
    specs: Sequence[CheckSpec] | None = None,
    files: OptionFiles = DISK,
) -> ReadyChecks:
    """
    The checks of a rule's ``check`` clauses, and everything that is wrong with them.

    :param specs: None: all clauses.
    """
    checks: list[ReadyCheck] = []
    problems: list[Problem] = []
    for spec in rule.checks if specs is None else specs:
        try:
            found = registry.find(spec.name)
        except Unavailable as refusal:
            problems.append(Problem(spec.where, refusal.code, refusal.message, refusal.hint))
            continue
        read = found.read(spec.words, spec.options, files)
        if isinstance(read, list):
            problems += [_placed(spec, one) for one in read]
            continue
        check, timing = read
        identity = f"{spec.name} {check!r} port={timing.port}"
        if any(one.identity == identity for one in checks):
            problems.append(_placed(spec, OptionProblem("this check stands twice")))
            continue
        if check.at_once:
            timing = evolve(timing, rise=1, fall=1)
        checks.append(ReadyCheck(spec.name, check, timing, identity))
    return ReadyChecks(tuple(checks), tuple(problems))


def plugin_problems(
    ruleset: Ruleset, selection: Selection | None = None, checks: CheckRegistry | None = None
) -> tuple[Problem, ...]:
    """
    Everything that is wrong with the filters and checks of `ruleset`, in the order of the files.

    :param selection: see `filter_problems`.
    :param checks: see `check_problems`.
    """
    findings = Findings()
    findings.extend(filter_problems(ruleset, selection=selection))
    findings.extend(check_problems(ruleset, checks))
    return findings.sorted(ruleset.files)


def check_problems(
    ruleset: Ruleset, registry: CheckRegistry | None = None, files: OptionFiles = DISK
) -> tuple[Problem, ...]:
    """
    Everything that is wrong with the checks of `ruleset`, in the order of the files.

    :param registry: None: what is installed, which is looked at only if a rule has a check.
    """
    findings = Findings()
    for rule in ruleset.rules:
        if rule.checks:
            registry = CheckRegistry.installed() if registry is None else registry
            findings.extend(configure_checks(rule, registry, files=files).problems)
    return findings.sorted(ruleset.files)


def _placed(spec: CheckSpec, problem: OptionProblem) -> Problem:
    message = f"check {spec.name}: {problem.message}"
    return Problem(clause_place(spec, problem), "bad-check-option", message, problem.hint)
