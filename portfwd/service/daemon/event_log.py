# -*- test-case-name: tests.service.daemon.test_event_log -*-
"""
twistd's log, whose reader cannot make the forwarder wait.

Twisted writes each event's line at once, in the reactor's thread: a pipe that nobody empties (a stuck
journal, a stopped ``tee``) then stops every session at the next line. Here lines go to a `LineWriter`, which
has a thread and a bounded queue, drops what does not fit, and says how much that was. Lines look as twistd's
do, and a file is rotated as twistd's is: when it has `ROTATE_BYTES`, and at SIGUSR1.

With ``--syslog`` lines go to syslog in the same way, with twistd's priorities. An observer that ``--logger``
names is somebody else's, and is called in the reactor's thread.
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

#: Bytes of a file after which another one is begun: Twisted's own size.
ROTATE_BYTES: Final = 1_000_000

#: Seconds that the last lines have at the end of the process.
LAST_LINES: Final = 2.0

#: Where twistd logs as a daemon unless it is told.
DEFAULT_FILE: Final = "twistd.log"


@implementer(ILogObserver)
class WrittenLog:
    """Writes events as lines, in a thread; nothing is written before `begin`."""

    _writer: LineWriter

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._writer!r}>"

    def __call__(self, event: LogEvent) -> None:
        """One event."""
        raise NotImplementedError

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
            self._complain,
            dropped_line=_dropped,
            flush_interval=0.0,
            rotate_bytes=ROTATE_BYTES if isinstance(target, str) else 0,
            held=True,
            drops_are_news=False,
        )

    def __call__(self, event: LogEvent) -> None:
        """One event."""
        text = formatEventAsClassicLogText(event)
        if text:
            self._writer.write(text.rstrip("\n"))

    def _complain(self, text: str) -> None:
        self._writer.write(_line(text))


class SyslogLog(WrittenLog):
    """Writes to syslog."""

    def __init__(self, send: Callable[[int, str], object]) -> None:
        """:param send: ``syslog.syslog``."""
        self._writer = SyslogWriter(send, _ignore, dropped_line=_dropped_for_syslog, held=True)

    def __call__(self, event: LogEvent) -> None:
        """One event: with LOG_ALERT if it has a traceback, as twistd says it."""
        text = formatEventAsClassicLogText(event, formatTime=_no_time)
        if text:
            priority = ALERT if event.get("log_failure") is not None else INFO
            self._writer.write(with_priority(priority, text.strip("\n ")))


def _ignore(text: str) -> None:
    """Syslog has nothing that could be complained of."""


def _no_time(when: float | None) -> str:
    """Syslog writes the time itself."""
    return ""


def _dropped_for_syslog(count: int) -> str:
    return with_priority(WARNING, _dropped(count).partition(" ")[2])


def _line(text: str) -> str:
    return f"{formatTime(time.time())} [portfwd.service.daemon.event_log#warn] {text}"


def _dropped(count: int) -> str:
    return _line(f"{counted(count, 'line')} dropped here: the log was not read, or not written, fast enough")


def event_log_for(twistd: Mapping[str, Any]) -> WrittenLog | None:
    """
    The log that twistd's options ask for, closed when the process ends; None where it is to be twistd's own.

    :param twistd: the options before the word ``portfwd``.
    :raises OSError: the file cannot be opened.
    """
    if "logfile" not in twistd or twistd.get("logger"):
        return None
    if twistd.get("syslog"):
        # There is no such module on every platform, nor this option of twistd.
        import syslog

        syslog.openlog(twistd.get("prefix") or "")
        log: WrittenLog = SyslogLog(syslog.syslog)
        atexit.register(log.close)
        return log
    foreground, name = bool(twistd.get("nodaemon")), twistd["logfile"] or ""
    if name == "-" and not foreground:
        return None  # twistd refuses that
    if foreground and name in ("", "-"):
        log = EventLog(sys.stdout.buffer)
    else:
        log = EventLog(os.path.abspath(name or DEFAULT_FILE))
    atexit.register(log.close)
    return log
