# -*- test-case-name: tests.admin.test_requests -*-
"""
A request of the control socket: one line of words, written and read.

::

    sessions rule=web sort=bytes limit=20
    faults lab 1 set delay=100ms

Words and ``KEY=VALUE`` stand as in a rules file: with blanks between them, in double quotes
where they hold blanks. It refuses lines that are too long, no UTF-8, or hold what nobody can see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import field, frozen

from portfwd.rules.tokens import Line, WordFault, find_bad_character, spell, spell_value

#: Bytes of a line: a dozen of the longest words that mean anything.
MAX_LINE: Final = 4096


class RequestError(ValueError):
    """
    A line cannot be understood.

    :ivar code: a word for programs.
    :ivar hint: the way out, or empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


@frozen
class Request:
    """
    What is asked for.

    :ivar words: those behind the command.
    :ivar options: what is given as ``KEY=VALUE``.
    """

    command: str
    words: tuple[str, ...] = ()
    options: Mapping[str, str] = field(factory=dict)


def read_request(line: bytes) -> Request | None:
    """
    Read a line, without its end.

    :returns: None for a line without words.
    :raises RequestError: it is none.
    """
    if len(line) > MAX_LINE:
        raise RequestError("line-too-long", f"a request has at most {MAX_LINE} bytes")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError("bad-request", "a request is UTF-8 text") from None
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
    The line that `read_request` reads back, with its end.

    :raises RequestError: a word holds what a line cannot.
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
        raise RequestError("bad-request", "a request is UTF-8 text") from None
    if len(line) > MAX_LINE:
        raise RequestError("line-too-long", f"a request has at most {MAX_LINE} bytes")
    return line + b"\n"
