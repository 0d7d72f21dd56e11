# -*- test-case-name: tests.logs.test_recording -*-
"""
The form of a record: the sessions of a rule, with their bytes and times, as text.

A record is made of lines, each a JSON object (RFC 8259) in ASCII with a line end behind it. Sessions
that were open at the same time stand mixed, in the order in which things happened. Every line has
``at``, seconds since the epoch, and one more key that says what it is:

===============  ==========================================================================
``"record": 1``  a process began to write; the number is the version of this form, and the
                 numbers of sessions count anew from here
``"session"``    the number of the session that the rest of the line is about:
``"opened"``     …it began; an object of texts says who: ``rule``, ``network``, ``client``,
                 ``local``; ``only`` is the one direction that is recorded, where it is one
``"data"``       …bytes came, in base64 (RFC 4648 section 4); ``"to"`` says whose way:
                 ``upstream`` or ``client``
``"ended"``      …the way ``upstream`` or ``client`` came to its end
``"lost"``       …so many bytes are missing here, because the disk was too slow
``"closed"``     …it is over (``true``)
``"full"``       nothing follows: the file has reached its limit (``true``)
===============  ==========================================================================

Keys that a reader does not know are to be passed over. A last line without its end was torn by
the death of the process, and is passed over too.

This module has the lines and the way back; it opens no file and has no clock.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Iterable, Sequence
from typing import Any, Final

from attrs import define, field, frozen

from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction

#: The version of the form.
VERSION: Final = 1

_NAMES: Final[dict[Direction, str]] = {TO_UPSTREAM: "upstream", TO_CLIENT: "client"}
_DIRECTIONS: Final = {word: direction for direction, word in _NAMES.items()}
#: Year 10000, in seconds since the epoch: later ones have no date.
_LAST: Final = 253_402_300_800
# Made once: json.dumps would make one a line.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


def _line(at: float, **rest: object) -> bytes:
    return _ENCODER.encode({"at": round(at, 6), **rest}).encode("ascii") + b"\n"


def record_line(at: float) -> bytes:
    """A process began to write."""
    return _line(at, record=VERSION)


def opened_line(at: float, session: int, notes: Sequence[tuple[str, str]]) -> bytes:
    """A session began."""
    return _line(at, session=session, opened=dict(notes))


def data_line(at: float, session: int, direction: Direction, data: bytes) -> bytes:
    """Bytes came."""
    text = binascii.b2a_base64(data, newline=False).decode("ascii")
    return _line(at, session=session, to=_NAMES[direction], data=text)


def ended_line(at: float, session: int, direction: Direction) -> bytes:
    """A direction ended."""
    return _line(at, session=session, ended=_NAMES[direction])


def lost_line(at: float, session: int, count: int) -> bytes:
    """So many bytes are missing."""
    return _line(at, session=session, lost=count)


def closed_line(at: float, session: int) -> bytes:
    """A session is over."""
    return _line(at, session=session, closed=True)


def full_line(at: float) -> bytes:
    """The file has reached its limit."""
    return _line(at, full=True)


class BadRecording(ValueError):
    """
    What was read is no record.

    :ivar line: which line, from 1.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line


@frozen
class Chunk:
    """
    Bytes of one direction.

    :ivar at: seconds since the epoch.
    :ivar data: empty: the end of the direction, for streams; a datagram without bytes, where `end` is False.
    :ivar end: the direction ended.
    """

    at: float
    direction: Direction
    data: bytes
    end: bool = False


@define
class RecordedSession:
    """
    One session of a record.

    :ivar number: that of the process which relayed it.
    :ivar opened_at: seconds since the epoch; when the record first tells of it.
    :ivar notes: who it was.
    :ivar chunks: what came, in order.
    :ivar lost: bytes that are missing; more than none: it cannot be played as it was.
    :ivar closed: the record goes on to its end.
    """

    number: int
    opened_at: float
    notes: dict[str, str] = field(factory=dict)
    chunks: list[Chunk] = field(factory=list)
    lost: int = 0
    closed: bool = False

    def size(self, direction: Direction) -> int:
        """Bytes of one direction."""
        return sum(len(chunk.data) for chunk in self.chunks if chunk.direction is direction)

    def knows(self, direction: Direction) -> bool:
        """Whether that direction was recorded."""
        return self.notes.get("only", direction.value) == direction.value


def read_recording(lines: Iterable[bytes]) -> list[RecordedSession]:
    """
    The sessions of a record, in the order in which they began.

    :param lines: with their ends, as a binary file gives them.
    :raises BadRecording: a line is none of a record's.
    """
    sessions: list[RecordedSession] = []
    current: dict[int, RecordedSession] = {}
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            break  # torn: nothing can follow it
        try:
            said = json.loads(line)
            if number == 1 and "record" not in said:
                raise BadRecording(1, "this is no record of portfwd")
            _read_line(said, sessions, current)
        except BadRecording:
            raise
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            problem = "this is no record of portfwd" if number == 1 else "this is no line of a record"
            raise BadRecording(number, problem) from error
    return sessions


def _read_line(
    said: dict[str, Any], sessions: list[RecordedSession], current: dict[int, RecordedSession]
) -> None:
    """:raises ValueError, TypeError, KeyError: it is none of a record's."""
    at = float(said["at"])
    if not 0 <= at < _LAST:
        raise ValueError("no time")
    if "record" in said:
        if said["record"] != VERSION:
            raise ValueError("another version")
        current.clear()
    if "session" not in said:
        return
    number = int(said["session"])
    session = current.get(number)
    if session is None or "opened" in said:
        session = current[number] = RecordedSession(number, at)
        sessions.append(session)
    if "opened" in said:
        session.notes = {key: str(value) for key, value in dict(said["opened"]).items()}
    if "data" in said:
        data = b64decode(said["data"], validate=True)
        session.chunks.append(Chunk(at, _DIRECTIONS[said["to"]], data))
    if "ended" in said:
        session.chunks.append(Chunk(at, _DIRECTIONS[said["ended"]], b"", end=True))
    if "lost" in said:
        session.lost += int(said["lost"])
    if "closed" in said:
        session.closed = True
