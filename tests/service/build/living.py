"""A filter whose factory writes down what becomes of it, for the tests of factories and of reloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from portfwd.filters import Connection, Filter, FilterFactory, Plugin, RouteClause, Services
from portfwd.filters.options import option, text

#: What happened to factories, in order: the event, and the word of the clause.
EVENTS: list[tuple[str, str]] = []


@frozen
class Options:
    """Options of the filter."""

    word: str = option(text, default="", positional=True, help="Tells factories apart.")


class Living(FilterFactory):
    """Writes down its life; refuses to start with the word ``bad``."""

    def __init__(self, word: str) -> None:
        self.word = word
        EVENTS.append(("configure", word))

    def start(self, services: Services) -> None:
        """See `IStarting`."""
        EVENTS.append(("start", self.word))
        if self.word == "bad":
            raise RuntimeError("no server there")
        self.services = services
        self.built = services.counter("built", "filters that were built")

    def stop(self) -> None:
        """See `IStarting`."""
        EVENTS.append(("stop", self.word))

    def build(self, connection: Connection) -> Any:
        """See `IFilterFactory`."""
        self.built.inc()
        connection.note("word", self.word)
        return Filter()


def make(options: Options, clauses: Sequence[RouteClause]) -> Living:
    """The factory of a clause."""
    return Living(options.word)


PLUGIN = Plugin("living", "Writes down its life.", Options, make)
