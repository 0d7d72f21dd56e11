# -*- test-case-name: tests.filters.test_wrong_use -*-
"""
Finds mistakes in filters before the first connection: in attributes of factories and in methods.

A finding is the rest of a sentence that begins with the name of the object. This module neither makes nor
calls filters.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, Final, get_args, get_type_hints

import attrs

from portfwd.filters.api import Factory, IFailing, IFilter, IFilterFactory, IStarting
from portfwd.values import Direction

#: Similarity from which the name of a method counts as a misspelt one of the contract, such as two swapped
#: letters of eight.
ALIKE: Final = 0.85

_WORDS: Final = {
    "on_timeout": ("close", "pass"),
    "on_overflow": ("close", "pass"),
    "on_error": ("close", "bypass"),
}


#: What a coroutine function is to be replaced by, other than in methods that return verdicts.
_WAYS_OUT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "build": "build cannot wait; return Await(...) from opened of the filter",
        "closed": "start a coroutine with Deferred.fromCoroutine instead",
        "start": "start a coroutine with Deferred.fromCoroutine instead",
        "stop": "start a coroutine with Deferred.fromCoroutine instead",
    }
)

#: What classes say of their filters, in attributes.
_ATTRIBUTES: Final = frozenset(field.name for field in attrs.fields(Factory) if field.name != "make")

_OF_FILTERS: Final[Mapping[str, Any]] = MappingProxyType(
    {**dict(IFilter.namesAndDescriptions()), **dict(IFailing.namesAndDescriptions())}
)
_OF_FACTORIES: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "build": IFilterFactory["build"],
        **dict(IStarting.namesAndDescriptions()),
    }
)


def wrong_attributes(factory: Any) -> list[str]:
    """Findings about invalid attributes of a factory. Missing attributes are not reported."""
    found = []
    directions: object = getattr(factory, "directions", frozenset())
    if not (isinstance(directions, AbstractSet) and all(isinstance(one, Direction) for one in directions)):
        found.append(f"directions must be a frozenset of directions, not {_shown(directions)}")
    size = getattr(factory, "max_hold", 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        found.append(f"max_hold must be a whole number of bytes, not {_shown(size)}")
    seconds = getattr(factory, "hold_timeout", None)
    if seconds is not None and not _is_time(seconds):
        found.append(f"hold_timeout must be a number of seconds above 0, or None, not {_shown(seconds)}")
    for name, words in _WORDS.items():
        word = getattr(factory, name, words[0])
        if word not in words:
            found.append(f"{name} must be {' or '.join(map(repr, words))}, not {_shown(word)}")
    found += [
        f"{name} must be True or False, not {_shown(getattr(factory, name))}"
        for name in ("routes", "announces", "leads")
        if not isinstance(getattr(factory, name, False), bool)
    ]
    for name, count, call in (("start", 1, "start(services)"), ("stop", 0, "stop()")):
        method = getattr(factory, name, None)
        if method is not None and not (callable(method) and _takes(method, count)):
            found.append(f"{name} must be callable as {call}")
    if not isinstance(factory, type) and type(factory) is not Factory:
        kind: type = type(factory)
        found += _wrong_factory_methods(kind)
    return found


def built_class(factory: Any) -> type | None:
    """The class of a factory's filters, by the function it calls or by an annotation; None if unknown."""
    made = getattr(factory, "make", None) or getattr(factory, "build", None)
    if isinstance(made, type):
        return made
    try:
        told = get_type_hints(made).get("return")
    except Exception:  # annotations may contain names for type checkers only, or raise any exception
        return None
    for one in (told, *get_args(told)):
        if isinstance(one, type) and callable(getattr(one, "received", None)):
            return one
    return None


def wrong_methods(cls: type) -> list[str]:
    """Findings about methods of a filter class that cannot be called or never will be."""
    return list(_wrong_filter_methods(cls))


# Cached, because this takes a millisecond, and many clauses may have the same class.
@lru_cache(maxsize=256)
def _wrong_filter_methods(cls: type) -> tuple[str, ...]:
    return tuple(_wrong_methods(cls, _OF_FILTERS, "a filter"))


@lru_cache(maxsize=256)
def _wrong_factory_methods(cls: type) -> tuple[str, ...]:
    return tuple(_wrong_methods(cls, _OF_FACTORIES, "a factory"))


@lru_cache(maxsize=256)
def mistakes_in(cls: Any) -> str:
    """The findings of `wrong_methods` in one line. Cached, because it is called for each connection."""
    return "; ".join(wrong_methods(cls))


def _wrong_methods(cls: type, contract: Mapping[str, Any], what: str) -> list[str]:
    found = []
    for name, described in contract.items():
        method = getattr(cls, name, None)
        if not inspect.isfunction(method):
            continue
        arguments = described.getSignatureInfo()["positional"]
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            way_out = _WAYS_OUT.get(name, "return Await(...) of a coroutine instead")
            found.append(f"{name} is a coroutine function: {way_out}")
        elif inspect.isgeneratorfunction(method):
            found.append(f"{name} is a generator function: return a list instead of what it yields")
        elif not _takes(method, len(arguments) + 1):
            found.append(f"{name} must take {', '.join(('self', *arguments))}")
    own = {name: inspect.isfunction(value) for name, value in vars(cls).items() if name[0] != "_"}
    for kind, is_method, known in (("method", True, contract), ("attribute", False, _ATTRIBUTES)):
        for name in sorted(name for name, method in own.items() if method is is_method and name not in known):
            meant = difflib.get_close_matches(name, known, n=1, cutoff=ALIKE)
            # A shorter or longer name may be intended: close() beside closed().
            if (
                meant
                and meant[0] not in own
                and not meant[0].startswith(name)
                and not (kind == "attribute" and name.startswith(meant[0]))
            ):
                found.append(f"{name} is no {kind} of {what}; did you mean {meant[0]}?")
    return found


def _takes(method: Any, count: int) -> bool:
    """Whether `method` can be called with this number of arguments."""
    try:
        inspect.signature(method).bind(*range(count))
    except TypeError:
        return False
    return True


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value > 0


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else type(value).__name__
