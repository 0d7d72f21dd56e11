# -*- test-case-name: tests.rules.test_clauses -*-
"""
The lines beneath a rule: ``allow``, ``deny``, ``filter``, ``target``, ``route`` and ``check``.

Access lines belong to the last rule, as in rinetd, indented or not. The others must be indented beneath their
rule. Arguments of filters and checks are not interpreted here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from portfwd.errors import Location
from portfwd.rules.access import check_pattern
from portfwd.rules.addresses import NO_PLACE, Role, read_place
from portfwd.rules.draft import RouteDraft, RuleDraft, TargetDraft
from portfwd.rules.findings import shown
from portfwd.rules.model import AclEntry, CheckSpec, FilterSpec
from portfwd.rules.reading import FileScope, Reading
from portfwd.rules.settings import read_settings
from portfwd.rules.tokens import NAME, Line, Word, WordFault

#: Reads a line that begins with a certain word.
ReadLine = Callable[[Reading, FileScope, Line, list[Word]], None]


Named = TypeVar("Named", bound=FilterSpec)


def read_access(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``allow`` or ``deny`` and its patterns."""
    entries = []
    for word in words[1:]:
        pattern = word.text
        if pattern in reading.good_patterns:
            wrong = None
        elif (wrong := check_pattern(pattern)) is None:
            reading.good_patterns.add(pattern)
        if wrong is None:
            entries.append(AclEntry(words[0].text == "allow", pattern, line.at(word)))
        else:
            reading.findings.error(line.at(word), "bad-pattern", wrong)
    if len(words) == 1:
        reading.findings.error(
            line.at(words[0]),
            "missing-argument",
            f"'{words[0].text}' needs a pattern",
            "such as 192.168.1.*, 10.0.0.0/8 or 2001:db8::1",
        )
    scope.plain = scope.plain and len(words) <= 2
    rule = reading.current
    if rule is None:
        reading.access.extend(entries)
        return
    rule.access.extend(entries)
    where = line.at(words[0])
    scope.late_access = scope.late_access or where
    if rule.where.file != scope.name and not scope.foreign_access:
        scope.foreign_access = True
        reading.findings.warning(
            where,
            "access-across-files",
            f"this line belongs to the rule of {rule.where.file}:{rule.where.line}, the last one read",
            "global access lines stand before the first rule of all files",
        )


def read_filter(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``filter NAME`` with its words and options, uninterpreted."""
    rule = _owner(reading, scope, line, words)
    spec = _named(reading, line, words, FilterSpec)
    if spec is not None:
        rule.filters.append(spec)


def read_check(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``check NAME`` with its words and options, uninterpreted."""
    rule = _owner(reading, scope, line, words)
    spec = _named(reading, line, words, CheckSpec)
    if spec is not None:
        rule.checks.append(spec)


def _named(reading: Reading, line: Line, words: list[Word], kind: type[Named]) -> Named | None:
    if len(words) == 1 or words[1].option() is not None or not words[1].text:
        what = words[0].text
        reading.findings.error(line.at(words[0]), "missing-argument", f"'{what}' needs the name of a {what}")
        return None
    plain, options = split_options(words[2:])
    word_places: list[Location] = []
    option_places: list[tuple[Location, Location]] = []
    for word in words[2:]:
        option = word.option()
        if option is None:
            word_places.append(line.at(word))
        else:
            key, value = option
            option_places.append((line.span(word.column, len(key)), line.at(value)))
    return kind(words[1].text, plain, options, line.at(words[1]), tuple(word_places), tuple(option_places))


def split_options(words: list[Word]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The plain words and the options of a line as text, for the plug-in that will interpret them."""
    plain: list[str] = []
    options: list[tuple[str, str]] = []
    for word in words:
        option = word.option()
        if option is None:
            plain.append(word.text)
        else:
            options.append((option[0], option[1].text))
    return tuple(plain), tuple(options)


def read_target(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``target [NAME=]TARGET`` and its own options."""
    rule = _owner(reading, scope, line, words)
    if len(words) == 1:
        reading.findings.error(line.at(words[0]), "missing-target", "'target' needs an address")
        return
    word, name = words[1], ""
    named = word.option()
    if named is not None:
        name, address = named
        if name == "close":
            reading.findings.error(
                line.span(word.column, len(name)),
                "bad-name",
                "a target cannot be called 'close'",
                "'route … -> close' closes the session",
            )
            return
    else:
        address = word
    settings = read_settings(reading, line, words[2:], Role.TARGET)
    try:
        place = read_place(address, Role.TARGET, reading.port_of_service)
    except WordFault as fault:
        reading.findings.fault(line, address, fault)
        rule.broken = True
        return
    draft = TargetDraft(place, line.at(word), name, settings)
    (rule.named if name else rule.targets).append(draft)


def read_route(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``route PATTERN … -> TARGET | NAME | close``."""
    rule = _owner(reading, scope, line, words)
    findings = reading.findings
    where = line.at(words[0])
    arrow = next((i for i, word in enumerate(words) if word.text == "->" and not word.quoted), len(words))
    if arrow == 1 or len(words) == 1:
        findings.error(where, "missing-argument", "'route' needs a pattern", "'*' matches everything")
    if arrow >= len(words) - 1:
        findings.error(
            where, "missing-target", "this route leads nowhere", "write -> TARGET, -> NAME or -> close"
        )
        return
    for extra in words[arrow + 2 :]:
        findings.error(line.at(extra), "unexpected-word", f"{shown(extra.text)} is a word too many")
    patterns = tuple(word.text for word in words[1:arrow])
    word = words[arrow + 1]
    target: TargetDraft | str | None
    if not word.quoted and NAME.fullmatch(word.text):
        target = None if word.text == "close" else word.text
    else:
        try:
            place = read_place(word, Role.TARGET, reading.port_of_service)
        except WordFault as fault:
            findings.fault(line, word, fault)
            return
        target = TargetDraft(place, line.at(word))
    places = tuple(line.at(pattern) for pattern in words[1:arrow])
    rule.routes.append(RouteDraft(patterns, target, line.at(word), places))


def _owner(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> RuleDraft:
    """The rule to which a clause belongs. If there is none, report it and return a placeholder."""
    scope.plain = False
    where = line.at(words[0])
    rule = reading.current
    if rule is None or not reading.open or rule.where.file != scope.name:
        reading.findings.error(
            where,
            "clause-without-rule",
            f"'{words[0].text}' belongs beneath a rule",
            "move it directly below one",
        )
    elif not line.indented:
        reading.findings.error(
            where, "clause-not-indented", f"'{words[0].text}' must be indented", "put blanks before it"
        )
    else:
        return rule
    return broken_rule(line, words[0])


def broken_rule(line: Line, word: Word) -> RuleDraft:
    """A placeholder for a rule whose line is wrong, so that the lines beneath it can be checked."""
    where = line.at(word)
    return RuleDraft(NO_PLACE, where, where, broken=True)


CLAUSES: Final[Mapping[str, ReadLine]] = MappingProxyType(
    {
        "allow": read_access,
        "deny": read_access,
        "filter": read_filter,
        "target": read_target,
        "route": read_route,
        "check": read_check,
    }
)
