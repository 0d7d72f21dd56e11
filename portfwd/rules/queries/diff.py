# -*- test-case-name: tests.rules.queries.test_diff -*-
"""
Compares two rulesets, as values and as lines for people.

Two rules are the same if they have the same name, or, if the name is new, the same listen address (the rule
was renamed). Descriptions of changes contain names of options and addresses, but not the options of filters,
because they go to logs. `portfwd.service.run.reload` decides which changes a running forwarder can apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from attrs import frozen

from portfwd.rules.addresses import address_text
from portfwd.rules.model import (
    AclEntry,
    Directive,
    FilterSpec,
    ListenSpec,
    RouteSpec,
    Rule,
    Ruleset,
    TargetSpec,
)
from portfwd.rules.options import LISTENER, RULE, OptionSpec
from portfwd.rules.steps import Steps, finish
from portfwd.values import printable


@frozen
class Change:
    """
    A rule that is in both rulesets and has changed.

    :ivar what: one phrase for each difference; never empty.
    """

    before: Rule
    after: Rule
    what: tuple[str, ...]


@frozen
class Difference:
    """
    The differences, in the order of the newer ruleset.

    :ivar unchanged: number of equal rules.
    :ivar settings: one phrase for each difference outside of rules: access, log, pid file, directives.
    :ivar directives: names of directives that differ.
    """

    added: tuple[Rule, ...] = ()
    removed: tuple[Rule, ...] = ()
    changed: tuple[Change, ...] = ()
    unchanged: int = 0
    settings: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.settings)

    def __str__(self) -> str:
        """One line with the numbers of added, changed, removed and unchanged rules."""
        counts = (
            (len(self.added), "added"),
            (len(self.removed), "removed"),
            (len(self.changed), "changed"),
            (self.unchanged, "unchanged"),
        )
        line = "rules: " + ", ".join(f"{count} {word}" for count, word in counts if count)
        if not any(count for count, _ in counts):
            line = "rules: none"
        return f"{line}; changed for all: {', '.join(self.settings)}" if self.settings else line

    def lines(self) -> Iterator[str]:
        """A line for each difference: ``+`` added, ``-`` removed, ``~`` changed, ``*`` for all rules."""
        yield from (f"* {phrase}" for phrase in self.settings)
        yield from (f"- {headline(rule)}" for rule in self.removed)
        yield from (f"~ {change.after.name}: {'; '.join(change.what)}" for change in self.changed)
        yield from (f"+ {headline(rule)}" for rule in self.added)


def headline(rule: Rule) -> str:
    """The name, listener and targets of a rule in one line, without options."""
    listen = address_text(rule.listen, quoted=False)
    name = "" if rule.name == listen else f"{rule.name}: "
    return f"{name}{listen} -> {_targets(rule.targets)}"


def difference(before: Ruleset, after: Ruleset) -> Difference:
    """All differences between two rulesets."""
    return finish(compare(before, after))


def compare(before: Ruleset, after: Ruleset) -> Steps[Difference]:
    """Do what `difference` does, in steps of one rule."""
    known = {rule.name: rule for rule in before.rules}
    pairs: list[tuple[Rule, Rule]] = []
    strangers: list[Rule] = []
    yield
    for rule in after.rules:
        old = known.pop(rule.name, None)
        if old is None:
            strangers.append(rule)
        else:
            pairs.append((old, rule))
    yield
    by_place = {_place(rule.listen): rule for rule in known.values()}
    added: list[Rule] = []
    for rule in strangers:
        old = by_place.pop(_place(rule.listen), None)
        if old is None:
            added.append(rule)
        else:
            del known[old.name]
            pairs.append((old, rule))
        yield
    changed: list[Change] = []
    unchanged = 0
    for old, rule in pairs:
        if old == rule:
            unchanged += 1
        else:
            changed.append(Change(old, rule, tuple(_changes(old, rule))))
        yield
    lines = tuple(_changed_directives(before, after))
    settings = [*_settings(before, after), *(f"the directive '{' '.join(line)}'" for line in lines)]
    names = tuple(dict.fromkeys(name for name, *_ in lines))
    return Difference(tuple(added), tuple(known.values()), tuple(changed), unchanged, tuple(settings), names)


def _place(listen: ListenSpec) -> tuple[object, ...]:
    return listen.kind, listen.host, listen.ports, listen.path


def _targets(targets: tuple[TargetSpec, ...]) -> str:
    return ", ".join(address_text(target, quoted=False) for target in targets)


def _from_to(what: str, before: str, after: str) -> str:
    return f"{what} {printable(before)} -> {printable(after)}"


def _changes(before: Rule, after: Rule) -> Iterator[str]:
    """One phrase for each difference."""
    if before.name != after.name:
        yield f"was called {before.name}"
    if _place(before.listen) != _place(after.listen):
        places = [address_text(rule.listen, quoted=False) for rule in (before, after)]
        yield _from_to("listener", *places)
    yield from _changed_options(LISTENER, before.listen.options, after.listen.options)
    if _places(before.targets) != _places(after.targets):
        yield _from_to("targets", _targets(before.targets), _targets(after.targets))
    yield from _changed_options(RULE, before.options, after.options)
    if _own_options(before) != _own_options(after):
        yield "options of a target"
    if before.access != after.access:
        yield _access("allow and deny", before.access, after.access)
    if before.filters != after.filters:
        yield _filters("filter", before.filters, after.filters)
    if before.checks != after.checks:
        yield _filters("check", before.checks, after.checks)
    if before.routes != after.routes or before.named_targets != after.named_targets:
        yield _routes(before.routes, after.routes)


def _places(targets: tuple[TargetSpec, ...]) -> list[tuple[object, ...]]:
    return [(target.kind, target.host, target.ports, target.path) for target in targets]


def _own_options(rule: Rule) -> dict[tuple[object, ...], list[tuple[str, object]]]:
    """For each target, the options that differ from those of the rule."""
    return {
        place: [
            (option.field, getattr(target.options, option.field))
            for option in RULE.values()
            if getattr(target.options, option.field) != getattr(rule.options, option.field)
        ]
        for place, target in zip(_places(rule.targets), rule.targets, strict=True)
        if target.options != rule.options
    }


def _changed_options(table: Any, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    option: OptionSpec
    for key, option in table.items():
        old, new = getattr(before, option.field), getattr(after, option.field)
        if old != new:
            yield _from_to(key, option.text(old), option.text(new))


def _access(what: str, before: tuple[AclEntry, ...], after: tuple[AclEntry, ...]) -> str:
    old, new = set(before), set(after)
    return f"{what}: {len(new - old)} added, {len(old - new)} removed"


def _filters(what: str, before: Sequence[FilterSpec], after: Sequence[FilterSpec]) -> str:
    names = [", ".join(spec.name for spec in specs) or "none" for specs in (before, after)]
    if names[0] != names[1]:
        return _from_to(f"{what}s", *names)
    other = [new.name for old, new in zip(before, after, strict=True) if old != new]
    return f"options of {what} {printable(', '.join(other))}"


def _routes(before: tuple[RouteSpec, ...], after: tuple[RouteSpec, ...]) -> str:
    count = sum(old != new for old, new in zip_longest(before, after))
    return f"routes: {count} not the same" if count else "targets of routes"


def _settings(before: Ruleset, after: Ruleset) -> Iterator[str]:
    if before.access != after.access:
        yield _access("allow and deny", before.access, after.access)
    if before.log != after.log:
        yield _from_to("log", _log(before), _log(after))
    if before.pid_file != after.pid_file:
        yield _from_to("pid file", before.pid_file or "none", after.pid_file or "none")


def _log(ruleset: Ruleset) -> str:
    log = ruleset.log
    probes = "" if log.probes else " without probes"
    repeats = " with repeats" if log.repeats else ""
    form = "text" if log.access is None else log.access.value
    opened = " with openings" if log.opened else ""
    return f"{form} {log.file or 'on standard output'}{opened}{probes}{repeats}"


def _changed_directives(before: Ruleset, after: Ruleset) -> Iterator[tuple[str, ...]]:
    """Unique names in the order of the newer file; ``limits`` with the name that follows it."""
    names = dict.fromkeys(_headword(one) for one in (*after.directives, *before.directives))
    for name in names:
        said = [[one for one in ruleset.directives if _headword(one) == name] for ruleset in (before, after)]
        if said[0] != said[1]:
            yield name


def _headword(directive: Directive) -> tuple[str, ...]:
    return (directive.name, *directive.words) if directive.name == "limits" else (directive.name,)
