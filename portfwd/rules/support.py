# -*- test-case-name: tests.rules.test_support -*-
"""
The table of settings that can be parsed but are not supported by this version.

A start and ``check`` refuse rules with such settings, so none is ignored silently; `load` does not. When a
setting becomes supported, its row is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from attrs import frozen

from portfwd.errors import Location, Problem, RulesError
from portfwd.rules.findings import Findings
from portfwd.rules.load import RefusedFile
from portfwd.rules.model import DATAGRAM_KINDS, SOCKETS_ONLY, Kind, OnLimit, Rule, Ruleset
from portfwd.rules.steps import Steps, finish


@frozen
class Gap:
    """
    One unsupported setting.

    :ivar what: its name in the message.
    :ivar way_out: what to do instead.
    :ivar find: returns the places where a rule uses it.
    """

    what: str
    way_out: str
    find: Callable[[Rule], Iterator[Location]]


def unsupported(ruleset: Ruleset) -> tuple[Problem, ...]:
    """An error for each unsupported setting in `ruleset`, in the order of the files."""
    return finish(unsupported_in_steps(ruleset))


def unsupported_in_steps(ruleset: Ruleset) -> Steps[tuple[Problem, ...]]:
    """Do what `unsupported` does, in steps of one rule."""
    problems: list[Problem] = []
    for rule in ruleset.rules:
        for gap in GAPS:
            problems.extend(_problem(where, gap.what, gap.way_out) for where in gap.find(rule))
        yield
    findings = Findings()
    # A `default` line that applies to many rules is reported once.
    findings.extend(dict.fromkeys(problems))
    return findings.sorted(ruleset.files)


def everything_wrong(refusal: RulesError) -> tuple[Problem, ...]:
    """The problems of a refused file, and the unsupported settings of its valid rules, in order."""
    return finish(everything_wrong_in_steps(refusal))


def everything_wrong_in_steps(refusal: RulesError) -> Steps[tuple[Problem, ...]]:
    """Do what `everything_wrong` does, in steps of one rule."""
    if not isinstance(refusal, RefusedFile):
        return refusal.problems
    findings = Findings()
    findings.extend(refusal.problems)
    findings.extend((yield from unsupported_in_steps(refusal.readable)))
    return findings.sorted(refusal.readable.files)


def _problem(where: Location, what: str, way_out: str) -> Problem:
    return Problem(where, "not-yet", f"this version cannot do {what} yet", way_out)


def _place(rule: Rule, name: str) -> Location:
    """The place of an option, or of the rule if it was not parsed from text."""
    return next((where for written, where in rule.places if written == name), rule.where)


def _mixed_filters(rule: Rule) -> Iterator[Location]:
    if rule.filters and rule.is_mixed:
        yield rule.filters[0].where


def _mixed_answers(rule: Rule) -> Iterator[Location]:
    if rule.options.answers is not None and rule.is_mixed and not rule.shares_questions:
        yield _place(rule, "answers")


def _cannot_wait(rule: Rule) -> Iterator[Location]:
    if rule.listen.kind in (Kind.ENDPOINT, *DATAGRAM_KINDS) and rule.options.on_limit is OnLimit.WAIT:
        yield _place(rule, "on-limit")


def _sockets_forced(rule: Rule) -> Iterator[Location]:
    if rule.options.relay in SOCKETS_ONLY and not rule.is_plain:
        yield _place(rule, "relay")


GAPS: Final[tuple[Gap, ...]] = (
    Gap(
        "filters between datagrams and a stream",
        "delete the filters, or let both sides be UDP or neither",
        _mixed_filters,
    ),
    Gap(
        "answers= where a target takes a stream",
        "delete it; or let all targets be UDP, or write framing=length16 where none is",
        _mixed_answers,
    ),
    Gap(
        "on-limit=wait of a listener for datagrams, or of an endpoint:",
        "delete it: its clients are refused; or listen on TCP or a unix socket",
        _cannot_wait,
    ),
    Gap(
        "relay=splice or relay=copy where an end is no plain socket",
        "write relay=auto, which takes what the ends allow",
        _sockets_forced,
    ),
)
