# -*- test-case-name: tests.filters.test_own_factory -*-
"""
A filter class that is its own plug-in and its own factory.

``filter python:mymodule.SSHOnly`` needs no more than the class: its arguments are
the clause's options, what it says of itself (`directions`, `max_hold` …) is the
factory's, and every connection gets an instance. A class that chooses routes has
an argument ``clauses``, which is given the rule's `RouteClause`s. It refuses to
find classes: `portfwd.filters.registry` does.
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

#: The argument that is given the rule's ``route`` lines, and so is no option.
CLAUSES: Final = "clauses"


@frozen
class Arguments:
    """What a clause said to a filter class: the values of its arguments, by name."""

    values: dict[str, Any] = field(factory=dict)


@implementer(IFilterPlugin)
@frozen
class ClassPlugin:
    """
    The plug-in that a filter class is.

    :ivar name: what rules files call it.
    :ivar options: the class itself, whose arguments are the options.
    """

    name: str
    options: type

    @property
    def api_version(self) -> int:
        """The class's own word, if it has one."""
        version: int = getattr(self.options, "api_version", API_VERSION)
        return version

    @property
    def summary(self) -> str:
        """The first paragraph of its docstring."""
        return first_line(self.options)

    @property
    def takes_routes(self) -> bool:
        """Whether it wants the rule's ``route`` lines."""
        return any(one.attribute == CLAUSES for one in declared(self.options))

    @property
    def declared(self) -> tuple[Declared, ...]:
        """Its options."""
        return declared(self.options, without=(CLAUSES,))

    def configure(self, options: Arguments, clauses: Sequence[RouteClause]) -> Any:
        """
        A factory of instances; of a class of factories, an instance.

        One is made at once and thrown away, so that values that do not go together are told
        when the rules are read and not to the first client.

        :raises ValueError: the class says so.
        """
        cls, values = self.options, dict(options.values)
        if self.takes_routes:
            values[CLAUSES] = tuple(clauses)
        made = cls(**values)
        return made if IFilterFactory.providedBy(made) else factory_like(made, lambda: cls(**values))


def factory_like(said: object, make: Callable[[], Any]) -> Factory:
    """
    A factory of what `make` makes.

    :param said: a filter that says what the factory does (`directions`, `max_hold` …).
    """
    names = (one.name for one in attrs.fields(Factory) if one.name not in ("make", "start", "stop"))
    says = {name: getattr(said, name) for name in names if hasattr(said, name)}
    return Factory(lambda connection: make(), **says)


def missing_methods(cls: object) -> list[str]:
    """The methods of `IFilter` that a class, or a filter, lacks."""
    return [name for name in IFilter.names() if not callable(getattr(cls, name, None))]


def first_line(thing: object) -> str:
    """The first paragraph of a docstring, on one line; empty where there is none."""
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    return " ".join(text.split("\n\n")[0].split())
