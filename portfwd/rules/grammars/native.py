# -*- test-case-name: tests.rules.grammars.test_native -*-
"""
Reads a rule of the native grammar: ``NAME: LISTEN OPTIONS -> TARGET, TARGET OPTIONS``.

It adds one draft to the reading. `portfwd.rules.clauses` reads the lines beneath.
"""

from __future__ import annotations

from portfwd.rules.addresses import NO_PLACE, PREFIXES, Place, Role, read_place, resembles_name
from portfwd.rules.draft import RuleDraft, TargetDraft
from portfwd.rules.findings import shown
from portfwd.rules.reading import FileScope, Reading
from portfwd.rules.settings import read_settings, way_out
from portfwd.rules.tokens import NAME, Line, Word, WordFault


def find_arrow(words: list[Word]) -> int | None:
    """The index of the unquoted word ``->``, which only native rules have."""
    for index, word in enumerate(words):
        if word.text == "->" and not word.quoted:
            return index
    return None


def read_rule(reading: Reading, scope: FileScope, line: Line, words: list[Word], arrow: int) -> None:
    """Read a rule. If it has errors, it is added as a broken one, so its clauses are still checked."""
    scope.plain = False
    findings = reading.findings
    failed_before, findings.failed = findings.failed, False
    left, right = words[:arrow], words[arrow + 1 :]
    name, left = _read_name(reading, line, left)
    listen_word = left[0] if left and left[0].option() is None else None
    place = NO_PLACE
    if listen_word is None:
        findings.error(
            line.at(words[arrow]),
            "missing-listen",
            "this rule says nowhere to listen",
            "write :8080 before '->'",
        )
    else:
        place = _read_listen(reading, line, listen_word, bool(name))
        left = left[1:]
    settings = read_settings(reading, line, left, Role.LISTEN)
    targets, options = _read_targets(reading, line, words[arrow], right)
    settings.update(read_settings(reading, line, options, Role.TARGET, rule=True))
    draft = RuleDraft(
        place,
        line.at(words[0]),
        line.at(listen_word or words[arrow]),
        name,
        targets,
        settings,
        scope.defaults,
        broken=findings.failed,
    )
    findings.failed = findings.failed or failed_before
    reading.add(draft)


def _read_name(reading: Reading, line: Line, left: list[Word]) -> tuple[str, list[Word]]:
    if not left or left[0].quoted or not left[0].text.endswith(":"):
        return "", left
    name = left[0].text[:-1]
    alone = len(left) == 1 or left[1].option() is not None
    if NAME.fullmatch(name) and not (alone and name in PREFIXES):
        return name, left[1:]
    if alone:
        return "", left  # an address cut short, which its reader explains
    reading.findings.error(
        line.at(left[0]),
        "bad-name",
        f"{shown(name)} is no name for a rule",
        "a name begins with a letter and has letters, digits, '_', '.' and '-'",
    )
    return "", left[1:]


def _read_listen(reading: Reading, line: Line, word: Word, named: bool) -> Place:
    try:
        place = read_place(word, Role.LISTEN, reading.port_of_service)
        if not named and resembles_name(place) and word.text.startswith(place.host + ":"):
            name, _, port = word.text.partition(":")
            raise WordFault(
                "bad-name",
                f"a blank is missing after the name '{name}', or '{name}' is a host",
                f"write {name}: :{port}, or tcp:{word.text} to listen on that host",
                length=len(name) + 1,
            )
        return place
    except WordFault as fault:
        name, colon, rest = word.text.partition(":")
        if fault.code == "bad-address" and colon and rest.startswith(":") and NAME.fullmatch(name):
            fault.hint = f"put a blank after the name: {name}: {rest}"
        reading.findings.fault(line, word, fault)
        return NO_PLACE


def _read_targets(
    reading: Reading, line: Line, arrow: Word, right: list[Word]
) -> tuple[list[TargetDraft], list[Word]]:
    """The targets, and the words that are options."""
    findings = reading.findings
    first = next((i for i, word in enumerate(right) if word.option() is not None), len(right))
    targets: list[TargetDraft] = []
    separated = True
    last = arrow
    for word in right[:first]:
        for index, part in enumerate(word.split(",")):
            if index:
                if separated:
                    findings.error(
                        line.span(part.column - 1, 1),
                        "missing-target",
                        "there is no target before this comma",
                    )
                separated = True
            if not part.length:
                continue
            if not separated:
                if hint := way_out(part.text):
                    findings.error(line.at(part), "unexpected-word", f"{shown(part.text)} is no target", hint)
                    continue
                findings.error(
                    line.at(part),
                    "missing-comma",
                    "a comma is missing before this target",
                    f"write {last.text}, {part.text}",
                )
            separated = False
            last = part
            try:
                place = read_place(part, Role.TARGET, reading.port_of_service)
            except WordFault as fault:
                findings.fault(line, part, fault)
            else:
                targets.append(TargetDraft(place, line.at(part)))
    if separated:
        findings.error(
            line.at(last),
            "missing-target",
            "no target follows" if last is arrow else "no target follows this one's comma",
            "write HOST:PORT",
        )
    return targets, right[first:]
