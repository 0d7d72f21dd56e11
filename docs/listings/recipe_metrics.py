"""Count the commands of a line protocol, by their first word."""

from portfwd.filters import (
    NEED_MORE,
    TO_UPSTREAM,
    Again,
    Bypass,
    Connection,
    Direction,
    Filter,
    FilterFactory,
    Forward,
    Services,
    Verdict,
)


class Commands(FilterFactory):
    """The metrics of one rule."""

    directions = frozenset({TO_UPSTREAM})
    on_overflow = "pass"  # a line that is too long is none of ours

    def start(self, services: Services) -> None:
        """The rule begins to work: ``portfwd_filter_commands_total{word="get"}``."""
        self.commands = services.counter("commands", "Commands, by their first word.", labels=["word"])

    def build(self, connection: Connection) -> Filter:
        """A client was accepted."""
        return Counting(self)


class Counting(Filter):
    """One client."""

    def __init__(self, factory: Commands) -> None:
        self.factory = factory
        self.count = 0

    def opened(self, connection: Connection) -> None:
        """A client was accepted."""
        self.connection = connection

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """One line a call."""
        line, end, rest = data.partition(b"\n")
        if not end:
            return NEED_MORE
        self.count += 1
        self.connection.note("commands", self.count)  # in the line of the access log
        word = line.split(b" ", 1)[0].strip().decode("ascii", "replace").lower()
        self.factory.commands.inc(word)
        return [Forward(line + end), Again(rest)] if rest else Bypass(0)
