# -*- test-case-name: tests.filters.test_registry -*-
"""
Finds the plug-in for the name of a filter.

A plug-in is named by an entry point of the group ``portfwd.filters``, also for built-in filters, or as
``python:MODULE.CLASS``. It is an `IFilterPlugin`, a class of them, or a class of filters, which is its own
factory. A plug-in is imported only when a rules file or a listing uses it, and a failed import affects no
other plug-in. The registry raises `Unavailable` if it has no plug-in for a name.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Final

from attrs import frozen

from portfwd.filters.api import API_VERSION, IFilterFactory, IFilterPlugin
from portfwd.filters.clause_reading import one_line, read_options, read_values
from portfwd.filters.options import Declared, OptionFiles, OptionProblem, declared
from portfwd.filters.own_factory import Arguments, ClassPlugin, first_line, missing_methods
from portfwd.values import printable

#: The group of entry points that name plug-ins.
GROUP: Final = "portfwd.filters"
#: The distribution whose filters are the built-in ones.
OWN: Final = "portfwd"
#: The prefix of names that are import paths.
PYTHON: Final = "python:"

#: The entry points of the built-in filters, for a tree that is not installed or was installed before it got a
#: new filter. `tests.filters.test_registry` compares them with pyproject.toml.
BUILT_IN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "faults": "portfwd.filters.builtin.faults:PLUGIN",
        "hexdump": "portfwd.filters.builtin.hexdump:PLUGIN",
        "http-connect": "portfwd.filters.builtin.http_connect:PLUGIN",
        "http-host": "portfwd.filters.builtin.http_host:PLUGIN",
        "match": "portfwd.filters.builtin.match:PLUGIN",
        "proxy-in": "portfwd.filters.builtin.proxy_in:PLUGIN",
        "proxy-out": "portfwd.filters.builtin.proxy_out:PLUGIN",
        "record": "portfwd.filters.builtin.record:PLUGIN",
        "replace": "portfwd.filters.builtin.replace:PLUGIN",
        "sni": "portfwd.filters.builtin.sni:PLUGIN",
        "sniff": "portfwd.filters.builtin.sniff:PLUGIN",
        "socks5": "portfwd.filters.builtin.socks5:PLUGIN",
        "starttls-postgres": "portfwd.filters.builtin.starttls_postgres:PLUGIN",
        "starttls-smtp": "portfwd.filters.builtin.starttls_smtp:PLUGIN",
        "tee": "portfwd.filters.builtin.tee:PLUGIN",
    }
)

_PATH = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")


class Unavailable(LookupError):
    """
    No plug-in is available for a name. It becomes a problem of the clause.

    :ivar code: code of the problem: ``unknown-filter``, ``ambiguous-filter``, ``filter-import-failed``,
        ``filter-api-version``, ``bad-filter``.
    :ivar hint: how to correct it, or empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


@frozen
class Origin:
    """
    The origin of a filter.

    :ivar name: its name in rules files.
    :ivar path: ``MODULE:OBJECT``.
    :ivar package: its distribution; empty for ``python:``.
    :ivar version: version of that distribution.
    """

    name: str
    path: str
    package: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.path} of {self.package} {self.version}".rstrip() if self.package else self.path


@frozen
class FoundPlugin:
    """
    A plug-in and its origin.

    :ivar code: the object in its module: a plug-in or a class. It is a new object if the code is imported
        again.
    """

    plugin: Any
    origin: Origin
    code: Any = None

    @property
    def options(self) -> tuple[Declared, ...]:
        """Its options."""
        if isinstance(self.plugin, ClassPlugin):
            return self.plugin.declared
        return declared(self.plugin.options)

    @property
    def summary(self) -> str:
        """One line of help; empty if there is none."""
        return getattr(self.plugin, "summary", "") or first_line(self.plugin.options)

    @property
    def takes_routes(self) -> bool:
        """Whether it uses the ``route`` lines of the rule."""
        return bool(getattr(self.plugin, "takes_routes", True))

    def read(
        self, plain: Sequence[str], pairs: Sequence[tuple[str, str]], files: OptionFiles
    ) -> Any | list[OptionProblem]:
        """The argument of `IFilterPlugin.configure` for a clause, or all problems of the clause."""
        if not isinstance(self.plugin, ClassPlugin):
            return read_options(self.plugin.options, plain, pairs, files)
        values, problems = read_values(self.options, plain, pairs, files)
        return problems or Arguments(values)


class Registry:
    """
    The available filters.

    `Registry.installed` has those of this Python installation; tests make their own.
    """

    def __init__(self, origins: Iterable[Origin]) -> None:
        """:param origins: an iterator is used up when the first filter is looked for by its name."""
        self._given = origins
        self._found: dict[str, FoundPlugin] = {}

    def __repr__(self) -> str:
        return f"<Registry {len(self._origins)} filters, {len(self._found)} imported>"

    @cached_property
    def _origins(self) -> dict[str, list[Origin]]:
        return by_name(self._given)

    @classmethod
    def installed(cls) -> Registry:
        """The filters of all installed distributions and the built-in ones; found once, at the first use."""
        return cls(installed_origins(GROUP, BUILT_IN))

    @property
    def names(self) -> tuple[str, ...]:
        """All names of entry points, sorted."""
        return tuple(sorted(self._origins))

    def origins(self) -> Iterator[Origin]:
        """All entry points, sorted by name. A name may have several."""
        for name in self.names:
            yield from self._origins[name]

    def find(self, name: str) -> FoundPlugin:
        """
        The plug-in with the name `name` in rules files.

        :raises Unavailable: there is none, there are two, or it cannot be imported or used.
        """
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self.load(self._only(name))
        return found

    def load(self, origin: Origin) -> FoundPlugin:
        """
        Import a plug-in.

        :raises Unavailable: it cannot be imported or used.
        """
        code = import_origin(origin)
        return FoundPlugin(as_plugin(code, origin), origin, code)

    def _only(self, name: str) -> Origin:
        if name.startswith(PYTHON):
            return python_origin(name)
        origins = self._origins.get(name, [])
        if not origins:
            near = difflib.get_close_matches(name[:64], self.names, n=1, cutoff=0.6)
            known = f"there are {', '.join(self.names)}" if self.names else "none is installed"
            raise Unavailable(
                "unknown-filter",
                f"there is no filter called {_shown(name)}",
                f"did you mean '{near[0]}'?" if near else f"{known}; python:MODULE.CLASS names any other",
            )
        if len(origins) > 1:
            raise Unavailable(
                "ambiguous-filter",
                f"several packages have a filter called {_shown(name)}: {' and '.join(map(str, origins))}",
                f"uninstall one of them, or write {' or '.join(map(_python_name, origins))}",
            )
        return origins[0]


def installed_origins(group: str, own: Mapping[str, str]) -> Iterator[Origin]:
    """Find the plug-ins of an entry point group: the built-in ones in `own`, then those of distributions."""
    for name, path in own.items():
        yield Origin(name, path, OWN)
    for point in entry_points(group=group):
        origin = origin_of(point)
        if origin.package != OWN:
            yield origin


def by_name(origins: Iterable[Origin]) -> dict[str, list[Origin]]:
    """Sort origins by name. A distribution that is found twice counts once."""
    found: dict[str, list[Origin]] = {}
    for origin in origins:
        same = found.setdefault(origin.name, [])
        # A distribution is found twice if it is installed and also in a directory of the path.
        if all((one.path, one.package) != (origin.path, origin.package) for one in same):
            same.append(origin)
    return found


def origin_of(point: EntryPoint) -> Origin:
    """The origin of an entry point, which may not be importable."""
    # "module:object [extra]" was once usual.
    path = point.value.partition("[")[0].strip()
    if point.dist is None:
        return Origin(point.name, path)
    return Origin(point.name, path, point.dist.name or "a package without a name", point.dist.version or "")


def _python_name(origin: Origin) -> str:
    return PYTHON + origin.path.replace(":", ".")


def python_origin(name: str, noun: str = "filter") -> Origin:
    """
    The origin for ``python:MODULE.CLASS``.

    :param noun: kind of the plug-in, for messages.
    :raises Unavailable: the name is not well-formed.
    """
    path = name.removeprefix(PYTHON)
    if not _PATH.fullmatch(path):
        raise Unavailable(
            f"unknown-{noun}", f"{_shown(name)} names no class of Python's", "write python:MODULE.CLASS"
        )
    module, _, attribute = path.rpartition(".")
    return Origin(name, f"{module}:{attribute}")


def import_origin(origin: Origin, noun: str = "filter") -> Any:
    """
    Import the object of `origin`.

    :param noun: kind of the plug-in, for messages.
    :raises Unavailable: it cannot be imported.
    """
    failed = "filter-import-failed" if noun == "filter" else f"bad-{noun}"
    module, _, attributes = origin.path.partition(":")
    try:
        found = importlib.import_module(module)
    except KeyboardInterrupt:
        raise  # the operator's
    except BaseException as error:
        missing = isinstance(error, ModuleNotFoundError) and (f"{module}.").startswith(f"{error.name}.")
        if missing and not origin.package:
            raise Unavailable(
                f"unknown-{noun}",
                f"there is no module '{module}' on Python's path",
                "PYTHONPATH=DIRECTORY in the environment says where else to look",
            ) from None
        raise Unavailable(
            failed,
            f"the {noun} {_shown(origin.name)} ({origin}) cannot be imported: {told(error)}",
            f"update or uninstall {origin.package}" if origin.package else "mend the module",
        ) from error
    for attribute in filter(None, attributes.split(".")):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise Unavailable(
                f"unknown-{noun}" if not origin.package else failed,
                f"the module '{module}' has no '{attributes}'",
                f"update or uninstall {origin.package}" if origin.package else _near(attribute, found),
            ) from None
    return found


def as_plugin(thing: Any, origin: Origin) -> Any:
    """The plug-in of an imported object."""
    plugin = thing
    if isinstance(thing, type):
        make: Any = thing
        if IFilterPlugin.implementedBy(thing):
            try:
                plugin = make()
            except KeyboardInterrupt:
                raise  # the operator's
            except BaseException as error:
                raise _bad(origin, f"cannot be made: {told(error)}") from error
        else:
            missing = [] if IFilterFactory.implementedBy(thing) else missing_methods(thing)
            if missing:
                raise _bad(
                    origin,
                    f"is a class without {', '.join(missing)}",
                    "derive it from portfwd.filters.Filter, which has every method",
                )
            plugin = ClassPlugin(origin.name, thing)
    elif not IFilterPlugin.providedBy(thing):
        raise _bad(
            origin,
            f"is {type(thing).__name__}, no filter",
            "name a class of filters, or a portfwd.filters.Plugin",
        )
    version = getattr(plugin, "api_version", None)
    if version != API_VERSION:
        raise Unavailable(
            "filter-api-version",
            f"the filter {_shown(origin.name)} ({origin}) is written for version {version} of the filter"
            f" contract; this is version {API_VERSION}",
            f"update {origin.package or 'it'}, or portfwd",
        )
    try:
        FoundPlugin(plugin, origin).options  # noqa: B018 - a class whose options nobody can find out is told here
    except KeyboardInterrupt:
        raise  # the operator's
    except BaseException as error:
        raise _bad(origin, f"does not say its options: {told(error)}") from error
    return plugin


def _bad(origin: Origin, what: str, hint: str = "") -> Unavailable:
    return Unavailable("bad-filter", f"the filter {_shown(origin.name)} ({origin}) {what}", hint)


def _near(attribute: str, module: object) -> str:
    near = difflib.get_close_matches(attribute, [name for name in dir(module) if name[0] != "_"], n=1)
    return f"did you mean '{near[0]}'?" if near else ""


def told(error: BaseException) -> str:
    """The text of a foreign exception on one line."""
    text = one_line(error)
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _shown(name: str) -> str:
    return f"'{printable(name[:60])}'"
