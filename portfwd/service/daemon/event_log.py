# -*- test-case-name: tests.service.daemon.test_event_log -*-
"""
twistd's log, whose reader cannot make the forwarder wait.

Twisted writes each event's line at once, in the reactor's thread: a pipe that nobody empties (a stuck
journal, a stopped ``tee``) then stops every session at the next line. Here lines go to a `LineWriter`, which
has a thread and a bounded queue, drops what does not fit, and says how much that was. Lines look as twistd's
do, and a file is rotated as twistd's is: when it has `ROTATE_BYTES`, and at SIGUSR1.

Syslog, and an observer that ``--logger`` names, stay twistd's own.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

from twisted.logger import ILogObserver, LogEvent, formatEventAsClassicLogText, formatTime
from zope.interface import implementer

from portfwd.logs.writer import LineWriter

#: Bytes of a file after which another one is begun: Twisted's own size.
ROTATE_BYTES: Final = 1_000_000

#: Seconds that the last lines have at the end of the process.
LAST_LINES: Final = 2.0

#: Where twistd logs as a daemon unless it is told.
DEFAULT_FILE: Final = "twistd.log"


@implementer(ILogObserver)
class EventLog:
    """Writes events as lines."""

    def __init__(self, target: str | BinaryIO) -> None:
        """
        Open the file; nothing is written before `begin`.

        :param target: a path, or standard output.
        :raises OSError: the file cannot be opened.
        """
        self._writer = LineWriter(
            target,
            self._complain,
            dropped_line=_dropped,
            flush_interval=0.0,
            rotate_bytes=ROTATE_BYTES if isinstance(target, str) else 0,
            held=True,
            drops_are_news=False,
        )

    def __repr__(self) -> str:
        return f"<EventLog {self._writer!r}>"

    def __call__(self, event: LogEvent) -> None:
        """One event."""
        text = formatEventAsClassicLogText(event)
        if text:
            self._writer.write(text.rstrip("\n"))

    def _complain(self, text: str) -> None:
        self._writer.write(_line(text))

    def begin(self) -> None:
        """Write what has come so far, and go on so. After daemonising: threads do not survive a fork."""
        self._writer.begin()

    def reopen(self) -> None:
        """Begin another file, if it is one."""
        self._writer.reopen()

    def flush(self) -> bool:
        """Write what waits, for `LAST_LINES` seconds at most; say whether that was all."""
        return self._writer.flush(LAST_LINES)

    def close(self) -> bool:
        """The same at the end of the process."""
        return self._writer.close(LAST_LINES)


def _line(text: str) -> str:
    return f"{formatTime(time.time())} [portfwd.service.daemon.event_log#warn] {text}"


def _dropped(count: int) -> str:
    return _line(f"{count} lines were dropped here: the log was not read, or not written, fast enough")


def event_log_for(twistd: Mapping[str, Any]) -> EventLog | None:
    """
    The log that twistd's options ask for, closed when the process ends; None where it is to be twistd's own.

    :param twistd: the options before the word ``portfwd``.
    :raises OSError: the file cannot be opened.
    """
    if "logfile" not in twistd or twistd.get("logger") or twistd.get("syslog"):
        return None
    foreground, name = bool(twistd.get("nodaemon")), twistd["logfile"] or ""
    if name == "-" and not foreground:
        return None  # twistd refuses that
    if foreground and name in ("", "-"):
        log = EventLog(sys.stdout.buffer)
    else:
        log = EventLog(os.path.abspath(name or DEFAULT_FILE))
    atexit.register(log.close)
    return log
