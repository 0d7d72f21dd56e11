"""Counts the commands that clients of a line-based protocol send, by name."""

from attrs import frozen

from portfwd.filters import (
    NEED_MORE,
    TO_UPSTREAM,
    Again,
    Connection,
    Direction,
    Filter,
    FilterCounter,
    FilterFactory,
    Forward,
    Plugin,
    Services,
    Verdict,
)


class Counting(Filter):
    """Counts the lines of one connection."""

    def __init__(self, commands: FilterCounter, connection: Connection) -> None:
        self.commands = commands
        self.connection = connection
        self.lines = 0

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """Count one line a call."""
        line, newline, rest = data.partition(b"\n")
        if not newline:
            return NEED_MORE
        words = line.split(maxsplit=1)
        self.commands.inc(words[0].decode("ascii", "replace").lower() if words else "")
        self.lines += 1
        self.connection.note("commands", self.lines)
        return [Forward(line + newline), Again(rest)]


class CountingFactory(FilterFactory):
    """One for each clause; all connections of a rule count into the same metric."""

    directions = frozenset({TO_UPSTREAM})

    def start(self, services: Services) -> None:
        """Define the metric."""
        self.commands = services.counter("commands", "commands of clients", labels=("name",))

    def build(self, connection: Connection) -> Filter:
        """Make the filter of one connection."""
        return Counting(self.commands, connection)


@frozen
class Options:
    """The clause has none."""


PLUGIN = Plugin("counting", "counts commands", Options, lambda options, routes: CountingFactory())
