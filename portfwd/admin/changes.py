# -*- test-case-name: tests.admin.test_changes -*-
"""
The latest lines of portfwd's own log, for operators: reloads, states of targets, actions of operators.

A `ChangeLog` observes Twisted's log. It keeps a bounded number of lines as text, without the events. Lines of
other programs in this process and lines for debugging are left out; access lines are not part of this log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from attrs import frozen
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

from portfwd.values import printable

#: Maximum number of lines: several hours of a quiet forwarder.
KEPT: Final = 500
#: Maximum characters of a line. Longer lines are truncated.
LONGEST: Final = 500


@frozen
class LoggedLine:
    """
    One line.

    :ivar number: counts from 1.
    :ivar time: seconds since the epoch.
    :ivar level: ``info``, ``warn``, ``error`` or ``critical``.
    """

    number: int
    time: float
    level: str
    text: str


@implementer(ILogObserver)
class ChangeLog:
    """
    Keeps the latest lines.

    :ivar last: the number of the latest line; 0 before the first.
    """

    def __init__(self) -> None:
        self._kept: deque[LoggedLine] = deque(maxlen=KEPT)
        self.last = 0

    def __repr__(self) -> str:
        return f"<ChangeLog {len(self._kept)} of {self.last}>"

    def __call__(self, event: LogEvent) -> None:
        """See `ILogObserver`."""
        level = event.get("log_level", LogLevel.info)
        if level is LogLevel.debug or not str(event.get("log_namespace", "")).startswith("portfwd."):
            return
        self.last += 1
        line = printable(formatEvent(event))
        line = line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
        self._kept.append(LoggedLine(self.last, float(event.get("log_time", 0.0)), level.name, line))

    def since(self, number: int) -> Iterator[LoggedLine]:
        """The kept lines with larger numbers, the oldest first."""
        return (one for one in tuple(self._kept) if one.number > number)
