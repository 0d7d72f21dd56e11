# -*- test-case-name: tests.service.daemon.test_event_log -*-
"""
Writes twistd's log in a thread, so that a slow reader of the log does not block the forwarder.

Twisted writes the line of each event in the reactor thread. If nobody reads the pipe (a stuck journal, a
stopped ``tee``), the next line blocks all sessions. This module passes lines to a `LineWriter` with a thread
and a bounded queue. It drops lines that do not fit, and logs their number. Format and rotation are those of
twistd: a file is rotated when it has `ROTATE_BYTES`, and at SIGUSR1.

With ``--syslog`` lines go to syslog in the same way, with twistd's priorities. An observer of ``--logger`` is
third-party code and is called in the reactor thread.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final

from twisted.logger import ILogObserver, LogEvent, formatEventAsClassicLogText, formatTime
from zope.interface import implementer

from portfwd.logs.syslog_writer import ALERT, INFO, WARNING, SyslogWriter, with_priority
from portfwd.logs.writer import LineWriter
from portfwd.values import counted

#: Size in bytes at which the file is rotated: the default of Twisted.
ROTATE_BYTES: Final = 1_000_000

#: Maximum seconds for writing the last lines at the end of the process.
LAST_LINES: Final = 2.0

#: The default log file of twistd as a daemon.
DEFAULT_FILE: Final = "twistd.log"


@implementer(ILogObserver)
class WrittenLog:
    """Writes events as lines in a thread. Nothing is written before `begin`."""

    _writer: LineWriter

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._writer!r}>"

    def __call__(self, event: LogEvent) -> None:
        """See `ILogObserver`."""
        raise NotImplementedError

    def begin(self) -> None:
        """Start the thread, which writes the queued lines first. Call it after a fork, which ends threads."""
        self._writer.begin()

    def reopen(self) -> None:
        """Rotate the log if it is a file."""
        self._writer.reopen()

    def flush(self) -> bool:
        """Write the queued lines within `LAST_LINES` seconds; return whether all were written."""
        return self._writer.flush(LAST_LINES)

    def close(self) -> bool:
        """Flush and stop the thread at the end of the process; return whether all lines were written."""
        return self._writer.close(LAST_LINES)


class EventLog(WrittenLog):
    """Writes to a file."""

    def __init__(self, target: str | BinaryIO) -> None:
        """
        Open the file.

        :param target: a path, or standard output.
        :raises OSError: the file cannot be opened.
        """
        self._writer = LineWriter(
            target,
            self._write_warning,
            dropped_line=_dropped,
            flush_interval=0.0,
            rotate_bytes=ROTATE_BYTES if isinstance(target, str) else 0,
            held=True,
            drops_are_news=False,
        )

    def __call__(self, event: LogEvent) -> None:
        """See `ILogObserver`."""
        text = formatEventAsClassicLogText(event)
        if text:
            self._writer.write(text.rstrip("\n"))

    def _write_warning(self, text: str) -> None:
        self._writer.write(_line(text))


class SyslogLog(WrittenLog):
    """Writes to syslog."""

    def __init__(self, send: Callable[[int, str], object]) -> None:
        """:param send: ``syslog.syslog``."""
        self._writer = SyslogWriter(send, _ignore, dropped_line=_dropped_for_syslog, held=True)

    def __call__(self, event: LogEvent) -> None:
        """See `ILogObserver`. As in twistd, an event with a traceback has the priority LOG_ALERT."""
        text = formatEventAsClassicLogText(event, formatTime=_no_time)
        if text:
            priority = ALERT if event.get("log_failure") is not None else INFO
            self._writer.write(with_priority(priority, text.strip("\n ")))


def _ignore(text: str) -> None:
    """Drop a warning of the writer; writing to syslog causes none."""


def _no_time(when: float | None) -> str:
    """Return no time, because syslog adds it."""
    return ""


def _dropped_for_syslog(count: int) -> str:
    return with_priority(WARNING, _dropped(count).partition(" ")[2])


def _line(text: str) -> str:
    return f"{formatTime(time.time())} [portfwd.service.daemon.event_log#warn] {text}"


def _dropped(count: int) -> str:
    return _line(f"{counted(count, 'line')} dropped here: the log was not read, or not written, fast enough")


def event_log_for(twistd: Mapping[str, Any]) -> WrittenLog | None:
    """
    The log that twistd's options configure. It is closed when the process ends.

    :param twistd: the options before the word ``portfwd``.
    :returns: None if twistd itself writes the log.
    :raises OSError: the file cannot be opened.
    """
    if "logfile" not in twistd or twistd.get("logger"):
        return None
    if twistd.get("syslog"):
        # Some platforms have neither this module nor this option of twistd.
        import syslog

        syslog.openlog(twistd.get("prefix") or "")
        log: WrittenLog = SyslogLog(syslog.syslog)
        atexit.register(log.close)
        return log
    foreground, name = bool(twistd.get("nodaemon")), twistd["logfile"] or ""
    if name == "-" and not foreground:
        return None  # twistd refuses this combination
    if foreground and name in ("", "-"):
        log = EventLog(sys.stdout.buffer)
    else:
        log = EventLog(os.path.abspath(name or DEFAULT_FILE))
    atexit.register(log.close)
    return log
