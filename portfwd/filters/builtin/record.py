# -*- test-case-name: tests.filters.builtin.test_record -*-
"""
``filter record``: records sessions with times in a file, for inspection or replay.

::

    filter record file=/var/lib/portfwd/web.record limit=64MiB

The format of the file is that of `portfwd.logs.recording`: a line of JSON for each chunk with the time, the
session and the direction. The relay writes the file and adds the time, because a filter has no clock.
``portfwd replay`` replays one side of a session.

This filter stores bytes of users, which may include passwords. The file is readable for its owner and group
only, and grows to ``limit`` at most. Bytes that do not fit, or that the disk is too slow for, are missing;
the file has a note about them. The connection is not slowed down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import evolve, frozen

from portfwd.filters.api import (
    BOTH,
    DONE,
    Connection,
    Copy,
    Factory,
    Filter,
    Plugin,
    RouteClause,
    Sink,
    Verdict,
)
from portfwd.filters.builtin.direction_option import HELP, direction, directions_of
from portfwd.filters.options import OptionError, file_path, option, size
from portfwd.values import Address, Direction

#: Default of ``limit=``: small for a disk, and more than a person reads.
LIMIT: Final = 64 * 1024 * 1024


class Record(Filter):
    """Records one connection."""

    def __init__(self, sink: Sink, directions: frozenset[Direction], connection: Connection) -> None:
        self._opening = evolve(sink, mark="opened", notes=_notes(connection, directions))
        self._sinks = {direction: evolve(sink, direction=direction) for direction in directions}

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        return Copy(self._opening, b"")

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        sink = self._sinks.get(direction)
        return DONE if sink is None else (Copy(sink, data), None)

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        sink = self._sinks.get(direction)
        return None if sink is None else (Copy(evolve(sink, mark="ended"), b""), None)


def _notes(connection: Connection, directions: frozenset[Direction]) -> tuple[tuple[str, str], ...]:
    """The texts about a connection at its start, and the recorded direction if it is only one."""

    def text(address: Address | None) -> str:
        return "" if address is None else str(address)

    notes = (
        ("rule", connection.rule),
        ("network", connection.network),
        ("client", text(connection.source)),
        ("local", text(connection.destination)),
        ("only", "" if directions == BOTH else " ".join(direction.value for direction in directions)),
    )
    return tuple((key, value) for key, value in notes if value)


@frozen
class RecordOptions:
    """The clause's options."""

    file: str = option(file_path, help="The file; it is appended to.", example="/var/lib/portfwd/web.record")
    limit: int = option(size, default=LIMIT, help="How large the file may become.")
    direction: str = option(direction(), default="both", help=HELP)

    def __attrs_post_init__(self) -> None:
        """Refuse a limit of 0."""
        if not self.limit:
            raise OptionError("limit", "limit=0 records nothing: delete the filter, or give it a size")


def make_factory(options: RecordOptions, clauses: Sequence[RouteClause]) -> Factory:
    """A factory for one clause."""
    directions = directions_of(options.direction)
    sink = Sink("record", options.file, options.limit)

    def build(connection: Connection) -> Record:
        return Record(sink, directions, connection)

    return Factory(build, directions=directions)


PLUGIN = Plugin("record", "sessions in a file, with the times", RecordOptions, make_factory)
