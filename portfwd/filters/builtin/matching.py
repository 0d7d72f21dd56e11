# -*- test-case-name: tests.filters.builtin.test_matching -*-
"""
Finds bytes or a regular expression in a stream of chunks.

There are two kinds of search:

- A *scanner* splits the stream into matches and other bytes. It keeps the last bytes that may be the
  beginning of a match, so the result does not depend on chunks. `LiteralScanner` keeps only a prefix of the
  needle. `PatternScanner` keeps at most twice ``max_match``, because `re` cannot tell whether a match could
  begin.
- A `Lookout` keeps no bytes back. It reports a match as soon as it is complete, and has a copy of the last
  ``max_match`` bytes to find matches across chunks.

A match of a regular expression that is longer than ``max_match`` may be missed. ``$`` matches the end of the
searched bytes, not that of the stream. Python's `re` backtracks, so nested repetitions can take very long on
hostile bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Protocol

from attrs import frozen

from portfwd.filters.options import OptionError

#: Default of the most bytes of a match of a regular expression. A line of a text protocol is seldom longer
#: (RFC 5321 section 4.5.3.1.6 has 1000).
MAX_MATCH: Final = 1024
#: Largest value of ``max-match=``. Each direction of each connection may keep twice as much.
LARGEST_MATCH: Final = 64 * 1024
#: Bytes that a `Lookout` searches at once. `re` may need quadratic time even for patterns like ``[a-z]+@``,
#: which means seconds for 64 KiB.
STEP: Final = 2048
#: Bytes before the searched ones that stay visible, for ``\b`` and look-behind assertions.
CONTEXT: Final = 64


@frozen
class Found:
    """
    One match.

    :ivar offset: offset of its first byte in the stream.
    :ivar text: the matching bytes.
    :ivar match: the match object of `re`; None for a search for bytes.
    """

    offset: int
    text: bytes
    match: re.Match[bytes] | None = None

    def expand(self, template: bytes) -> bytes:
        r"""Expand ``\1`` and ``\g<name>`` in `template`. A search for bytes has no groups."""
        return template if self.match is None else self.match.expand(template)


#: A piece of a stream: bytes without a match, or a match.
Pieces = list[bytes | Found]


class Scanner(Protocol):
    """
    Splits a stream into matches and other bytes.

    :ivar held: number of bytes that it keeps.
    """

    @property
    def held(self) -> int:
        """See the class."""

    def feed(self, data: bytes) -> Pieces:
        """Search `data`, and return the pieces that are certain. The rest is kept."""

    def finish(self) -> Pieces:
        """Return the pieces of the kept bytes, as if the stream had ended."""

    def give_up(self) -> bytes:
        """Return the kept bytes without searching them."""


class LiteralScanner:
    """A `Scanner` for bytes."""

    __slots__ = ("_kept", "_needle", "_offset")

    def __init__(self, needle: bytes) -> None:
        """:param needle: not empty."""
        self._needle = needle
        self._kept = b""
        self._offset = 0  # offset of the first kept byte

    @property
    def held(self) -> int:
        """Number of kept bytes, less than the length of the needle."""
        return len(self._kept)

    def feed(self, data: bytes) -> Pieces:
        """See `Scanner`."""
        needle = self._needle
        buffer = self._kept + data
        pieces: Pieces = []
        start = 0
        while (found := buffer.find(needle, start)) >= 0:
            if found > start:
                pieces.append(buffer[start:found])
            pieces.append(Found(self._offset + found, needle))
            start = found + len(needle)
        keep = self._beginning(buffer, start)
        if keep > start:
            pieces.append(buffer[start:keep])
        self._kept = buffer[keep:]
        self._offset += keep
        return pieces

    def _beginning(self, buffer: bytes, start: int) -> int:
        """Position of the longest suffix of `buffer` that is a prefix of the needle; else its end."""
        at = max(start, len(buffer) - len(self._needle) + 1)
        while (at := buffer.find(self._needle[:1], at)) >= 0:
            if self._needle.startswith(buffer[at:]):
                return at
            at += 1
        return len(buffer)

    def finish(self) -> Pieces:
        """See `Scanner`."""
        rest = self.give_up()
        return [rest] if rest else []

    def give_up(self) -> bytes:
        """See `Scanner`."""
        rest, self._kept = self._kept, b""
        self._offset += len(rest)
        return rest


class PatternScanner:
    """
    A `Scanner` for a regular expression.

    A position is decided when the ``2 * max_match`` bytes after it are available, and with these bytes only,
    so the result does not depend on chunks.
    """

    __slots__ = ("_before", "_kept", "_max_match", "_offset", "_pattern")

    def __init__(self, pattern: re.Pattern[bytes], max_match: int) -> None:
        """:param max_match: bytes; longer matches may be missed."""
        self._pattern = pattern
        self._max_match = max_match
        self._before = b""
        self._kept = b""
        self._offset = 0  # offset of the first kept byte

    @property
    def held(self) -> int:
        """Number of kept bytes, less than ``2 * max_match``."""
        return len(self._kept)

    def feed(self, data: bytes) -> Pieces:
        """See `Scanner`."""
        return self._scan(data, last=False)

    def finish(self) -> Pieces:
        """See `Scanner`."""
        return self._scan(b"", last=True)

    def _scan(self, data: bytes, *, last: bool) -> Pieces:
        buffer = self._before + self._kept + data
        begin = start = len(self._before)
        pieces: Pieces = []
        while start < len(buffer):
            end = start + 2 * self._max_match
            if end > len(buffer) and not last:
                break
            everything = last and end >= len(buffer)
            step = len(buffer) if everything else start + self._max_match
            match = next(matches(self._pattern, buffer, start, min(end, len(buffer))), None)
            if match is not None and match.start() < step:
                if match.start() > start:
                    pieces.append(buffer[start : match.start()])
                pieces.append(Found(self._offset + match.start() - begin, match[0], match))
                start = match.end()
            else:
                pieces.append(buffer[start:step])
                start = step
        self._before = buffer[max(0, start - CONTEXT) : start]
        self._kept = buffer[start:]
        self._offset += start - begin
        return pieces

    def give_up(self) -> bytes:
        """See `Scanner`."""
        rest, self._kept = self._kept, b""
        self._offset += len(rest)
        return rest


def matches(pattern: re.Pattern[bytes], buffer: bytes, start: int, end: int) -> Iterator[re.Match[bytes]]:
    """The matches in ``buffer[start:end]`` that are not empty. Assertions may see bytes before `start`."""
    return (match for match in pattern.finditer(buffer, start, end) if match.end() > match.start())


class Lookout:
    """
    Reports matches and keeps no bytes back.

    Whether a match is found does not depend on chunks, but its length may, because it is reported before
    later bytes arrive.
    """

    __slots__ = ("_max_match", "_offset", "_pattern", "_start", "_step", "_tail")

    def __init__(self, pattern: re.Pattern[bytes], max_match: int) -> None:
        """:param max_match: bytes; longer matches may be missed."""
        self._pattern = pattern
        self._max_match = max_match
        self._step = max(STEP, max_match)
        self._tail = b""
        self._start = 0  # position in the tail from which a match may begin
        self._offset = 0  # offset of the first byte of the tail

    def feed(self, data: bytes) -> list[Found]:
        """The matches that `data` completes."""
        if len(data) <= self._step:
            return self._look(data)
        found = []
        for start in range(0, len(data), self._step):
            found += self._look(data[start : start + self._step])
        return found

    def _look(self, data: bytes) -> list[Found]:
        buffer = self._tail + data
        found = []
        start = max(self._start, len(buffer) - self._max_match + 1)
        for match in matches(self._pattern, buffer, self._start, len(buffer)):
            found.append(Found(self._offset + match.start(), match[0], match))
            start = max(start, match.end())
        keep = max(0, start - CONTEXT)
        self._tail = buffer[keep:]
        self._start = start - keep
        self._offset += keep
        return found


@frozen
class Search:
    """
    The search options of a rules file.

    :ivar find: the bytes to find, or None.
    :ivar regex: a regular expression, or None.
    :ivar max_match: most bytes of a match of the regular expression.
    """

    find: bytes | None = None
    regex: re.Pattern[bytes] | None = None
    max_match: int = MAX_MATCH

    def __attrs_post_init__(self) -> None:
        """Refuse options that cannot be searched for."""
        if (self.find is None) == (self.regex is None):
            raise ValueError("say what to look for: either find=BYTES or regex=PATTERN")
        if self.find is not None and not 0 < len(self.find) <= LARGEST_MATCH:
            raise OptionError("find", f"find= has 1 to {LARGEST_MATCH} bytes")
        if not 0 < self.max_match <= LARGEST_MATCH:
            raise OptionError("max_match", f"max-match= is 1 to {LARGEST_MATCH} bytes")
        if self.regex is not None and self.regex.match(b"") is not None:
            raise OptionError(
                "regex", "regex= matches where there are no bytes: use + for *, and no empty alternative"
            )

    def scanner(self) -> Scanner:
        """A scanner for one direction of one connection."""
        if self.regex is not None:
            return PatternScanner(self.regex, self.max_match)
        assert self.find is not None
        return LiteralScanner(self.find)

    def lookout(self) -> Lookout:
        """A lookout for one direction of one connection."""
        if self.regex is not None:
            return Lookout(self.regex, self.max_match)
        assert self.find is not None
        return Lookout(re.compile(re.escape(self.find)), len(self.find))
