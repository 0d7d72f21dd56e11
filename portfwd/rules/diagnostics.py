# -*- test-case-name: tests.rules.test_diagnostics -*-
"""
What is wrong with a rules file, where, and what to do about it.

Parsers collect `portfwd.errors.Problem` values and go on, so that one run reports
everything. This module formats them; it does not decide what is a problem.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Final

from portfwd.errors import Location, Problem

#: A source line is shown whole up to here; of a longer one only what is around the place.
MAX_SHOWN: Final = 160
_INDENT: Final = "    "


def format_problem(problem: Problem) -> str:
    """
    A problem for people, without a final newline.

    ``file:line:col: severity: message``; then, where they are known, the source line with
    ``^~~~`` under the place, and the way out.
    """
    lines = [str(problem)]
    where = problem.location
    if where.line and where.column and where.text:
        lines.extend(_source(where))
    if problem.hint:
        lines.append(_INDENT + problem.hint)
    # Messages and hints may quote the file, in which anything can stand.
    return "\n".join("".join(map(_visible, line)) for line in lines)


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """
    A problem for machines.

    ``line`` and ``column`` count from 1 and are None where they are not known, ``key`` is the key
    path of a TOML or JSON file or None, ``source`` the line's text or None, ``hint`` the way out or None.
    """
    where = problem.location
    return {
        "file": where.file,
        "line": where.line or None,
        "column": where.column or None,
        "length": where.length if where.column else None,
        "key": where.key or None,
        "severity": problem.severity.value,
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint or None,
        "source": where.text or None,
    }


def _source(where: Location) -> list[str]:
    """The source line and the caret line."""
    start = where.column - 1
    text, before, after = where.text, "", ""
    if len(text) > MAX_SHOWN:
        first = max(0, min(start - MAX_SHOWN // 4, len(text) - MAX_SHOWN))
        before = "..." if first else ""
        after = "..." if first + MAX_SHOWN < len(text) else ""
        text = text[first : first + MAX_SHOWN]
        start -= first
    marked = text[start : start + where.length]
    padding = " " * len(before) + "".join(_blank(character) for character in text[:start])
    width = max(1, sum(len(_blank(character)) for character in marked))
    source = before + text + after
    return [_INDENT + source, _INDENT + padding + "^" + "~" * (width - 1)]


def _blank(character: str) -> str:
    """As many columns of nothing as a terminal gives `character`; a tab stays one."""
    if character == "\t":
        return character
    if unicodedata.combining(character):
        return ""
    return "  " if unicodedata.east_asian_width(character) in "WF" else " "


def _visible(character: str) -> str:
    """What a terminal may be sent in place of `character`, one column wide like its blank."""
    return character if character.isprintable() or character == "\t" else "\N{REPLACEMENT CHARACTER}"
