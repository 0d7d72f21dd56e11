"""Plug-ins and filter classes for the tests of the registry and of what reads options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, frozen
from zope.interface import implementer

from portfwd.filters import (
    API_VERSION,
    Close,
    Factory,
    Filter,
    IFilterPlugin,
    Plugin,
    RouteClause,
)
from portfwd.filters.options import (
    OptionError,
    choice,
    duration,
    file_text,
    networks,
    number,
    option,
    size,
)


class Bare(Filter):
    """
    Passes everything, and
    says so. It has no options.

    This paragraph is for authors.
    """


class Annotated(Filter):
    """A plain class: its arguments are its options."""

    routes = True

    def __init__(
        self,
        greeting: str,
        limit: int = 3,
        share: float = 0.5,
        loud: bool = False,
        mark: bytes = b"",
        depth: int | None = None,
        clauses: Sequence[RouteClause] = (),
    ) -> None:
        if limit > 100:
            raise ValueError("nobody greets a hundred times")
        self.said = (greeting, limit, share, loud, mark, depth, tuple(clauses))


@define
class Declaring(Filter):
    """An attrs class: what it declares are its options."""

    max_hold: int = option(size, default=4096, help="Most bytes that are looked at.")
    depth: int = 2


@frozen
class RouterOptions:
    """Options of the router."""

    mode: str = option(choice("first", "last"), positional=True, help="Which one is taken.", example="last")
    trust: Any = option(networks, help="Who may choose.")
    wait: float = option(duration, default=3.0, help="How long it may take.")
    names: Any = option(file_text, default=None, help="A file of names.")
    also: tuple[str, ...] = option(choice("a", "b"), repeated=True, help="More.")


def make_router(options: RouterOptions, clauses: Sequence[RouteClause]) -> Factory:
    """The factory of the router."""
    if options.wait > 60:
        raise OptionError("wait", "nobody waits a minute")
    if options.mode == "last" and not clauses:
        raise ValueError("the last of no routes")
    if options.also == ("b",):
        raise RuntimeError("out of paper")
    return Factory(lambda connection: Filter(), routes=True)


@frozen
class PedantOptions:
    """Options of the pedant."""

    routes: int = option(number, default=1, help="How many there have to be.")


def make_pedant(options: PedantOptions, clauses: Sequence[RouteClause]) -> Factory:
    """The factory of a filter that refuses patterns with blanks, and too few of them."""
    for clause in clauses:
        for pattern in clause.patterns:
            if " " in pattern:
                raise ValueError(f"pattern '{pattern}' has a blank in it")
    if options.routes > 9:
        raise ValueError("nobody has so many routes")
    if len(clauses) < options.routes:
        raise ValueError(f"{len(clauses)} routes are too few")
    return Factory(lambda connection: Filter(), routes=True)


PEDANT = Plugin("pedant", "Refuses blanks.", PedantOptions, make_pedant, takes_routes=True)
ROUTER = Plugin("router", "Chooses.", RouterOptions, make_router, takes_routes=True)
#: What it writes has to come first.
LEADER = Plugin(
    "leader", "Comes first.", Bare, lambda options, clauses: Factory(lambda connection: None, leads=True)
)


@implementer(IFilterPlugin)
class WholePlugin:
    """A plug-in written as a class."""

    api_version = API_VERSION
    name = "whole"
    options = Bare
    takes_routes = False

    def configure(self, options: Any, clauses: Sequence[RouteClause]) -> Factory:
        return Factory(lambda connection: None)


@implementer(IFilterPlugin)
class NeedsMore(WholePlugin):
    """A plug-in whose class cannot be called without arguments."""

    def __init__(self, what: str) -> None:
        self.what = what


class Unfinished:
    """A class with only one method of a filter."""

    def received(self, direction: object, data: bytes) -> Close:
        return Close("no")


class FromTheFuture(Filter):
    """Written for another version of the contract."""

    api_version = 99


OLD = Plugin("old", "Out of date.", RouterOptions, make_router, api_version=0)
OPAQUE = Plugin("opaque", "Its options are no class.", 7, make_router)  # type: ignore[arg-type]
NOTHING = 7


def half_a_factory(options: object, clauses: object) -> Any:
    """What is no factory."""
    return object()


HALF = Plugin("half", "Makes nothing of use.", Bare, half_a_factory)


class Silent(Filter):
    """Refuses to be, without a word."""

    def __init__(self) -> None:
        raise ValueError


class Wordy(Filter):
    """
    A filter whose author has so much to say of it that no line of a terminal can hold all of
    what he says, so that it has to be broken somewhere.
    """

    def __init__(
        self, limit: str = "a default that is so long that it does not fit on the line that it is on"
    ):
        self.limit = limit


class Exiting(Filter):
    """A filter that would leave the program when it is made."""

    def __init__(self) -> None:
        raise SystemExit(3)


class Loose(Filter):
    """A filter that says how much is held as rules files would."""

    max_hold = "16KiB"  # type: ignore[assignment]


class Slip(Filter):
    """A filter with a method that nothing calls."""

    def recieved(self, direction: object, data: bytes) -> None:
        """Not `received`."""
