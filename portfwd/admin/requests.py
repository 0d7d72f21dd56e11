# -*- test-case-name: tests.admin.test_requests -*-
"""
Reads and writes requests of the control socket. A request is one line of words.

::

    sessions rule=web sort=bytes limit=20
    faults lab 1 set delay=100ms

Words and ``KEY=VALUE`` have the syntax of a rules file: blanks separate them, and double quotes enclose words
with blanks. Lines that are too long, not UTF-8, or contain invisible characters are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import field, frozen

from portfwd.rules.tokens import Line, WordFault, find_bad_character, spell, spell_value

#: Maximum bytes of a line: enough for a dozen of the longest useful words.
MAX_LINE: Final = 4096


class RequestError(ValueError):
    """
    A line is not valid.

    :ivar code: code of the error for programs.
    :ivar hint: the remedy, or an empty text.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


@frozen
class Request:
    """
    A request.

    :ivar words: the words after the command.
    :ivar options: the ``KEY=VALUE`` words.
    """

    command: str
    words: tuple[str, ...] = ()
    options: Mapping[str, str] = field(factory=dict)


def read_request(line: bytes) -> Request | None:
    """
    Parse a line without its line end.

    :returns: None for a line without words.
    :raises RequestError: the line is not valid.
    """
    if len(line) > MAX_LINE:
        raise RequestError("line-too-long", f"a request has at most {MAX_LINE} bytes")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError("bad-request", "a request must be UTF-8 text") from None
    try:
        words = Line("request", 1, text).words()
    except WordFault as fault:
        raise RequestError("bad-request", fault.message, fault.hint) from None
    if not words:
        return None
    plain: list[str] = []
    options: dict[str, str] = {}
    for word in words[1:]:
        item = word.option()
        if item is None:
            plain.append(word.text)
        elif item[0] in options:
            raise RequestError("bad-request", f"{item[0]}= is given twice")
        else:
            options[item[0]] = item[1].text
    return Request(words[0].text, tuple(plain), options)


def write_request(command: str, words: Sequence[str] = (), options: Mapping[str, str] | None = None) -> bytes:
    """
    The line of a request with its line end. It is the inverse of `read_request`.

    :raises RequestError: a word contains characters that are not allowed, or the line is too long.
    """
    parts = [command, *(spell(word) for word in words)]
    parts += [f"{key}={spell_value(value)}" for key, value in (options or {}).items()]
    text = " ".join(parts)
    fault = find_bad_character(text)
    if fault is not None:
        raise RequestError("bad-request", fault.message, fault.hint)
    try:
        line = text.encode("utf-8")
    except UnicodeEncodeError:
        raise RequestError("bad-request", "a request must be UTF-8 text") from None
    if len(line) > MAX_LINE:
        raise RequestError("line-too-long", f"a request has at most {MAX_LINE} bytes")
    return line + b"\n"
