# -*- test-case-name: tests.filters.test_options -*-
"""
Reads a clause by the options that its plug-in declares.

This module does not know rules files: a problem has the number of its word or option, and the caller adds the
place.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from attrs import frozen

from portfwd.filters.option_kinds import FileKind, OptionFiles, OptionKind
from portfwd.filters.options import Declared, OptionError, OptionProblem, declared

Options = TypeVar("Options")


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
