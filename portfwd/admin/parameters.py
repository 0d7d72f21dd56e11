# -*- test-case-name: tests.admin.test_parameters -*-
"""
What commands take: names, how a text is read, and what it may be, for people and as a JSON schema.

The control socket reads requests by them, and the web API's description is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from attrs import frozen

from portfwd.admin.operator import OperatorError
from portfwd.values import direction_word, parse_duration, parse_size

T = TypeVar("T")
Schema = Mapping[str, Any]

#: The largest number of a session that is read: more digits than any forwarder counts to.
MAX_ID: Final = 10**18
#: Characters of a text: a request is a line of 4096 bytes.
MAX_TEXT: Final = 1024


@frozen
class Parameter(Generic[T]):
    """
    One thing that a command takes.

    :ivar name: of the option, or of the word in JSON.
    :ivar hint: what usages show for a value.
    :ivar schema: what JSON may have.
    :ivar read: the value of a text; raises `ValueError`.
    """

    name: str
    about: str
    hint: str
    schema: Schema
    read: Callable[[str], T]

    def value(self, text: str) -> T:
        """
        Read `text`.

        :raises OperatorError: it is not good.
        """
        try:
            return self.read(text)
        except ValueError as error:
            raise OperatorError("bad-request", f"bad value for {self.name}=: {error}") from None


def whole(name: str, about: str, least: int, most: int, hint: str = "") -> Parameter[int]:
    """A number."""

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
            raise ValueError(f"a session is called by its number, not by {text[:20]!r}")
        return int(text)

    return Parameter(name, about, "ID", {"type": "integer", "minimum": 0, "maximum": MAX_ID - 1}, read)


def choice(name: str, about: str, *words: str) -> Parameter[str]:
    """One of `words`; a direction among them has a short form too."""

    def read(text: str) -> str:
        word = text if text in words else direction_word(text)
        if word not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return word

    return Parameter(name, about, "|".join(words), {"type": "string", "enum": list(words)}, read)


def text(name: str, about: str, hint: str = "") -> Parameter[str]:
    """Any words."""
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
    return Parameter(name, about, hint or name.upper(), schema, str)


def duration(name: str, about: str, least: float, most: float, hint: str) -> Parameter[float]:
    """A time, in seconds."""

    def read(text: str) -> float:
        seconds = parse_duration(text)
        if not least <= seconds <= most:
            raise ValueError(f"expected {least:g} to {most:g} seconds")
        return seconds

    return Parameter(name, about, hint, {"type": "string", "examples": ["1s", "500ms"]}, read)


def size(name: str, about: str, most: int) -> Parameter[int]:
    """Bytes, at least one."""

    def read(text: str) -> int:
        count = parse_size(text)
        if not 1 <= count <= most:
            raise ValueError(f"expected 1 to {most} bytes")
        return count

    return Parameter(name, about, "SIZE", {"type": "string", "examples": ["64KiB"]}, read)


def flag(name: str, about: str) -> Parameter[bool]:
    """A word that is there or not."""
    return Parameter(name, about, name, {"type": "boolean"}, lambda _: True)
