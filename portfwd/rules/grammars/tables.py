# -*- test-case-name: tests.rules.grammars.test_toml -*-
"""The common part of the readers of TOML and JSON: tables whose keys are taken with their places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portfwd.rules.findings import nearest, shown
from portfwd.rules.grammars.toml_positions import Path, TomlPositions
from portfwd.rules.reading import Reading
from portfwd.rules.tokens import find_bad_character

Table = dict[str, Any]


class TableReader:
    """The reading of one file. Paths are tuples of keys and indices."""

    def __init__(self, reading: Reading, positions: TomlPositions, form: str = "toml") -> None:
        self._form = form
        self._reading = reading
        self._findings = reading.findings
        self._positions = positions

    def _error(self, path: Path, code: str, message: str, hint: str = "") -> None:
        self._findings.error(self._positions.at(path), code, message, hint)

    def _warn(self, path: Path, code: str, message: str, hint: str = "") -> None:
        self._findings.warning(self._positions.at(path), code, message, hint)

    def _bad(self, path: Path, message: str, hint: str = "") -> None:
        self._error(path, "bad-value", message, hint)

    def _bad_type(self, path: Path, message: str) -> None:
        self._error(path, f"{self._form}-type", message)

    def _unknown(self, path: Path, known: Iterable[str], listed: str = "") -> None:
        key = str(path[-1])
        self._error(path, "unknown-key", f"unknown key {shown(key)}", nearest(key, known, listed))

    def _tables(self, table: Table, path: Path, key: str) -> list[Table]:
        value = table.get(key, [])
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return value
        self._bad_type(
            (*path, key), f"expected tables, [[{key}]]" if self._form == "toml" else "expected objects"
        )
        return []

    def _text(self, table: Table, path: Path, key: str, numbers: bool = False) -> str | None:
        value = table.get(key)
        return None if value is None else self._value(value, (*path, key), numbers)

    def _value(self, value: Any, path: Path, numbers: bool = False) -> str | None:
        if numbers and isinstance(value, int) and not isinstance(value, bool):
            return str(value) if abs(value) < 10**18 else "9" * 18
        if not isinstance(value, str):
            self._bad_type(path, "expected text" + (" or a number" if numbers else ""))
            return None
        wrong = find_bad_character(value)
        if wrong is not None or "\n" in value or "\t" in value or _halves(value):
            self._error(path, "bad-character", "this text has an invisible character in it")
            return None
        if not value:
            self._bad(path, "expected something")
            return None
        return value


def _halves(text: str) -> bool:
    """Whether a text contains half of a surrogate pair, as escapes of JSON can."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
