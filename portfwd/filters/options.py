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

This module does not know rules files: a problem has the number of its word or option, and the caller adds the
place.
"""

from __future__ import annotations

import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

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
    "example",
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
    "read_options",
    "regex",
    "size",
    "switch",
    "text",
    "words",
]

Options = TypeVar("Options")

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


@frozen
class _Said:
    """One text of an option and its place: the number of a word or of an option."""

    text: str
    word: int | None = None
    option: int | None = None

    def problem(self, message: str, hint: str = "", *, in_value: bool = False) -> OptionProblem:
        """Make a problem with this place."""
        return OptionProblem(message, hint, self.word, self.option, in_value)


def read_options(
    cls: type[Options],
    plain: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    files: OptionFiles,
    without: Collection[str] = (),
) -> Options | list[OptionProblem]:
    """
    Parse a clause: return an instance of `cls`, or all problems, in no particular order.

    :param plain: the plain words after the name of the filter.
    :param pairs: key and value of each option.
    :param without: arguments of `cls` that are not options.
    """
    options = declared(cls, without)
    values, problems = read_values(options, plain, pairs, files)
    if problems:
        return problems
    try:
        return cls(**values)
    except OptionError as error:
        return [place_of(options, plain, pairs, error)]
    except (ValueError, TypeError) as error:
        return [OptionProblem(one_line(error) or type(error).__name__)]


def read_values(
    options: Sequence[Declared], plain: Sequence[str], pairs: Sequence[tuple[str, str]], files: OptionFiles
) -> tuple[dict[str, Any], list[OptionProblem]]:
    """
    Parse a clause by its declared options.

    :returns: the given values by attribute, and all problems.
    """
    problems: list[OptionProblem] = []
    said = _assign(options, plain, pairs, problems)
    values: dict[str, Any] = {}
    for one in options:
        texts = said.get(one.attribute, [])
        if not texts and one.needed:
            way_out = f"write {_written(one)}" + (f": {one.help}" if one.help else "")
            problems.append(OptionProblem(f"'{one.key}' is missing", way_out))
        if len(texts) > 1 and not one.repeated:
            problems.extend(extra.problem(f"'{one.key}' is given twice") for extra in texts[1:])
        read = []
        for text_said in texts:
            try:
                read.append(_value(one.kind, text_said.text, files))
            except ValueError as error:
                message = f"bad value for '{one.key}': {one_line(error)}"
                words_known = one.kind.unit.split(" | ")
                hint = _suggestion(text_said.text, words_known) if len(words_known) > 1 else ""
                problems.append(text_said.problem(message, hint, in_value=True))
        if read:
            values[one.attribute] = tuple(read) if one.repeated else read[0]
    return values, problems


def _assign(
    options: Sequence[Declared],
    plain: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    problems: list[OptionProblem],
) -> dict[str, list[_Said]]:
    """The texts for each attribute."""
    said: dict[str, list[_Said]] = {}
    waiting = [one for one in options if one.positional]
    by_key = {one.key: one for one in options}
    for index, word in enumerate(plain):
        if not waiting:
            hint = f"write {word}=VALUE" if word in by_key else _known(options)
            problems.append(OptionProblem(f"{_shown(word)} is a word too many", hint, word=index))
            continue
        said.setdefault(waiting[0].attribute, []).append(_Said(word, word=index))
        if not waiting[0].repeated:
            waiting.pop(0)
    for index, (key, value) in enumerate(pairs):
        one = by_key.get(key)
        if one is None:
            hint = " ".join(part for part in (_suggestion(key, by_key), _known(options)) if part)
            problems.append(OptionProblem(f"unknown option {_shown(key)}", hint, option=index))
        else:
            said.setdefault(one.attribute, []).append(_Said(value, option=index))
    return said


def place_of(
    options: Sequence[Declared],
    plain: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    error: OptionError,
) -> OptionProblem:
    """The problem for an option that a plug-in has refused, with its place in the clause."""
    said = _assign(options, plain, pairs, []).get(error.attribute)
    message = one_line(error)
    return said[0].problem(message, in_value=True) if said else OptionProblem(message)


def _value(kind: OptionKind[Any] | FileKind[Any], said: str, files: OptionFiles) -> Any:
    return kind.load(files, said) if isinstance(kind, FileKind) else kind.read(said)


def _written(one: Declared) -> str:
    """The possible forms of an option."""
    value = one.example or one.kind.example or "VALUE"
    return value if one.positional else f"{one.key}={value}"


def example(name: str, options: Sequence[Declared], keyword: str = "filter") -> str:
    """An example clause of the plug-in `name`, with the required options and those that have an example."""
    wanted = [one for one in options if one.needed or one.example]
    return " ".join([keyword, name, *(_written(one) for one in sorted(wanted, key=_words_first))])


def _words_first(one: Declared) -> bool:
    return not one.positional


def _known(options: Sequence[Declared]) -> str:
    keys = [one.key for one in options]
    if not keys:
        return "this filter has no options"
    return f"its options are {', '.join(keys)}" if len(keys) > 1 else f"its only option is {keys[0]}"


def _suggestion(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word[:64].replace("_", "-"), sorted(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


def _shown(word: str) -> str:
    """`word` in quotes for a message."""
    return f"'{one_line(word if len(word) <= 60 else word[:57] + '...')}'"


def one_line(said: object) -> str:
    """The text of a foreign object or exception for a message: one line of printable characters."""
    line = " ".join(str(said).split())
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in line)
