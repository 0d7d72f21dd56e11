# -*- test-case-name: tests.rules.test_admin_lines -*-
"""The options of a directive's line, for directives whose options no rule has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portfwd.rules.findings import nearest, shown
from portfwd.rules.readers import ValueKind
from portfwd.rules.reading import Reading
from portfwd.rules.tokens import Line, Word, WordFault


def read_line_option(
    reading: Reading, line: Line, word: Word, kinds: Mapping[str, ValueKind], values: dict[str, Any]
) -> bool:
    """
    Read ``KEY=VALUE`` into `values`, and report what is wrong with it.

    :returns: whether nothing is.
    """
    findings, item = reading.findings, word.option()
    if item is None:
        findings.error(line.at(word), "unexpected-word", f"{shown(word.text)} is a word too many")
        return False
    key, value = item
    where = line.span(word.column, len(key))
    if key not in kinds:
        findings.error(where, "unknown-option", f"unknown option {shown(key)}", nearest(key, kinds))
    elif key in values:
        findings.error(where, "duplicate-option", f"{shown(key)} is given twice", "delete one of the two")
    else:
        try:
            values[key] = kinds[key].read(value.text)
        except WordFault as fault:
            message = f"bad value for {shown(key)}: {fault.message}"
            findings.error(line.place(value, fault), fault.code, message, fault.hint)
        else:
            return True
    return False
