# -*- test-case-name: tests.service.run.test_session_log -*-
"""
The access log of the process, by the rules file, and its replacement by a reload.

A log that cannot be opened is a warning at the start, as with rinetd, because forwarding is more important.
At a reload it is an error, because the old rules continue.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import BinaryIO

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from portfwd.logs.access_log import AccessLog, dropped_line
from portfwd.logs.writer import LineWriter
from portfwd.rules.model import AccessLogFormat as Form
from portfwd.rules.model import LogSpec

#: Warning if lines have no destination.
NO_OUTPUT = "a daemon has no standard output: no access log without 'log file=PATH'"

Opened = tuple[AccessLog | None, LineWriter | None]


@frozen
class Silent:
    """A session log that writes nothing."""

    wants_opened: bool = False
    wants_closed: bool = False

    def opened(self, summary: object) -> None:
        """Do nothing."""

    def closed(self, summary: object) -> None:
        """Do nothing."""


def describe(spec: LogSpec, problem: OSError) -> str:
    """The reason why the log cannot be opened, in one line, with the remedy for a FIFO without a reader."""
    reason = problem.strerror or str(problem)
    if problem.errno == errno.ENXIO:
        reason = "no process reads this FIFO; start its reader first, or name a file"
    return f"access log {spec.file or 'on standard output'}: {reason}"


def open_log(spec: LogSpec, output: BinaryIO | None, clock: IReactorTime | None = None) -> Opened:
    """
    Open the access log and its writer. None for both if there is no log, or no destination.

    :param output: standard output; None for a daemon.
    :param clock: see `AccessLog`.
    :raises OSError: it cannot be opened.
    """
    form = Form.TEXT if spec.access is None else spec.access
    log = Logger()
    target = output if spec.file is None else os.path.abspath(spec.file)
    if form is Form.OFF or target is None:
        return None, None
    writer = LineWriter(
        target,
        lambda trouble: log.warn("access log: {trouble}", trouble=trouble),
        dropped_line=dropped_line(form),
    )
    clock = None if spec.repeats else clock
    log_of_form = AccessLog(form, writer, time.localtime, clock=clock, probes=spec.probes, opened=spec.opened)
    return log_of_form, writer


def try_log(spec: LogSpec) -> None:
    """
    Check whether `open_log` could open the file, without making it.

    :raises OSError: it could not.
    """
    if spec.file is None or spec.access is Form.OFF:
        return
    path = os.path.abspath(spec.file)
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)
    try:
        os.close(os.open(path, flags))
    except FileNotFoundError:
        directory = os.path.dirname(path)
        os.stat(directory)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None


def lacks_output(spec: LogSpec, *, foreground: bool) -> bool:
    """Whether there is a log without a destination."""
    return spec.access is not Form.OFF and spec.file is None and not foreground


class LogInUse:
    """
    The current access log.

    :ivar spec: its settings in the rules file.
    :ivar log: the log; None for none.
    :ivar writer: its writer; None for none.
    :ivar is_missing: whether its file could not be opened, so that nothing is written.
    """

    def __init__(self, spec: LogSpec, *, foreground: bool, clock: IReactorTime | None = None) -> None:
        """
        :param foreground: whether there is a standard output.
        :param clock: see `AccessLog`.
        """
        self.spec = spec
        self._clock = clock
        self._foreground = foreground
        # Stored now, because twistd replaces sys.stdout by its log when it runs.
        self._output: BinaryIO | None = getattr(sys.stdout, "buffer", None) if foreground else None
        self.warning = NO_OUTPUT if lacks_output(spec, foreground=foreground) else ""
        self.log: AccessLog | None = None
        self.writer: LineWriter | None = None
        try:
            self.log, self.writer = open_log(spec, self._output, clock)
        except OSError as problem:
            self.warning = f"{describe(spec, problem)}; going on without"
        self.is_missing = bool(self.warning) and self.warning != NO_OUTPUT

    def __repr__(self) -> str:
        return f"<LogInUse {self.writer!r}>"

    def open_other(self, spec: LogSpec) -> Opened:
        """
        Open the log of `spec`, beside the current one.

        :raises OSError: it cannot be opened.
        """
        return open_log(spec, self._output, self._clock)

    def exchange(self, spec: LogSpec, opened: Opened) -> str:
        """
        Use `opened` from now on. Waiting lines of the old log are still written.

        :returns: a warning, or an empty text.
        """
        old = self.writer
        if self.log is not None:
            self.log.flush()
        self.spec, (self.log, self.writer) = spec, opened
        self.is_missing = False
        if old is not None:
            # Its thread writes the rest and closes the file in the background.
            old.close(0)
        return NO_OUTPUT if lacks_output(spec, foreground=self._foreground) else ""

    def reopen(self) -> AccessLog | None:
        """
        Open the file again by its name, after it was renamed, or because it could not be opened before.

        :returns: the log that was missing before, which the rules have to use; else None.
        """
        if self.writer is not None:
            self.writer.reopen()
        if not self.is_missing:
            return None
        try:
            self.log, self.writer = open_log(self.spec, self._output, self._clock)
        except OSError as problem:
            Logger().warn("{trouble}; going on without", trouble=describe(self.spec, problem))
            return None
        self.is_missing = False
        return self.log

    def close(self, timeout: float) -> None:
        """Write the last lines within `timeout` seconds."""
        if self.log is not None:
            self.log.flush()
        if self.writer is not None:
            self.writer.close(timeout)
