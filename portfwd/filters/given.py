# -*- test-case-name: tests.filters.test_given -*-
"""
Makes plug-ins of filter objects of an embedding program. They are checked like those of a rules file.

=============================  ====================================================================
object                         filters of connections
=============================  ====================================================================
a class of filters             an instance for each
a class of factories           those of an instance of it
a function without arguments,  what it returns, for each; ``functools.partial(SSHOnly, limit=5)``
or a ``partial``
a filter                       that one, shared by all
an `IFilterFactory`            what its ``build`` returns
an `IFilterPlugin`             those of the factory that it configures without options
=============================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from zope.interface import implementer

from portfwd.filters.api import API_VERSION, Factory, IFilterFactory, IFilterPlugin, RouteClause
from portfwd.filters.own_factory import factory_like, missing_methods
from portfwd.filters.registry import FoundPlugin, Origin, Unavailable, as_plugin
from portfwd.filters.wrong_use import wrong_methods


@frozen
class NoOptions:
    """The options of a filter object: none, because it has its arguments already."""


@implementer(IFilterPlugin)
@frozen
class GivenPlugin:
    """
    The plug-in of a factory, of a filter, or of a function that makes filters.

    :ivar make_factory: called for each clause.
    """

    name: str
    make_factory: Callable[[], Any]
    api_version: int = API_VERSION
    options: type = NoOptions
    takes_routes: bool = False
    summary: str = ""

    def configure(self, options: Any, clauses: Sequence[RouteClause]) -> Any:
        """See `IFilterPlugin`."""
        return self.make_factory()


def given(name: str, thing: Any) -> FoundPlugin:
    """
    The plug-in of an object.

    :param name: its name in logs.
    :raises Unavailable: it is not one of the objects listed in this module's docstring.
    """
    origin = Origin(name, f"{type(thing).__module__}.{type(thing).__qualname__}")
    if isinstance(thing, type) or IFilterPlugin.providedBy(thing):
        return FoundPlugin(as_plugin(thing, origin), origin, thing)
    if IFilterFactory.providedBy(thing):
        return FoundPlugin(GivenPlugin(name, lambda: thing), origin, thing)
    if not missing_methods(thing):
        return FoundPlugin(GivenPlugin(name, lambda: _factory(thing, lambda: thing)), origin, thing)
    if callable(thing):
        return FoundPlugin(GivenPlugin(name, lambda: _factory(thing(), thing)), origin, thing)
    raise Unavailable(
        "bad-filter",
        f"filters= has {name}, which is no filter",
        "give a class of filters, a filter, a portfwd.filters.Factory, or the text of a filter clause",
    )


def _factory(made: Any, make: Callable[[], Any]) -> Factory:
    """
    Make the factory of the filters that `make` makes. `made` is one of them.

    :raises ValueError: it is not a filter, or does not follow the contract.
    """
    missing = missing_methods(made)
    wrong = [f"{type(made).__name__} has no {', '.join(missing)}"] if missing else wrong_methods(type(made))
    if wrong:
        raise ValueError("; ".join(wrong))
    return factory_like(made, make)
