# -*- test-case-name: tests.rules.grammars.test_toml -*-
"""
Finds the places of the keys of a TOML file by scanning its lines.

It finds headers and keys at the start of a line, as in most files. In a file with multi-line strings, and for
keys of inline tables, the place is the nearest table that it has found.
"""

from __future__ import annotations

import re
from typing import Final

from portfwd.errors import Location

_HEADER = re.compile(r"[ \t]*(\[\[?)[ \t]*([A-Za-z0-9_.-]+)[ \t]*\]")
_KEY = re.compile(r"[ \t]*([A-Za-z0-9_-]+)[ \t]*=")
_MULTILINE: Final = ('"""', "'''")

Path = tuple[str | int, ...]


class TomlPositions:
    """
    The places of one file.

    :ivar name: name of the file in messages.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._found: dict[Path, Location] = {}
        self._scan(text)

    def __repr__(self) -> str:
        return f"<TomlPositions {self.name} {len(self._found)} keys>"

    def at(self, path: Path) -> Location:
        """The place of a key, or of the nearest enclosing table; always with the path of the key."""
        key = ""
        for part in path:
            key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
        for end in range(len(path), 0, -1):
            found = self._found.get(path[:end])
            if found is not None:
                return Location(self.name, found.line, found.column, found.length, found.text, key)
        return Location(self.name, key=key)

    def _scan(self, text: str) -> None:
        if any(quotes in text for quotes in _MULTILINE):
            return
        table: Path = ()
        counts: dict[Path, int] = {}
        for number, line in enumerate(text.split("\n"), 1):
            line = line.removesuffix("\r")
            match = _HEADER.match(line)
            if match is not None:
                table = self._resolve(match[2].split("."), counts)
                if match[1] == "[[":
                    counts[table] = counts.get(table, -1) + 1
                    table = (*table, counts[table])
            else:
                match = _KEY.match(line)
                if match is None:
                    continue
            group = match.lastindex or 1
            path = table if group == 2 else (*table, match[1])
            place = Location(self.name, number, match.start(group) + 1, len(match[group]), line)
            self._found.setdefault(path, place)

    @staticmethod
    def _resolve(keys: list[str], counts: dict[Path, int]) -> Path:
        """The path of a header. An array of tables in the middle stands for its last element."""
        path: Path = ()
        for index, key in enumerate(keys):
            path = (*path, key)
            if index < len(keys) - 1 and path in counts:
                path = (*path, counts[path])
        return path
