# -*- test-case-name: tests.testing.test_script -*-
r"""
The language of scripted peers: one step per line, as values and as text.

=====================================  ==========================================================
text                                   means
=====================================  ==========================================================
``send 1MiB``                          write that much of the peer's own checked stream
``send 64KiB in writes of 1-7``        the same, each write of 1 to 7 bytes
``send "text\\r\\n"``                  write these bytes (Python's escapes)
``send up to 50MiB``                   write until so much has been sent in all
``offer 64MiB``                        ``send``, but the other side may refuse the rest
``fill``                               write until the socket has taken nothing for 300 ms
``drip 5 every 200ms``                 write single bytes, that far apart
``end``                                no more will be sent: FIN, reading goes on
``reset``                              RST (``SO_LINGER`` 1,0 and close); on a unix socket a close
``close``                              close, whatever is unread
``stop reading``, ``resume reading``   a peer reads all the time, except between these two
``expect 1MiB``, ``expect "text"``     the next bytes, so many or just these
``expect end``, ``expect reset``       no byte more, then FIN, or RST
``expect nothing for 300ms``           neither bytes nor an end come in that time
``read to end``, ``read to reset``     any number of (checked) bytes, then FIN, or RST
``read to close``                      any number of (checked) bytes, then either
``say NAME``, ``hear NAME``            mark a point; wait until another peer of the conversation said it
=====================================  ==========================================================

Sizes and durations are written as in rules files. A step may end with ``within 2s``, which replaces the
deadline of the conversation. Steps are values; `portfwd.testing.peers` performs them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Final

from attrs import evolve, field, frozen

from portfwd.quantities import format_duration, format_size, parse_duration, parse_size

#: Seconds without a successful write after which a peer counts as blocked.
BLOCKED_AFTER: Final = 0.3


class ScriptError(ValueError):
    """A line is not a step; the text names the line and the error."""


@frozen(kw_only=True)
class Step:
    """
    One line of a script.

    :ivar within: maximum seconds for this step; None: the default of the conversation.
    """

    within: float | None = field(default=None)

    def __str__(self) -> str:
        limit = "" if self.within is None else f" within {format_duration(self.within)}"
        return self._text() + limit

    def _text(self) -> str:
        raise NotImplementedError


@frozen
class Send(Step):
    """
    Write bytes.

    :ivar what: a number of bytes of the peer's stream, or the bytes themselves.
    :ivar writes_of: smallest and largest size of one write; None: as large as possible.
    :ivar may_fail: whether the other side may refuse the rest (``offer``).
    """

    what: int | bytes
    writes_of: tuple[int, int] | None = None
    may_fail: bool = False

    def _text(self) -> str:
        verb = "offer" if self.may_fail else "send"
        sizes = ""
        if self.writes_of is not None:
            low, high = self.writes_of
            sizes = f" in writes of {low}" if low == high else f" in writes of {low}-{high}"
        return f"{verb} {_what_text(self.what)}{sizes}"


@frozen
class SendUpTo(Step):
    """Write bytes of the peer's stream until `total` bytes have been sent since the start."""

    total: int

    def _text(self) -> str:
        return f"send up to {format_size(self.total)}"


@frozen
class Fill(Step):
    """Write until the socket accepts nothing for `BLOCKED_AFTER`: all buffers to the other peer are full."""

    def _text(self) -> str:
        return "fill"


@frozen
class Drip(Step):
    """Write `count` single bytes, one every `every` seconds."""

    count: int
    every: float

    def _text(self) -> str:
        return f"drip {self.count} every {format_duration(self.every)}"


@frozen
class ScriptEnd(Step):
    """``shutdown(SHUT_WR)``: the peer sends no more and continues to read."""

    def _text(self) -> str:
        return "end"


@frozen
class ScriptReset(Step):
    """Abort the connection."""

    def _text(self) -> str:
        return "reset"


@frozen
class ScriptClose(Step):
    """Close the socket. If it has unread bytes, the kernel sends RST."""

    def _text(self) -> str:
        return "close"


@frozen
class StopReading(Step):
    """Do not read any more."""

    def _text(self) -> str:
        return "stop reading"


@frozen
class ResumeReading(Step):
    """Read again."""

    def _text(self) -> str:
        return "resume reading"


@frozen
class Expect(Step):
    """Expect the next bytes: a number of bytes of the other peer, or exactly these bytes."""

    what: int | bytes

    def _text(self) -> str:
        return f"expect {_what_text(self.what)}"


@frozen
class ExpectNothing(Step):
    """Expect neither a byte nor an end for `seconds`."""

    seconds: float

    def _text(self) -> str:
        return f"expect nothing for {format_duration(self.seconds)}"


@frozen
class ExpectClose(Step):
    """
    Expect the end of the other side.

    :ivar kind: ``end`` (FIN), ``reset`` (RST) or ``close`` (either).
    :ivar rest: whether further bytes may arrive before it.
    """

    kind: str
    rest: bool = False

    def _text(self) -> str:
        return f"{'read to' if self.rest else 'expect'} {self.kind}"


@frozen
class Say(Step):
    """Set a mark of the conversation."""

    name: str

    def _text(self) -> str:
        return f"say {self.name}"


@frozen
class Hear(Step):
    """Wait until a peer of the conversation has set the mark `name`."""

    name: str

    def _text(self) -> str:
        return f"hear {self.name}"


def _what_text(what: int | bytes) -> str:
    if isinstance(what, int):
        return format_size(what)
    return '"' + what.decode("latin-1").encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'


def _what(text: str) -> int | bytes:
    """Read a size, or bytes in double quotes with Python's escapes."""
    if text.startswith('"'):
        value = ast.literal_eval("b" + text)
        if not isinstance(value, bytes):
            raise ValueError("expected one text in double quotes")
        return value
    return parse_size(text)


def _writes(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    low, _, high = text.partition("-")
    sizes = (int(low), int(high or low))
    if not 1 <= sizes[0] <= sizes[1]:
        raise ValueError("expected write sizes such as 1 or 1-7")
    return sizes


def _forms() -> list[tuple[str, Callable[[re.Match[str]], Step]]]:
    """Return all forms of steps, the most specific ones first."""
    what = r'("(?:[^"\\]|\\.)*"|\S+)'
    return [
        (r"send up to (\S+)", lambda m: SendUpTo(parse_size(m[1]))),
        (
            rf"(send|offer) {what}(?: in writes of (\d+(?:-\d+)?))?",
            lambda m: Send(_what(m[2]), _writes(m[3]), m[1] == "offer"),
        ),
        (r"fill", lambda m: Fill()),
        (r"drip (\d+) every (\S+)", lambda m: Drip(int(m[1]), parse_duration(m[2]))),
        (r"end", lambda m: ScriptEnd()),
        (r"reset", lambda m: ScriptReset()),
        (r"close", lambda m: ScriptClose()),
        (r"stop reading", lambda m: StopReading()),
        (r"resume reading", lambda m: ResumeReading()),
        (r"expect nothing for (\S+)", lambda m: ExpectNothing(parse_duration(m[1]))),
        (r"(expect|read to) (end|reset|close)", lambda m: ExpectClose(m[2], m[1] == "read to")),
        (rf"expect {what}", lambda m: Expect(_what(m[1]))),
        (r"say (\w+)", lambda m: Say(m[1])),
        (r"hear (\w+)", lambda m: Hear(m[1])),
    ]


def parse_step(text: str) -> Step:
    """
    Read one line of a script.

    :raises ScriptError: the line is not a step.
    """
    line = text.strip()
    within = None
    try:
        limit = re.fullmatch(r"(.*\S)\s+within (\S+)", line, re.DOTALL)
        if limit is not None and not limit[2].endswith('"'):
            line, within = limit[1], parse_duration(limit[2])
        for form, make in _forms():
            match = re.fullmatch(form, line, re.DOTALL)
            if match is not None:
                return evolve(make(match), within=within)
    except (ValueError, SyntaxError) as error:
        raise ScriptError(f"{text!r}: {error}") from error
    raise ScriptError(f"{text!r} is no step of a script")


def parse_script(text: str) -> tuple[Step, ...]:
    """
    Read a script: one step per line. Blank lines and lines that start with ``#`` are skipped.

    :raises ScriptError: a line is not a step; the text names the first one.
    """
    lines = (line.strip() for line in text.splitlines())
    return tuple(parse_step(line) for line in lines if line and not line.startswith("#"))
