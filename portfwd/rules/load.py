# -*- test-case-name: tests.rules.test_load -*-
"""
Loads a `Ruleset` from text: chooses the grammar and the reader of each line, and checks the result.

One `RulesError` has all problems of the file and its includes. Nothing is opened or resolved here; files come
through the `Files` that the caller passes in.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from portfwd.errors import Location, Problem, RulesError, Severity
from portfwd.rules.addresses import PortOfService
from portfwd.rules.clauses import CLAUSES, ReadLine, broken_rule
from portfwd.rules.directives import NATIVE
from portfwd.rules.findings import shown, suggestion
from portfwd.rules.grammars import native, rinetd
from portfwd.rules.grammars.realm import read_json
from portfwd.rules.grammars.rinetd_directives import RINETD
from portfwd.rules.grammars.toml import read_toml
from portfwd.rules.grammars.yaml import read_yaml
from portfwd.rules.include import read_file, read_include
from portfwd.rules.model import Ruleset
from portfwd.rules.reading import Files, FileScope, Reading
from portfwd.rules.slips import find_slip
from portfwd.rules.steps import Steps, finish
from portfwd.rules.tokens import Line, Word, WordFault
from portfwd.rules.whole import verify, verify_in_steps
from portfwd.rules.whole_process import check_shared

DIRECTIVES: Final[Mapping[str, ReadLine]] = MappingProxyType({**NATIVE, **RINETD})
_KEYWORDS: Final = frozenset({*DIRECTIVES, *CLAUSES, "include"})
_KEYWORD_SHAPE = re.compile(r"[A-Za-z][A-Za-z_-]*", re.ASCII)
_PORT_SHAPE = re.compile(r"(?:\d+|[A-Za-z][A-Za-z0-9-]*)(?:/\w*)?(?:\[.*)?", re.ASCII)


class RefusedFile(RulesError):
    """
    A file, or text, with errors.

    :ivar readable: the rules without errors, so that the caller can check these too.
    """

    def __init__(self, problems: Sequence[Problem], readable: Ruleset) -> None:
        super().__init__(problems)
        self.readable = readable


def load(path: str, files: Files, *, allow_empty: bool = False) -> Ruleset:
    """
    Read a rules file and its includes.

    :param allow_empty: whether a file without rules is valid. If not, it is assumed to be truncated.
    :raises RulesError: with every problem, if any of them is an error.
    """
    return finish(load_in_steps(path, files, allow_empty=allow_empty))


def load_in_steps(path: str, files: Files, *, allow_empty: bool = False) -> Steps[Ruleset]:
    """
    Do what `load` does in steps, a line or a rule each.

    The syntax of a TOML file is parsed in one step.
    """
    reading = Reading(files, files.port_of_service)
    where = Location(path)
    text = read_file(reading, path, where, files)
    if text is not None:
        if path.lower().endswith(".toml"):
            yield from read_toml(reading, path, text)
        elif path.lower().endswith((".yaml", ".yml")):
            yield from read_yaml(reading, path, text)
        elif path.lower().endswith(".json"):
            yield from read_json(reading, path, text)
        else:
            yield from _read_text(reading, FileScope(path, (posixpath.normpath(path),)), text)
    return (yield from _finish(reading, where, allow_empty=allow_empty))


def parse(text: str, name: str, files: Files | None = None) -> Ruleset:
    """
    Read native text, rinetd's and oxidinetd's lines included.

    :param name: the name of the text in messages.
    :param files: for ``include`` and names of services; without it both are errors.
    :raises RulesError: with every problem, if any of them is an error.
    """
    reading = Reading(files, _services(files), paths=[name])
    finish(_read_text(reading, FileScope(name, (posixpath.normpath(name),)), text))
    return finish(_finish(reading, Location(name)))


def parse_toml(text: str, name: str, files: Files | None = None) -> Ruleset:
    """
    Read oxidinetd's TOML with native options as extra keys, or realm's.

    :raises RulesError: with every problem, if any of them is an error.
    """
    reading = Reading(files, _services(files), paths=[name])
    finish(read_toml(reading, name, text))
    return finish(_finish(reading, Location(name)))


def parse_yaml(text: str, name: str, files: Files | None = None) -> Ruleset:
    """
    Read rinetd-uv's YAML form.

    :raises RulesError: with every problem, if any of them is an error.
    """
    reading = Reading(files, _services(files), paths=[name])
    finish(read_yaml(reading, name, text))
    return finish(_finish(reading, Location(name)))


def parse_json(text: str, name: str, files: Files | None = None) -> Ruleset:
    """
    Read realm's JSON.

    :raises RulesError: with every problem, if any of them is an error.
    """
    reading = Reading(files, _services(files), paths=[name])
    finish(read_json(reading, name, text))
    return finish(_finish(reading, Location(name)))


def parse_rule(text: str, name: str = "<rule>", files: Files | None = None) -> Ruleset:
    """
    Read exactly one rule of the command line, with the lines beneath it.

    :param files: for names of services. ``include`` is always refused.
    :raises RulesError: with every problem, if any of them is an error.
    """
    reading = Reading(None, _services(files), paths=[name])
    finish(_read_text(reading, FileScope(name, (posixpath.normpath(name),)), text))
    if not reading.drafts and not reading.findings.failed and not _gets_rules(reading):
        reading.findings.error(
            Location(name),
            "no-rules",
            "there is no rule",
            "write LISTEN -> TARGET such as ':8080 -> 10.0.0.5:80'",
        )
    return finish(_finish(reading, Location(name)))


def combine(*rulesets: Ruleset) -> Ruleset:
    """
    Merge the rulesets of several ``--rule`` and check them together.

    The last one that names a log or a pid file decides.

    :param rulesets: may be the readable parts of refused texts.
    :raises RefusedFile: one of them was refused, or they conflict with each other.
    """
    last = Ruleset()
    log, pid_file = last.log, last.pid_file
    for ruleset in rulesets:
        log = log if ruleset.log == last.log else ruleset.log
        pid_file = pid_file if ruleset.pid_file is None else ruleset.pid_file
    reading = Reading(None, paths=[path for ruleset in rulesets for path in ruleset.files])
    rules = tuple(rule for ruleset in rulesets for rule in ruleset.rules)
    directives = tuple(directive for ruleset in rulesets for directive in ruleset.directives)
    said = tuple(problem for ruleset in rulesets for problem in ruleset.warnings)
    refused = any(problem.severity is Severity.ERROR for problem in said)
    # The listen address of a text with an error is unknown.
    verify(rules, reading.findings, () if refused else directives)
    found = reading.findings.sorted(reading.paths)
    problems = (*said, *(problem for problem in found if problem not in said))
    ruleset = Ruleset(
        rules,
        tuple(entry for ruleset in rulesets for entry in ruleset.access),
        log,
        pid_file,
        directives,
        tuple(reading.paths),
        problems,
    )
    if refused or reading.findings.failed:
        raise RefusedFile(problems, ruleset)
    return ruleset


def _services(files: Files | None) -> PortOfService | None:
    return None if files is None else files.port_of_service


def _gets_rules(reading: Reading) -> bool:
    """Whether rules come at run time, from clients of toxiproxy's API."""
    return any(one.name == "toxiproxy" for one in reading.directives)


def _finish(reading: Reading, where: Location, *, allow_empty: bool = True) -> Steps[Ruleset]:
    findings = reading.findings
    reading.directives.extend(reading.status.directives())
    finished = []
    for draft in reading.drafts:
        if not draft.broken:
            finished.append(draft.finish(reading.settings, findings))
            yield
    rules = tuple(finished)
    check_shared(rules, reading.directives, findings)
    # The listen address of a line with an error is unknown.
    yield from verify_in_steps(rules, findings, () if findings.failed else reading.directives)
    if not rules and not findings.failed and not _gets_rules(reading):
        if allow_empty:
            findings.warning(where, "no-rules", "there is no rule", "nothing will be forwarded")
        else:
            # A file truncated by a full disk or a crashed editor must not close all listeners.
            findings.error(
                where, "no-rules", "there is no rule", "if that is meant, say so with --allow-empty"
            )
    problems = findings.sorted(reading.paths)
    ruleset = Ruleset(
        rules,
        tuple(reading.access),
        reading.log.spec(),
        reading.pid_file,
        tuple(reading.directives),
        tuple(reading.paths),
        problems,
    )
    if findings.failed:
        raise RefusedFile(problems, ruleset)
    return ruleset


def _read_text(reading: Reading, scope: FileScope, text: str) -> Steps[None]:
    """Read the lines of one native file."""
    # Only LF ends a line, with or without CR before it, as editors count lines.
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        raw = raw.removesuffix("\r")
        if raw:
            line = Line(scope.name, number, raw)
            try:
                words = line.words()
            except WordFault as fault:
                _take_uncut(reading, line, fault)
                continue
            if words and words[0].text == "include" and native.find_arrow(words) is None:
                reading.open = False
                scope.plain = False
                yield from read_include(reading, scope, line, words, _read_text)
            elif words:
                mark = reading.findings.mark()
                _read_line(reading, scope, line, words)
                if reading.findings.since(mark) and _explain(reading, scope, line, words, mark):
                    return
                yield
    if scope.plain and scope.late_access is not None and len(scope.chain) == 1:
        reading.findings.warning(
            scope.late_access,
            "access-is-not-global",
            "this line holds for the rule above it, as rinetd reads it; oxidinetd's manual calls it global",
            "for all rules, move it before the first one",
        )


def _explain(reading: Reading, scope: FileScope, line: Line, words: list[Word], mark: int) -> bool:
    """Replace the errors of a line by their common cause. Return whether to skip the rest of the file."""
    first = not any(draft.where.file == scope.name for draft in reading.drafts)
    slip = find_slip(line, words, first)
    if slip is None:
        return False
    reading.findings.replace(mark, slip.columns, slip.problem)
    return slip.whole_file


def _take_uncut(reading: Reading, line: Line, fault: WordFault) -> None:
    """Report a line that could not be split into words. The lines beneath it belong to a placeholder."""
    whole = Word(line.text, 1, len(line.text), len(line.text))
    reading.findings.fault(line, whole, fault)
    if not line.indented or "->" in line.text:
        reading.add(broken_rule(line, whole))


def _read_line(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    first = words[0].text
    clause = CLAUSES.get(first)
    if clause is not None:
        clause(reading, scope, line, words)
        return
    arrow = native.find_arrow(words)
    if arrow is not None:
        native.read_rule(reading, scope, line, words, arrow)
        return
    directive = DIRECTIVES.get(first)
    if directive is not None:
        reading.open = False
        scope.plain = False
        directive(reading, scope, line, words)
        return
    if _is_no_rule(words):
        scope.plain = False
        reading.add(broken_rule(line, words[0]))
        reading.findings.error(
            line.at(words[0]),
            "unknown-directive",
            f"unknown directive {shown(first)}",
            suggestion(first, _KEYWORDS) or "a rule is written LISTEN -> TARGET",
        )
        return
    rinetd.read_rule(reading, scope, line, words)


def _is_no_rule(words: list[Word]) -> bool:
    """Whether a line without ``->`` looks like a misspelt directive and not like a rule of rinetd."""
    if not _KEYWORD_SHAPE.fullmatch(words[0].text):
        return False
    return len(words) < 4 or not _PORT_SHAPE.fullmatch(words[1].text)
