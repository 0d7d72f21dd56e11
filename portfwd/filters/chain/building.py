# -*- test-case-name: tests.filters.chain.test_chain -*-
"""Filters of a connection, built by their factories; what goes wrong is an effect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from attrs import evolve

from portfwd.filters.api import Connection, IFilterFactory, nobody
from portfwd.filters.chain.effects import Effect, Trouble
from portfwd.filters.chain.failing import failure
from portfwd.filters.chain.link import Stage
from portfwd.filters.wrong_use import mistakes_in


class Built(NamedTuple):
    """
    Filters of a connection.

    :ivar filters: those that look at it.
    :ivar behind: clauses behind one that announces, to be built when it has.
    :ivar troubles: what went wrong; if a `Finish` is the last, the session ends.
    """

    filters: list[Stage]
    behind: Sequence[tuple[str, IFilterFactory]]
    troubles: list[Effect]


def build(clauses: Sequence[tuple[str, IFilterFactory]], connection: Connection) -> Built:
    """Build the filters of `clauses`, up to one that announces."""
    built = Built([], [], [])
    for number, (name, factory) in enumerate(clauses, 1):
        # To be woken, each filter needs a connection of its own; where there is but one it is this.
        own = connection if len(clauses) == 1 else evolve(connection, wake=nobody)
        try:
            made = factory.build(own)
            kind: Any = type(made)
            if wrong := mistakes_in(kind):
                raise TypeError(f"{kind.__name__}: {wrong}")
            stage = None if made is None else Stage(name, factory, made, own)
        except BaseException as error:
            built.troubles.append(Trouble(name, error, "build"))
            if getattr(factory, "on_error", "") != "bypass":
                built.troubles.append(failure(name, error))
                break
            continue
        if stage is not None:
            built.filters.append(stage)
            if getattr(factory, "announces", False):
                return built._replace(behind=clauses[number:])
    return built
