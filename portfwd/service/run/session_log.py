# -*- test-case-name: tests.service.run.test_session_log -*-
"""
The access log of a process, as the rules file wants it, and as a reload may want it instead.

A log that cannot be had is a warning at the start, as with rinetd, because
traffic matters more. At a reload it is an error: traffic goes on in any case.
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

#: What is said where lines have nowhere to go.
NO_OUTPUT = "a daemon has no standard output: no access log without 'log file=PATH'"

Opened = tuple[AccessLog | None, LineWriter | None]


@frozen
class Silent:
    """A session log that writes nothing."""

    wants_opened: bool = False
    wants_closed: bool = False

    def opened(self, summary: object) -> None:
        """Nothing."""

    def closed(self, summary: object) -> None:
        """Nothing."""


def describe(spec: LogSpec, problem: OSError) -> str:
    """Why the log cannot be had, in one line."""
    return f"access log {spec.file or 'on standard output'}: {problem.strerror or problem}"


def open_log(spec: LogSpec, output: BinaryIO | None, clock: IReactorTime | None = None) -> Opened:
    """
    The access log and its writer; neither where none is asked for, or where it has nowhere to go.

    :param output: standard output; None for a daemon, which has none.
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
    See whether `open_log` could open the file, without making it.

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
    """Whether lines are asked for that have nowhere to go."""
    return spec.access is not Form.OFF and spec.file is None and not foreground


class LogInUse:
    """
    The access log that sessions write to now.

    :ivar spec: what the rules file says of it.
    :ivar log: None where nothing is written.
    :ivar writer: likewise.
    """

    def __init__(self, spec: LogSpec, *, foreground: bool, clock: IReactorTime | None = None) -> None:
        """
        :param foreground: whether there is a standard output.
        :param clock: see `AccessLog`.
        """
        self.spec = spec
        self._clock = clock
        self._foreground = foreground
        # Taken now: twistd puts a file of its own log in the place of sys.stdout when it runs.
        self._output: BinaryIO | None = getattr(sys.stdout, "buffer", None) if foreground else None
        self.warning = NO_OUTPUT if lacks_output(spec, foreground=foreground) else ""
        self.log: AccessLog | None = None
        self.writer: LineWriter | None = None
        try:
            self.log, self.writer = open_log(spec, self._output, clock)
        except OSError as problem:
            self.warning = f"{describe(spec, problem)}; going on without"

    def __repr__(self) -> str:
        return f"<LogInUse {self.writer!r}>"

    def open_other(self, spec: LogSpec) -> Opened:
        """
        Open the log that `spec` asks for, beside the one in use.

        :raises OSError: it cannot be opened.
        """
        return open_log(spec, self._output, self._clock)

    def exchange(self, spec: LogSpec, opened: Opened) -> str:
        """
        Use `opened` from now on; what waits to be written to the old one still is.

        :returns: a warning, or empty.
        """
        old = self.writer
        if self.log is not None:
            self.log.flush()
        self.spec, (self.log, self.writer) = spec, opened
        if old is not None:
            # Its thread writes the rest and closes the file; nobody waits for it.
            old.close(0)
        return NO_OUTPUT if lacks_output(spec, foreground=self._foreground) else ""

    def reopen(self) -> None:
        """Open the file again by its name: the old one was moved away."""
        if self.writer is not None:
            self.writer.reopen()

    def close(self, timeout: float) -> None:
        """Write the last lines, for `timeout` seconds at most."""
        if self.log is not None:
            self.log.flush()
        if self.writer is not None:
            self.writer.close(timeout)
