# -*- test-case-name: tests.rules.grammars.test_realm -*-
"""
Finds the places of the keys of a JSON file by scanning its tokens.

The text must be valid; the real parser checks it first. The time is linear in the length of the text.
"""

from __future__ import annotations

import re
from typing import Final

from portfwd.errors import Location
from portfwd.rules.grammars.toml_positions import Path, TomlPositions

#: A token: a string, a bracket, or any other value. Blanks, commas and colons separate them.
_TOKEN: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"|[][{}]|[^][{}\s,:"]++', re.DOTALL)


class JsonPositions(TomlPositions):
    """
    The places of one file.

    :ivar repeated: keys that occur more than once in their object.
    """

    def __init__(self, name: str, text: str) -> None:
        self.repeated: list[tuple[str, Location]] = []
        super().__init__(name, text)

    def _scan(self, text: str) -> None:
        path: list[str | int] = []
        kinds: list[str] = []
        key = False  # whether the next string in an object is a key
        lines = text.split("\n")
        number = begin = 0
        for match in _TOKEN.finditer(text):
            while match.start() > begin + len(lines[number]):
                begin += len(lines[number]) + 1
                number += 1
            word = match[0]
            if word in "]}":
                kinds.pop()
                path.pop()
                key = bool(kinds) and kinds[-1] == "{"
                continue
            where = Location(self.name, number + 1, match.start() - begin + 1, len(word), lines[number])
            if kinds and kinds[-1] == "{" and key:
                path[-1] = match[1]
                if self._found.get(tuple(path)) is not None:
                    self.repeated.append((match[1], where))
                self._put(tuple(path), where)
                key = False
                continue
            if kinds and kinds[-1] == "[":
                index = path[-1]
                path[-1] = index + 1 if isinstance(index, int) else 0
                self._put(tuple(path), where)
            if word in "[{":
                kinds.append(word)
                path.append(-1 if word == "[" else "")
            key = bool(kinds) and kinds[-1] == "{"

    def _put(self, path: Path, where: Location) -> None:
        # JSON files may be nested deeper than any known key.
        if len(path) <= _DEEPEST:
            self._found.setdefault(path, where)


#: ``endpoints[0].network.use_udp`` has four parts.
_DEEPEST: Final = 4
