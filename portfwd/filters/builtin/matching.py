# -*- test-case-name: tests.filters.builtin.test_matching -*-
"""
Finds bytes or a regular expression in a stream that comes in chunks.

Two ways of looking, for what is to be done with what is found:

- A *scanner* takes the stream apart into what matched and what did not. It keeps
  the tail that may be the beginning of a match, so it finds the same however the
  stream is cut. `LiteralScanner` keeps what the bytes looked for begin with and
  no more; `PatternScanner` twice ``max_match`` at most, because `re` cannot say
  whether a match could still begin.
- A `Lookout` keeps nothing back: it says what has been found as soon as it is
  there, with a copy of the last ``max_match`` bytes to look behind the border.

A match of a regular expression that is longer than ``max_match`` may be missed, and ``$``
sees the end of what is looked at, not that of the stream: an end in a stream of
bytes is nowhere. A pattern is as costly as its author made it: Python's `re` goes
back, so nested repetitions can take very long on bytes made for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Protocol

from attrs import frozen

from portfwd.filters.options import OptionError

#: Bytes that a match of a regular expression has at most, unless said otherwise: a line of a
#: text protocol is seldom longer (RFC 5321 section 4.5.3.1.6 has 1000).
MAX_MATCH: Final = 1024
#: The most that can be asked for: each direction of each connection may keep twice as much.
LARGEST_MATCH: Final = 64 * 1024
#: Bytes that a `Lookout` looks at in one go: `re` may need the square of their number for patterns as
#: harmless as ``[a-z]+@``, which on a read of 64 KiB is seconds.
STEP: Final = 2048
#: Bytes before the place looked at that stay visible, for ``\b`` and look-behind assertions.
CONTEXT: Final = 64


@frozen
class Found:
    """
    One match.

    :ivar offset: of its first byte in the stream.
    :ivar text: the bytes.
    :ivar match: what `re` says of it; None where bytes were looked for.
    """

    offset: int
    text: bytes
    match: re.Match[bytes] | None = None

    def expand(self, template: bytes) -> bytes:
        r"""`template`, with the groups of the match where it says ``\1`` or ``\g<name>``; bytes have none."""
        return template if self.match is None else self.match.expand(template)


#: A stream taken apart: what did not match, as it was, and what did.
Pieces = list[bytes | Found]


class Scanner(Protocol):
    """
    Takes a stream apart.

    :ivar held: how many bytes it keeps.
    """

    @property
    def held(self) -> int:
        """See the class."""

    def feed(self, data: bytes) -> Pieces:
        """What `data` decides; the rest is kept."""

    def finish(self) -> Pieces:
        """What was kept, judged as if nothing came behind it."""

    def give_up(self) -> bytes:
        """What was kept, not judged any more."""


class LiteralScanner:
    """A `Scanner` for bytes."""

    __slots__ = ("_kept", "_needle", "_offset")

    def __init__(self, needle: bytes) -> None:
        """:param needle: not empty."""
        self._needle = needle
        self._kept = b""
        self._offset = 0  # of the first byte that is kept

    @property
    def held(self) -> int:
        """How many bytes are kept: fewer than the bytes looked for."""
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
        """Where the longest tail of `buffer` begins that the bytes looked for begin with; its end if none."""
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

    A place is judged when the ``2 * max_match`` bytes behind it are there, and with no
    others than these: so the result does not depend on how the stream was cut.
    """

    __slots__ = ("_before", "_kept", "_max_match", "_offset", "_pattern")

    def __init__(self, pattern: re.Pattern[bytes], max_match: int) -> None:
        """:param max_match: bytes; longer matches may be missed."""
        self._pattern = pattern
        self._max_match = max_match
        self._before = b""
        self._kept = b""
        self._offset = 0  # of the first byte that is kept

    @property
    def held(self) -> int:
        """How many bytes are kept: fewer than ``2 * max_match``."""
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
    """The matches in ``buffer[start:end]`` that have bytes; `start` may be looked back behind."""
    return (match for match in pattern.finditer(buffer, start, end) if match.end() > match.start())


class Lookout:
    """
    Says what has been seen, and keeps nothing back.

    Whether something is found does not depend on how the stream is cut, but how far a
    match reaches may: it is told of before the rest of it came.
    """

    __slots__ = ("_max_match", "_offset", "_pattern", "_start", "_step", "_tail")

    def __init__(self, pattern: re.Pattern[bytes], max_match: int) -> None:
        """:param max_match: bytes; longer matches may be missed."""
        self._pattern = pattern
        self._max_match = max_match
        self._step = max(STEP, max_match)
        self._tail = b""
        self._start = 0  # where in the tail a match may begin: what is before it is only looked back at
        self._offset = 0  # of the tail's first byte

    def feed(self, data: bytes) -> list[Found]:
        """What is there with `data`, and was not before."""
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
    What is looked for, as a rules file says it.

    :ivar find: bytes; or None.
    :ivar regex: a regular expression; or None.
    :ivar max_match: bytes of a match of the regular expression at most.
    """

    find: bytes | None = None
    regex: re.Pattern[bytes] | None = None
    max_match: int = MAX_MATCH

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be looked for."""
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
