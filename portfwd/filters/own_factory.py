# -*- test-case-name: tests.filters.test_own_factory -*-
"""
Makes a plug-in and a factory of a filter class.

``filter python:mymodule.SSHOnly`` needs only the class. Its arguments are the options of the clause, its
class attributes (`directions`, `max_hold` …) are those of the factory, and every connection gets an instance.
A class that chooses routes has an argument ``clauses``, which gets the `RouteClause`s of the rule.
`portfwd.filters.registry` finds the class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
from attrs import field, frozen
from zope.interface import implementer

from portfwd.filters.api import (
    API_VERSION,
    Factory,
    IFilter,
    IFilterFactory,
    IFilterPlugin,
    RouteClause,
)
from portfwd.filters.options import Declared, declared

#: The argument for the ``route`` lines of the rule. It is not an option.
CLAUSES: Final = "clauses"


@frozen
class Arguments:
    """The arguments of a filter class by name, from a clause."""

    values: dict[str, Any] = field(factory=dict)


@implementer(IFilterPlugin)
@frozen
class ClassPlugin:
    """
    The plug-in of a filter class.

    :ivar name: its name in rules files.
    :ivar options: the class itself; its arguments are the options.
    """

    name: str
    options: type

    @property
    def api_version(self) -> int:
        """The version that the class states, if it does."""
        version: int = getattr(self.options, "api_version", API_VERSION)
        return version

    @property
    def summary(self) -> str:
        """The first paragraph of the class's docstring."""
        return first_line(self.options)

    @property
    def takes_routes(self) -> bool:
        """Whether it has an argument for the ``route`` lines of the rule."""
        return any(one.attribute == CLAUSES for one in declared(self.options))

    @property
    def declared(self) -> tuple[Declared, ...]:
        """Its options."""
        return declared(self.options, without=(CLAUSES,))

    def configure(self, options: Arguments, clauses: Sequence[RouteClause]) -> Any:
        """
        Make a factory of instances; for a class of factories, an instance.

        One instance is made and dropped at once, so contradictory values are found when the rules are read
        and not at the first client.

        :raises ValueError: the class refuses its arguments.
        """
        cls, values = self.options, dict(options.values)
        if self.takes_routes:
            values[CLAUSES] = tuple(clauses)
        made = cls(**values)
        return made if IFilterFactory.providedBy(made) else factory_like(made, lambda: cls(**values))


def factory_like(said: object, make: Callable[[], Any]) -> Factory:
    """
    Make a factory of the filters that `make` makes.

    :param said: a filter with the attributes of the factory (`directions`, `max_hold` …).
    """
    names = (one.name for one in attrs.fields(Factory) if one.name not in ("make", "start", "stop"))
    says = {name: getattr(said, name) for name in names if hasattr(said, name)}
    return Factory(lambda connection: make(), **says)


def missing_methods(cls: object) -> list[str]:
    """The methods of `IFilter` that a class or an object does not have."""
    return [name for name in IFilter.names() if not callable(getattr(cls, name, None))]


def first_line(thing: object) -> str:
    """The first paragraph of a docstring on one line; empty if there is none."""
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    return " ".join(text.split("\n\n")[0].split())
