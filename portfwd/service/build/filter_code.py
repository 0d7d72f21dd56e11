# -*- test-case-name: tests.service.build.test_filter_code -*-
"""
Code of ``python:`` filters that has changed, imported again while the process runs.

``portfwd reload --code`` asks for it. A module that a rule names is imported again if its file, or a file
of its package, is not what it was when the module was imported. New modules take the place of the old ones;
the old ones stay as they are for the sessions that use them. All of it can be undone.

Modules of portfwd are never imported again, nor is what filters of packages are made of: those need a
restart.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Final

from portfwd.filters.registry import PYTHON, told
from portfwd.rules.model import Ruleset

#: The package that is never imported again.
OWN: Final = __name__.partition(".")[0]


def modules_of(ruleset: Ruleset) -> list[str]:
    """The modules that ``python:`` filters of these rules name."""
    return modules_named(spec.name for rule in ruleset.rules for spec in rule.filters)


def modules_named(filters: Iterable[str]) -> list[str]:
    """The modules of those filters that are named by ``python:``."""
    paths = (name.removeprefix(PYTHON) for name in filters if name.startswith(PYTHON))
    return list(dict.fromkeys(path.rpartition(".")[0] for path in paths))


class FilterCode:
    """The source files of modules that filters come from, as they were imported."""

    def __init__(self) -> None:
        self._seen: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<FilterCode of {len(self._seen)} modules>"

    def note(self, modules: Iterable[str]) -> None:
        """`modules` were imported: remember what their files, and those of their packages, say now."""
        for module in modules:
            for name in _family(module):
                if name not in self._seen:
                    self._seen[name] = _digest(name)

    def import_again(self, modules: Iterable[str]) -> CodeChange:
        """Import those of `modules` again whose code has changed; the result can be undone."""
        change = CodeChange(self._seen)
        for module in modules:
            family = list(_family(module))
            changed = [name for name in family if _digest(name) != self._seen.get(name)]
            if changed and module in family:
                change.replace(module, family)
            if change.problem:
                break
        return change


class CodeChange:
    """
    Modules in whose place others are.

    :ivar modules: names of those that were imported again.
    :ivar problem: why one of them could not be; then none is.
    """

    def __init__(self, seen: dict[str, bytes]) -> None:
        self.modules: list[str] = []
        self.problem = ""
        self._seen = seen
        self._before = dict(seen)
        self._old: dict[str, ModuleType] = {}

    def __repr__(self) -> str:
        return f"<CodeChange {self.problem or ', '.join(self.modules) or 'nothing'}>"

    def replace(self, module: str, family: list[str]) -> None:
        """Import `module` anew, and with it what it imports of `family`."""
        for name in family:
            self._old[name] = sys.modules.pop(name)
            self._seen.pop(name, None)
            _forget_compiled(self._old[name])
        importlib.invalidate_caches()
        try:
            importlib.import_module(module)
        except KeyboardInterrupt:
            raise  # the operator's
        except BaseException as error:
            self.undo()
            self.problem = f"the module {module} cannot be imported again: {told(error)}"
            return
        self.modules.append(module)
        for name in _family(module):
            self._seen[name] = _digest(name)

    def undo(self) -> None:
        """The modules from before are there again."""
        for name in {name for module in self.modules for name in _family(module)} | self._old.keys():
            sys.modules.pop(name, None)
        for name, module in self._old.items():
            sys.modules[name] = module
            package, _, attribute = name.rpartition(".")
            if package in sys.modules:
                setattr(sys.modules[package], attribute, module)
        self._old.clear()
        self.modules.clear()
        self._seen.clear()
        self._seen.update(self._before)


def _family(module: str) -> Iterator[str]:
    """The imported modules that change with `module`: itself, and those of its package."""
    package = module.rpartition(".")[0] or module
    if package.partition(".")[0] == OWN:
        return
    for name in list(sys.modules):
        if (name == package or name.startswith(f"{package}.")) and _source(name):
            yield name


def _source(name: str) -> str:
    """The file of a module's source; empty for one that has none."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    origin = getattr(spec, "origin", None)
    return origin if isinstance(origin, str) and origin.endswith(".py") else ""


def _digest(name: str) -> bytes:
    """What stands for the source of a module; of a file that cannot be read, nothing."""
    try:
        with open(_source(name), "rb") as file:
            return hashlib.sha256(file.read()).digest()
    except OSError:
        return b""


def _forget_compiled(module: ModuleType) -> None:
    # Python takes a compiled file for good if the source has the same size and was changed in the same
    # second.
    origin = getattr(module.__spec__, "origin", None)
    if origin:
        with suppress(OSError, NotImplementedError):
            os.unlink(importlib.util.cache_from_source(origin))
