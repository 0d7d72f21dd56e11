# -*- test-case-name: tests.testing.test_pipe -*-
"""Convert what a test passes as a filter (an instance, a class, a factory, a plug-in) to a filter clause."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import attrs

from portfwd.filters.api import Factory, RouteClause
from portfwd.filters.own_factory import CLAUSES
from portfwd.testing.started import started


def clause_of(one: Any, routes: Sequence[RouteClause]) -> tuple[str, Any]:
    """Return the name and the factory of `one`."""
    if isinstance(one, type) and hasattr(one, "build"):
        return one.__name__, started(one())
    if isinstance(one, type):
        taken = {CLAUSES: tuple(routes)} if CLAUSES in inspect.signature(one).parameters else {}
        return one.__name__, Factory(lambda connection: one(**taken), **_said_by(one))
    if hasattr(one, "configure"):
        return one.name, started(one.configure(one.options(), routes))
    if hasattr(one, "build"):
        return type(one).__name__, one
    if hasattr(one, "received"):
        return type(one).__name__, Factory(lambda connection: one, **_said_by(one))
    raise TypeError(f"expected a filter, its class, a factory or a plug-in, not {type(one).__name__}")


def _said_by(one: Any) -> dict[str, Any]:
    """Return the factory attributes of a class of filters, which is its own factory."""
    names = [name for name in attrs.fields_dict(Factory) if name != "make"]
    return {name: getattr(one, name) for name in names if hasattr(one, name)}
