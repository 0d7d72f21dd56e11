# -*- test-case-name: tests.service.build.test_filters -*-
"""
Makes the factories of ``filter`` and ``route`` clauses.

Rules do not know filters, and filters do not know rules files. This module converts clauses to factories, and
errors of plug-ins to `Problem`s with places. It imports the named plug-ins and reads the files of options. It
does not build filters for connections.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from attrs import frozen

from portfwd.admin.tight_files import LooseFile, read_tight
from portfwd.errors import Location, Problem
from portfwd.filters.api import IFilterFactory, RouteClause
from portfwd.filters.clause_reading import one_line, place_of
from portfwd.filters.given import given
from portfwd.filters.options import OptionError, OptionFiles, OptionProblem
from portfwd.filters.own_factory import ClassPlugin
from portfwd.filters.registry import FoundPlugin, Registry, Unavailable, told
from portfwd.filters.wrong_use import built_class, wrong_attributes, wrong_methods
from portfwd.rules.findings import Findings, shown
from portfwd.rules.model import FilterSpec, Rule, Ruleset, TargetSpec
from portfwd.service.build.factories import Factories, Selection
from portfwd.service.daemon.disk import DiskFiles
from portfwd.service.tls.starting import start_problem
from portfwd.values import printable


def read_tight_text(path: str) -> str:
    """
    The text of a file that decides about access.

    :raises OSError: it cannot be read.
    :raises ValueError: other users may write or replace it, or it is not UTF-8.
    """
    try:
        return read_tight(path).removeprefix(codecs.BOM_UTF8).decode()
    except LooseFile as error:
        raise ValueError(str(error)) from error
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(
            f"'{printable(path)}': byte 0x{byte:02x} at position {error.start} is not UTF-8;"
            " save the file as UTF-8, or name another one"
        ) from None


#: Access to files for options of filters. They are read with the rules, before twistd changes its root,
#: directory and user.
DISK: Final = OptionFiles(read=DiskFiles().read, absolute=os.path.abspath, read_tight=read_tight_text)


class Clause(NamedTuple):
    """
    One configured ``filter`` clause.

    :ivar name: name of the filter as written in the rule.
    :ivar factory: an `IFilterFactory`.
    """

    name: str
    factory: Any


@frozen
class Configured:
    """
    The filters of a rule.

    :ivar clauses: the valid clauses, in order.
    :ivar problems: the errors, in the order of the clauses.
    """

    clauses: tuple[Clause, ...] = ()
    problems: tuple[Problem, ...] = ()


class Refused(Exception):
    """A clause cannot be configured. This exception does not leave the module."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems


def configure(
    rule: Rule, registry: Registry, files: OptionFiles = DISK, selection: Selection | None = None
) -> Configured:
    """
    The factories of a rule's ``filter`` clauses, and their problems.

    :param selection: has the existing factories, and gets the new ones.
    """
    if selection is None:
        selection = Factories().select()
    clauses: list[Clause] = []
    problems: list[Problem] = []
    routes = _route_clauses(rule, problems)
    found: list[FoundPlugin] = []
    for spec in rule.filters:
        try:
            one = _find(spec, registry)
            found.append(one)
            clauses.append(Clause(spec.name, _factory(rule, spec, one, routes, files, selection)))
        except Refused as refusal:
            problems.extend(refusal.problems)
    problems.extend(_order_problems(rule, clauses))
    # An unknown filter might have used the routes.
    if rule.routes and len(found) == len(rule.filters) and not any(one.takes_routes for one in found):
        problems.append(
            Problem(
                rule.routes[0].where,
                "route-without-routing-filter",
                "no filter of this rule chooses by routes",
                "write one that does, such as 'filter sni', or delete the routes",
            )
        )
    return Configured(tuple(clauses), tuple(problems))


def filter_problems(
    ruleset: Ruleset,
    registry: Registry | None = None,
    files: OptionFiles = DISK,
    selection: Selection | None = None,
) -> tuple[Problem, ...]:
    """
    The problems of all filters of `ruleset`, in the order of the files.

    :param registry: None for the installed filters, which are loaded only if a rule has a filter.
    :param selection: gets the factories, and is committed if there are no problems. None to drop them.
    """
    findings = Findings()
    if selection is None:
        selection = Factories().select()
    for rule in ruleset.rules:
        if rule.filters:
            if registry is None:
                registry = Registry.installed()
            findings.extend(configure(rule, registry, files, selection).problems)
    problems = findings.sorted(ruleset.files)
    if not problems:
        selection.take()
    return problems


def _order_problems(rule: Rule, clauses: list[Clause]) -> Iterator[Problem]:
    """Problems of filters whose bytes must come first, before one that holds bytes of the client."""
    if len(clauses) != len(rule.filters):
        return  # one of them has a problem of its own
    for place, clause in enumerate(clauses):
        behind = next((later.name for later in clauses[place + 1 :] if later.factory.routes), None)
        if behind is not None and getattr(clause.factory, "leads", False):
            yield Problem(
                rule.filters[place].where,
                "bad-filter-order",
                f"filter {clause.name} stands before filter {behind}, which still chooses the upstream: "
                "what it writes would not be the first that the upstream gets",
                f"write it behind filter {behind}",
            )


def _route_clauses(rule: Rule, problems: list[Problem]) -> tuple[RouteClause, ...]:
    """The rule's routes with their targets: a `TargetSpec`, or None to close."""
    named = {target.name: target for target in rule.named_targets}
    clauses = []
    for route in rule.routes:
        target: TargetSpec | str | None = route.target
        if isinstance(target, str):
            if target not in named:
                # Such a route of a file is refused earlier, but a rule made by a program may have one.
                text = f"this rule has no target called {shown(target)}"
                problems.append(Problem(route.where, "unknown-target", text))
                continue
            target = named[target]
        clauses.append(RouteClause(route.patterns, target))
    return tuple(clauses)


def _find(spec: FilterSpec, registry: Registry) -> FoundPlugin:
    try:
        return registry.find(spec.name) if spec.given is None else given(spec.name, spec.given)
    except Unavailable as refusal:
        raise Refused(Problem(spec.where, refusal.code, refusal.message, refusal.hint)) from refusal


def _factory(
    rule: Rule,
    spec: FilterSpec,
    found: FoundPlugin,
    routes: tuple[RouteClause, ...],
    files: OptionFiles,
    selection: Selection,
) -> Any:
    options = found.read(spec.words, spec.options, files)
    if isinstance(options, list):
        raise Refused(*(_placed(spec, problem) for problem in options))
    routes = routes if found.takes_routes else ()
    key = selection.key(rule.name, (spec.name, spec.words, spec.options))
    factory = selection.find(key, options, routes, found.code)
    if factory is None:
        factory = _new_factory(rule, spec, found, routes, options)
        selection.add(key, spec.name, factory, options, routes, found.code)
    return factory


def _new_factory(
    rule: Rule, spec: FilterSpec, found: FoundPlugin, routes: tuple[RouteClause, ...], options: Any
) -> Any:
    try:
        factory = found.plugin.configure(options, routes)
    except OptionError as error:
        raise Refused(_placed(spec, place_of(found.options, spec.words, spec.options, error))) from error
    except ValueError as error:
        message = one_line(error) or "its options do not go together"
        where = _pattern_place(rule, found, options, message) if found.takes_routes else None
        if where is not None:
            problem = Problem(where, "bad-route-pattern", f"filter {spec.name}: {message}")
            raise Refused(problem) from error
        raise Refused(_placed(spec, OptionProblem(message))) from error
    except KeyboardInterrupt:
        raise  # the operator's
    except BaseException as error:
        raise Refused(_bad(spec, found, f"fails to be configured: {told(error)}")) from error
    missing = [name for name in IFilterFactory.names() if not hasattr(factory, name)]
    if missing:
        raise Refused(_bad(spec, found, f"makes a factory without {', '.join(missing)}"))
    wrong = wrong_attributes(factory)
    made = found.plugin.options if isinstance(found.plugin, ClassPlugin) else built_class(factory)
    if made is not None:
        wrong += wrong_methods(made)
    if wrong:
        raise Refused(_bad(spec, found, f"is not as the contract has it: {'; '.join(wrong)}"))
    wrong_tls = start_problem(rule, factory)
    if wrong_tls:
        raise Refused(_placed(spec, OptionProblem(wrong_tls)))
    return factory


def _pattern_place(rule: Rule, found: FoundPlugin, options: Any, message: str) -> Location | None:
    """
    The place of the pattern that a filter has refused with `message`; None if it was none of them.

    A plug-in only gives the message. For the refused pattern alone it gives the same message, and not without
    patterns.
    """

    def refuses(*patterns: str) -> bool:
        clauses = tuple(RouteClause((pattern,), None) for pattern in patterns)
        try:
            found.plugin.configure(options, clauses)
        except KeyboardInterrupt:
            raise  # the operator's
        except BaseException as error:
            return one_line(error) == message
        return False

    if refuses():
        return None
    for route in rule.routes:
        for pattern, where in zip(route.patterns, route.pattern_places, strict=False):
            if refuses(pattern):
                return where
    return None


def _bad(spec: FilterSpec, found: FoundPlugin, what: str) -> Problem:
    package = found.origin.package
    hint = f"this is a fault of {package}" if package else "mend the module"
    return Problem(spec.where, "bad-filter", f"the filter {shown(spec.name)} ({found.origin}) {what}", hint)


def _placed(spec: FilterSpec, problem: OptionProblem) -> Problem:
    """A problem of a clause with its place."""
    message = f"filter {spec.name}: {problem.message}"
    return Problem(clause_place(spec, problem), "bad-filter-option", message, problem.hint)


def clause_place(spec: FilterSpec, problem: OptionProblem) -> Location:
    """The place of the part of a clause to which `problem` belongs."""
    if problem.word is not None and problem.word < len(spec.word_places):
        return spec.word_places[problem.word]
    if problem.option is not None and problem.option < len(spec.option_places):
        key, value = spec.option_places[problem.option]
        return value if problem.in_value else key
    return spec.where
