# -*- test-case-name: tests.admin.test_parameters -*-
"""
Parameters of commands: name, parser, description, and JSON schema.

The control socket parses requests with them, and the description of the web API is generated from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from attrs import frozen

from portfwd.admin.operator import OperatorError
from portfwd.quantities import parse_duration, parse_size
from portfwd.values import direction_word

T = TypeVar("T")
Schema = Mapping[str, Any]

#: Limit of session numbers, which no forwarder reaches.
MAX_ID: Final = 10**18
#: Maximum characters of a text: a request is a line of 4096 bytes.
MAX_TEXT: Final = 1024


@frozen
class Parameter(Generic[T]):
    """
    One parameter of a command.

    :ivar name: name of the option, or of the word in JSON.
    :ivar hint: placeholder of the value in usage texts.
    :ivar schema: JSON schema of the value.
    :ivar read: parses a text; raises `ValueError`.
    """

    name: str
    about: str
    hint: str
    schema: Schema
    read: Callable[[str], T]

    def value(self, text: str) -> T:
        """
        Parse `text`.

        :raises OperatorError: it is not valid.
        """
        try:
            return self.read(text)
        except ValueError as error:
            raise OperatorError("bad-request", f"bad value for {self.name}=: {error}") from None


def whole(name: str, about: str, least: int, most: int, hint: str = "") -> Parameter[int]:
    """A whole number."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
            raise ValueError(f"expected a number from {least} to {most}")
        return int(text)

    return Parameter(
        name, about, hint or f"{least}..{most}", {"type": "integer", "minimum": least, "maximum": most}, read
    )


def number(name: str, about: str) -> Parameter[int]:
    """The number of a session."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise ValueError(f"expected the number of a session, not {text[:20]!r}")
        return int(text)

    return Parameter(name, about, "ID", {"type": "integer", "minimum": 0, "maximum": MAX_ID - 1}, read)


def choice(name: str, about: str, *words: str) -> Parameter[str]:
    """One of `words`. Directions have a short form too."""

    def read(text: str) -> str:
        word = text if text in words else direction_word(text)
        if word not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return word

    return Parameter(name, about, "|".join(words), {"type": "string", "enum": list(words)}, read)


def text(name: str, about: str, hint: str = "") -> Parameter[str]:
    """Any text."""
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
    return Parameter(name, about, hint or name.upper(), schema, str)


def duration(name: str, about: str, least: float, most: float, hint: str) -> Parameter[float]:
    """A duration in seconds."""

    def read(text: str) -> float:
        seconds = parse_duration(text)
        if not least <= seconds <= most:
            raise ValueError(f"expected {least:g} to {most:g} seconds")
        return seconds

    return Parameter(name, about, hint, {"type": "string", "examples": ["1s", "500ms"]}, read)


def size(name: str, about: str, most: int) -> Parameter[int]:
    """A number of bytes, at least one."""

    def read(text: str) -> int:
        count = parse_size(text)
        if not 1 <= count <= most:
            raise ValueError(f"expected 1 to {most} bytes")
        return count

    return Parameter(name, about, "SIZE", {"type": "string", "examples": ["64KiB"]}, read)


def flag(name: str, about: str) -> Parameter[bool]:
    """A word that is present or absent."""
    return Parameter(name, about, name, {"type": "boolean"}, lambda _: True)
