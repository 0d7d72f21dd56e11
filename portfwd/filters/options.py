# -*- test-case-name: tests.filters.test_options -*-
"""
Declares the options of a filter; parsing, errors and help come from the declaration.

>>> from attrs import frozen
>>> from portfwd.filters.options import choice, duration, option
>>> @frozen
... class Options:
...     kind: str = option(choice("latency", "reset"), positional=True, help="What goes wrong.")
...     slow_close: float = option(duration, default=0.0, help="Delay of each end.")

``filter NAME latency slow-close=2s`` is then ``Options(kind="latency", slow_close=2.0)``. The keyword in the
file is the name of the attribute with ``-`` for ``_``. Plain words are assigned to the ``positional``
attributes in order. The kinds of values are in `portfwd.filters.option_kinds` and can be imported from here.
For a class without declarations, the annotations decide: ``int``, ``float``, ``bool``, ``bytes``, ``str``,
``Literal`` of words, and ``list``, ``tuple``, ``set`` and ``frozenset`` of these, written with commas.

`portfwd.filters.clause_reading` reads a clause by its declared options.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

import attrs
from attrs import frozen

from portfwd.filters.option_kinds import (
    FileKind,
    FileText,
    Network,
    OptionFiles,
    OptionKind,
    address,
    between,
    choice,
    data,
    decimal,
    duration,
    file_of,
    file_path,
    file_text,
    fraction,
    integer,
    list_of,
    networks,
    number,
    rate,
    regex,
    size,
    switch,
    text,
    words,
)

__all__ = [
    "NEEDED",
    "Declared",
    "FileKind",
    "FileText",
    "Network",
    "OptionError",
    "OptionFiles",
    "OptionKind",
    "OptionProblem",
    "address",
    "between",
    "choice",
    "data",
    "decimal",
    "declared",
    "duration",
    "file_of",
    "file_path",
    "file_text",
    "fraction",
    "integer",
    "list_of",
    "networks",
    "number",
    "option",
    "rate",
    "regex",
    "size",
    "switch",
    "text",
    "words",
]

#: The default of a required option.
NEEDED: Final = attrs.NOTHING

_METADATA: Final = "portfwd.filters.options"
_CONTAINERS: Final = (list, tuple, set, frozenset)
_BY_ANNOTATION: Final[Mapping[object, OptionKind[Any]]] = types.MappingProxyType(
    {int: integer, float: decimal, bool: switch, bytes: data, str: text}
)


@frozen
class Declared:
    """
    One declared option.

    :ivar attribute: the name of its attribute in Python.
    :ivar key: its keyword in a rules file.
    :ivar kind: the kind of its value.
    :ivar default: the value if the clause does not have the option; `NEEDED`: the clause must have it.
    :ivar help: one sentence for the help text.
    :ivar positional: whether it may be written as a plain word.
    :ivar repeated: whether it may be given several times; its value is a tuple then.
    :ivar example: an example of its text, for the help text.
    """

    attribute: str
    key: str
    kind: OptionKind[Any] | FileKind[Any]
    default: Any = NEEDED
    help: str = ""
    positional: bool = False
    repeated: bool = False
    example: str = ""

    @property
    def needed(self) -> bool:
        """Whether a clause must have it."""
        return self.default is NEEDED

    @property
    def default_text(self) -> str:
        """The default as in a rules file; empty if it cannot be written."""
        if self.needed or self.default is None or isinstance(self.default, attrs.Factory):  # type: ignore[arg-type]
            return ""
        if isinstance(self.kind, FileKind):
            return str(self.default)
        if self.repeated:
            return " ".join(self.kind.write(value) for value in self.default)
        return self.kind.write(self.default)


@frozen
class OptionProblem:
    """
    One problem of a clause.

    :ivar message: one line without a full stop.
    :ivar hint: how to correct it, or empty.
    :ivar word: number of the plain word, from 0, or None.
    :ivar option: number of the ``KEY=VALUE``, from 0, or None. If both are None, the problem is about the
        clause.
    :ivar in_value: whether the value of the option is wrong, and not its key.
    """

    message: str
    hint: str = ""
    word: int | None = None
    option: int | None = None
    in_value: bool = False


class OptionError(ValueError):
    """
    Raised by a plug-in that refuses one of its options, in `configure` or in the options class.

    :ivar attribute: the option's attribute.
    """

    def __init__(self, attribute: str, message: str) -> None:
        super().__init__(message)
        self.attribute = attribute


#: A field of a docstring: the names, and the text with its indented lines.
_PARAMETERS: Final = re.compile(r"^:param ([\w, ]+):((?:.*\n?)(?:[ \t]+.*\n?)*)", re.MULTILINE)


def option(
    kind: OptionKind[Any] | FileKind[Any] | Callable[[str], Any],
    *,
    default: Any = NEEDED,
    help: str = "",  # noqa: A002 - it is what argparse calls it
    positional: bool = False,
    repeated: bool = False,
    example: str = "",
) -> Any:
    """
    Declare an option as an attribute of an attrs class.

    :param kind: a kind of value of this page, or a function that makes a value of a text, or raises
        `ValueError`.
    :param default: the value if the clause does not have the option. Without a default the clause must have
        it.
    :param help: one sentence for the help text.
    :param positional: the option may be written as a plain word.
    :param repeated: the option may be given several times; its value is a tuple then.
    :param example: an example of its text, for the help text.
    """
    if not isinstance(kind, OptionKind | FileKind):
        kind = OptionKind(getattr(kind, "__name__", "value").strip("_<>").replace("_", " "), kind)
    if repeated and default is NEEDED:
        default = ()
    # `declared` fills in the names of the attribute.
    declaration = Declared("", "", kind, default, help, positional, repeated, example)
    return attrs.field(default=default, kw_only=True, metadata={_METADATA: declaration})


def declared(cls: type, without: Collection[str] = ()) -> tuple[Declared, ...]:
    """
    The options of a class, in order: those declared by `option`, and the others by their annotations.

    The help of the others is the text of ``:param NAME:`` in the docstring.

    :param without: arguments that are not options.
    :raises TypeError: its arguments cannot be determined.
    """
    if attrs.has(cls):
        fields: Iterator[tuple[str, Any, Declared | None]] = (
            (one.alias or one.name, one.default, one.metadata.get(_METADATA))
            for one in attrs.fields(cls)
            if one.init
        )
    else:
        fields = ((name, default, None) for name, default in _arguments(cls))
    hints, texts = _annotations(cls), _parameter_texts(cls)
    found = []
    for name, default, declaration in fields:
        if name in without:
            continue
        key = name.replace("_", "-")
        if declaration is not None:
            found.append(attrs.evolve(declaration, attribute=name, key=key))
        else:
            kind = _by_annotation(hints.get(name))
            found.append(Declared(name, key, kind, default, texts.get(name, "")))
    return tuple(found)


def _parameter_texts(cls: type) -> dict[str, str]:
    """The descriptions of arguments in the docstrings of a class and its constructor, one sentence each."""
    found: dict[str, str] = {}
    for owner in (cls, cls.__init__):  # type: ignore[misc]
        for names, about in _PARAMETERS.findall(inspect.cleandoc(owner.__doc__ or "")):
            said = " ".join(about.split())
            found.update(dict.fromkeys(re.split(r"\W+", names), said[:1].upper() + said[1:]))
    return found


def _arguments(cls: type) -> Iterator[tuple[str, Any]]:
    """The arguments of a plain class that can be given by name, and their defaults."""
    try:
        signature = inspect.signature(cls)
    except ValueError:
        return  # a class made in C has no signature and takes no arguments
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            yield name, NEEDED if parameter.default is parameter.empty else parameter.default


def _annotations(cls: type) -> dict[str, Any]:
    """The annotations of a class's arguments, without those that cannot be evaluated."""
    found: dict[str, Any] = {}
    for owner in (cls, cls.__init__):  # type: ignore[misc]
        try:
            found.update(typing.get_type_hints(owner))
        except (NameError, TypeError, AttributeError):
            found.update(getattr(owner, "__annotations__", {}))
    return found


def _by_annotation(annotation: Any) -> OptionKind[Any]:
    """
    The kind of value for an annotation: ``int``, ``int | None``, ``list[int]``, ``Literal["a", "b"]``.

    An unknown annotation means text.
    """
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        inner = [one for one in typing.get_args(annotation) if one is not types.NoneType]
        annotation = inner[0] if len(inner) == 1 else str
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _CONTAINERS and (origin is not tuple or inside[1:] == (...,)):
        return list_of(_by_annotation(inside[0]), origin)
    if origin is typing.Literal and all(isinstance(one, str) for one in inside):
        return choice(*inside)
    if isinstance(annotation, str):
        annotation = {kind.__name__: kind for kind in (int, float, bool, bytes)}.get(annotation, str)
    return _BY_ANNOTATION.get(annotation, text)
