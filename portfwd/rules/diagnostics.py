# -*- test-case-name: tests.rules.test_diagnostics -*-
"""
Formats the problems of a rules file for people and for programs.

Parsers collect `portfwd.errors.Problem` values and continue, so one run reports all problems.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Final

from portfwd.errors import Location, Problem

#: Most columns of a source line in a message. Of a longer line only the part around the place is shown.
MAX_SHOWN: Final = 160
_INDENT: Final = "    "


def format_problem(problem: Problem) -> str:
    """
    Format a problem for people, without a final line end.

    The first line is ``file:line:col: severity: message``. The source line with ``^~~~`` under the place and
    the hint follow if they are known.
    """
    lines = [str(problem)]
    where = problem.location
    if where.line and where.column and where.text:
        lines.extend(_source(where))
    if problem.hint:
        lines.append(_INDENT + problem.hint)
    # Messages and hints may quote the file, which may contain any characters.
    return "\n".join("".join(map(_visible, line)) for line in lines)


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """
    Format a problem for programs.

    ``line`` and ``column`` count from 1. They are None if unknown, and so are ``key`` (the key path in a TOML
    or JSON file), ``source`` (the text of the line) and ``hint``.
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
    """Blanks with the width of `character` on a terminal. A tab stays a tab."""
    if character == "\t":
        return character
    if unicodedata.combining(character):
        return ""
    return "  " if unicodedata.east_asian_width(character) in "WF" else " "


def _visible(character: str) -> str:
    """A printable replacement for `character`, as wide as its blanks."""
    return character if character.isprintable() or character == "\t" else "\N{REPLACEMENT CHARACTER}"
