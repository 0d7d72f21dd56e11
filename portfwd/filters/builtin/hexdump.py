# -*- test-case-name: tests.filters.builtin.test_hexdump -*-
"""
``filter hexdump``: writes the bytes of each connection to the log, sixteen per line.

::

    filter hexdump limit=1KiB direction=to-upstream

    web: session 12: > 00000000  47 45 54 20 2f 20 48 54  54 50 2f 31 2e 31 0d 0a  |GET / HTTP/1.1..|

A line has the rule and the session, ``>`` for bytes of the client and ``<`` for bytes of the upstream, the
offset in that direction, and the bytes in the format of ``hexdump -C``. Each chunk starts a new line.

This filter logs bytes of users, which may include passwords. Only printable ASCII is written unescaped. When
``limit`` is reached, a last line says so, and the filter is done; the rest is relayed without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from portfwd.filters.api import DONE, Connection, Factory, Filter, Log, Plugin, RouteClause, Verdict
from portfwd.filters.builtin.direction_option import ARROWS, HELP, direction, directions_of
from portfwd.filters.options import OptionError, option, size
from portfwd.values import Direction

#: Bytes of a line, as in ``hexdump -C`` and ``xxd``.
WIDTH: Final = 16
#: Default of ``limit=`` for each direction: the heads of most protocols, in 256 lines.
LIMIT: Final = 4096

_PRINTABLE: Final = bytes(byte if 0x20 <= byte < 0x7F else 0x2E for byte in range(256))


def dump_lines(data: bytes, offset: int = 0) -> Iterator[str]:
    """
    Format `data` as lines of ``hexdump -C``.

    :param offset: offset of its first byte.
    """
    for start in range(0, len(data), WIDTH):
        row = data[start : start + WIDTH]
        left, right = row[: WIDTH // 2].hex(" "), row[WIDTH // 2 :].hex(" ")
        text = row.translate(_PRINTABLE).decode("ascii")
        yield f"{offset + start:08x}  {left:<23}  {right:<23}  |{text}|"


class Hexdump(Filter):
    """Dumps one connection."""

    def __init__(self, log: Log, directions: frozenset[Direction], limit: int) -> None:
        """:param limit: bytes of each direction."""
        self._log = log
        self._limit = limit
        self._shown = dict.fromkeys(directions, 0)

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        shown = self._shown.get(direction, self._limit)
        if shown >= self._limit:
            return DONE
        take = data[: self._limit - shown]
        self._shown[direction] = shown + len(take)
        for line in dump_lines(take, shown):
            self._write(direction, line)
        if self._shown[direction] < self._limit:
            return None
        self._write(direction, f"{self._limit:08x}  limit={self._limit} is reached")
        return DONE

    def _write(self, direction: Direction, line: str) -> None:
        self._log.info("{arrow} {line}", arrow=ARROWS[direction], line=line)


@frozen
class HexdumpOptions:
    """The clause's options."""

    limit: int = option(size, default=LIMIT, help="How many bytes of each direction.", example="1KiB")
    direction: str = option(direction(), default="both", help=HELP)

    def __attrs_post_init__(self) -> None:
        """Refuse a limit of 0."""
        if not self.limit:
            raise OptionError("limit", "limit=0 shows nothing: delete the filter, or give it a size")


def make_factory(options: HexdumpOptions, clauses: Sequence[RouteClause]) -> Factory:
    """A factory for one clause."""
    directions = directions_of(options.direction)

    def build(connection: Connection) -> Hexdump:
        return Hexdump(connection.log, directions, options.limit)

    return Factory(build, directions=directions)


PLUGIN = Plugin("hexdump", "the bytes in the log, sixteen a line", HexdumpOptions, make_factory)
