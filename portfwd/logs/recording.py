# -*- test-case-name: tests.logs.test_recording -*-
"""
The format of a recording: the sessions of a rule with their bytes and times, as text.

A recording consists of lines. Each line is a JSON object (RFC 8259) in ASCII. Lines of simultaneous sessions
are mixed, in order of time. Every line has ``at``, in seconds since the epoch, and one key that tells its
kind:

===============  ==========================================================================
``"record": 1``  a process started to write; the value is the version of the format. The
                 numbers of sessions start again from here
``"session"``    the number of the session to which the rest of the line belongs:
``"opened"``     the session began; an object with the texts ``rule``, ``network``,
                 ``client`` and ``local``, and ``only`` if one direction is recorded
``"data"``       bytes in base64 (RFC 4648 section 4); ``"to"`` is their direction,
                 ``upstream`` or ``client``
``"ended"``      the direction ``upstream`` or ``client`` ended
``"lost"``       number of bytes missing here, because the disk was too slow
``"closed"``     the session ended (``true``)
``"full"``       the file has reached its limit, nothing follows (``true``)
===============  ==========================================================================

Readers ignore unknown keys. They also ignore a last line without a line end, which is incomplete because the
process died.

This module formats and parses lines. It opens no file and has no clock.
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
# Made once: json.dumps would make an encoder for each line.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


def _line(at: float, **rest: object) -> bytes:
    return _ENCODER.encode({"at": round(at, 6), **rest}).encode("ascii") + b"\n"


def record_line(at: float) -> bytes:
    """The line of a process that starts to write."""
    return _line(at, record=VERSION)


def opened_line(at: float, session: int, notes: Sequence[tuple[str, str]]) -> bytes:
    """The line of a session that begins."""
    return _line(at, session=session, opened=dict(notes))


def data_line(at: float, session: int, direction: Direction, data: bytes) -> bytes:
    """The line of received bytes."""
    text = binascii.b2a_base64(data, newline=False).decode("ascii")
    return _line(at, session=session, to=_NAMES[direction], data=text)


def ended_line(at: float, session: int, direction: Direction) -> bytes:
    """The line of a direction that ended."""
    return _line(at, session=session, ended=_NAMES[direction])


def lost_line(at: float, session: int, count: int) -> bytes:
    """The line of bytes that are missing."""
    return _line(at, session=session, lost=count)


def closed_line(at: float, session: int) -> bytes:
    """The line of a session that ended."""
    return _line(at, session=session, closed=True)


def full_line(at: float) -> bytes:
    """The last line of a file that has reached its limit."""
    return _line(at, full=True)


class BadRecording(ValueError):
    """
    The input is not a recording.

    :ivar line: number of the line, from 1.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line


@frozen
class Chunk:
    """
    Bytes of one direction.

    :ivar at: seconds since the epoch.
    :ivar data: the bytes. Empty at the end of a direction, and for an empty datagram (`end` is False).
    :ivar end: the direction ended.
    """

    at: float
    direction: Direction
    data: bytes
    end: bool = False


@define
class RecordedSession:
    """
    One session of a recording.

    :ivar number: its number in the process that relayed it.
    :ivar opened_at: time of its first line, in seconds since the epoch.
    :ivar notes: its rule and addresses.
    :ivar chunks: its bytes, in order.
    :ivar lost: number of missing bytes. If any are missing, the session cannot be replayed exactly.
    :ivar closed: whether the recording contains its end.
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
    Parse the sessions of a recording, in the order in which they began.

    :param lines: lines with their ends, as from a binary file.
    :raises BadRecording: a line is not one of a recording.
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
