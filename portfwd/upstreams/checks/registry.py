# -*- test-case-name: tests.upstreams.checks.test_registry -*-
"""
Find the class of a check by its name.

A name is an entry point of the group ``portfwd.checks``, which has the built-in checks too, or
``python:MODULE.CLASS``. The class must be derived from `Check`. A module is imported when a rules file or a
listing needs it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

from attrs import frozen

from portfwd.filters.clause_reading import read_options
from portfwd.filters.options import Declared, OptionFiles, OptionProblem, declared
from portfwd.filters.own_factory import first_line
from portfwd.filters.registry import (
    PYTHON,
    Origin,
    Unavailable,
    by_name,
    import_origin,
    installed_origins,
    python_origin,
    told,
)
from portfwd.upstreams.checks.api import API_VERSION, Check
from portfwd.upstreams.checks.timing import Timing
from portfwd.values import printable

#: The group of entry points that name checks.
GROUP: Final = "portfwd.checks"
#: The entry points of the built-in checks, for a source tree that is not installed, or was installed before a
#: check was added.
BUILT_IN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "agent": "portfwd.upstreams.checks.agent:AgentCheck",
        "dns": "portfwd.upstreams.checks.dns:DNSCheck",
        "exec": "portfwd.upstreams.checks.command:ExecCheck",
        "expect": "portfwd.upstreams.checks.send:ExpectCheck",
        "http": "portfwd.upstreams.checks.http:HTTPCheck",
        "mysql": "portfwd.upstreams.checks.mysql:MySQLCheck",
        "pgsql": "portfwd.upstreams.checks.pgsql:PgSQLCheck",
        "redis": "portfwd.upstreams.checks.redis:RedisCheck",
        "send": "portfwd.upstreams.checks.send:SendCheck",
        "tcp": "portfwd.upstreams.checks.tcp:TCPCheck",
        "tls": "portfwd.upstreams.checks.tls:TLSCheck",
    }
)

_TIMING: Final = frozenset(one.key for one in declared(Timing))


@frozen
class FoundCheck:
    """A class of checks and its origin."""

    kind: type[Check]
    origin: Origin

    @property
    def options(self) -> tuple[Declared, ...]:
        """Its own options, then those of all checks that it does not override."""
        own = declared(self.kind)
        keys = {one.key for one in own}
        return (*own, *(one for one in declared(Timing) if one.key not in keys))

    @property
    def summary(self) -> str:
        """The first paragraph of its docstring."""
        return first_line(self.kind)

    def read(
        self, plain: Sequence[str], pairs: Sequence[tuple[str, str]], files: OptionFiles
    ) -> tuple[Check, Timing] | list[OptionProblem]:
        """Read a clause: return the check and its timing, or all problems of the clause."""
        own = {one.key for one in declared(self.kind)}
        numbers: tuple[list[int], list[int]] = ([], [])
        for index, (key, _) in enumerate(pairs):
            numbers[key in _TIMING and key not in own].append(index)
        results: list[Any] = []
        problems: list[OptionProblem] = []
        for kind, words, chosen in ((self.kind, plain, numbers[0]), (Timing, (), numbers[1])):
            read = read_options(kind, words, [pairs[index] for index in chosen], files)
            if isinstance(read, list):
                problems += [_renumbered(one, chosen) for one in read]
            results.append(read)
        return problems or (results[0], results[1])


def _renumbered(problem: OptionProblem, numbers: Sequence[int]) -> OptionProblem:
    """Return `problem` with the number of its option in the whole clause."""
    option = problem.option if problem.option is None else numbers[problem.option]
    return OptionProblem(problem.message, problem.hint, problem.word, option, problem.in_value)


class CheckRegistry:
    """The available checks; `CheckRegistry.installed` returns those of this Python."""

    def __init__(self, origins: Iterable[Origin]) -> None:
        """:param origins: an iterator is used up when the first check is looked for by its name."""
        self._given = origins

    @cached_property
    def _origins(self) -> dict[str, list[Origin]]:
        return by_name(self._given)

    def __repr__(self) -> str:
        return f"<CheckRegistry {len(self._origins)} checks>"

    @classmethod
    def installed(cls) -> CheckRegistry:
        """Return the checks of all installed distributions and the built-in ones; found at the first use."""
        return cls(installed_origins(GROUP, BUILT_IN))

    def origins(self) -> Iterator[Origin]:
        """Return all entry points, sorted by name."""
        for name in sorted(self._origins):
            yield from self._origins[name]

    def find(self, name: str) -> FoundCheck:
        """
        Return the check called `name`.

        :raises Unavailable: there is none or more than one, or it cannot be imported or used.
        """
        if name.startswith(PYTHON):
            return self.load(python_origin(name, "check"))
        origins = self._origins.get(name, [])
        shown = f"'{printable(name[:60])}'"
        if not origins:
            near = difflib.get_close_matches(name[:64], self._origins, n=1, cutoff=0.6)
            raise Unavailable(
                "unknown-check",
                f"there is no check called {shown}",
                f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(self._origins))}",
            )
        if len(origins) > 1:
            packages = " and ".join(map(str, origins))
            raise Unavailable("bad-check", f"several packages have a check called {shown}: {packages}")
        return self.load(origins[0])

    def load(self, origin: Origin) -> FoundCheck:
        """
        Import a check.

        :raises Unavailable: it cannot be imported or used.
        """
        kind = import_origin(origin, "check")
        what = f"the check '{printable(origin.name[:60])}' ({origin})"
        if not (isinstance(kind, type) and issubclass(kind, Check)):
            raise Unavailable(
                "bad-check",
                f"{what} is no class of checks",
                "derive it from portfwd.upstreams.checks.api.Check",
            )
        if kind.api_version != API_VERSION:
            raise Unavailable(
                "bad-check", f"{what} is written for version {kind.api_version} of the contract"
            )
        try:
            declared(kind)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise Unavailable("bad-check", f"{what} does not say its options: {told(error)}") from error
        return FoundCheck(kind, origin)
