# -*- test-case-name: tests.logs.test_access_log -*-
"""
The access log: a session's summary in, lines out, in the form the rules file asks for.

`text` and `json` write one line a session, when it has closed; `rinetd` and
`common` write one for the opening too, as rinetd does. It keeps no state and
writes to whatever has a ``write``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, Protocol

from portfwd.logs.json_lines import json_line
from portfwd.logs.rinetd import LocalTime, common_line, tab_line
from portfwd.logs.text import text_line
from portfwd.rules.model import AccessLog as Form
from portfwd.values import SessionSummary

_RINETD: Final = {Form.RINETD: tab_line, Form.COMMON: common_line}


class Lines(Protocol):
    """Where lines go: a `LineWriter`, or a test's list."""

    def write(self, line: str) -> None:
        """Take a line, without its end, and do not block."""


class AccessLog:
    """
    Writes what sessions did.

    Call `opened` when an upstream has been reached and `closed` once for
    every session, also for those that were refused.
    """

    __slots__ = ("_closed", "_opened", "form")

    def __init__(self, form: Form, writer: Lines, localtime: LocalTime) -> None:
        """
        Choose the form.

        :param localtime: seconds since the epoch to local time, for rinetd's formats.
        """
        self.form = form
        write = writer.write
        self._opened: Callable[[SessionSummary], None] | None = None
        self._closed: Callable[[SessionSummary], None] | None = None
        if form in _RINETD:
            line = _RINETD[form]
            self._opened = self._closed = lambda summary: write(line(summary, localtime))
        elif form is Form.JSON:
            self._closed = lambda summary: write(json_line(summary))
        elif form is Form.TEXT:
            self._closed = lambda summary: write(text_line(summary))

    @property
    def wants_opened(self) -> bool:
        """Whether `opened` writes anything, so whether its summary need be made."""
        return self._opened is not None

    @property
    def wants_closed(self) -> bool:
        """Whether `closed` writes anything: False when the log is off."""
        return self._closed is not None

    def opened(self, summary: SessionSummary) -> None:
        """A session has reached its upstream."""
        if self._opened is not None:
            self._opened(summary)

    def closed(self, summary: SessionSummary) -> None:
        """A session has ended; `summary` has its reason."""
        if self._closed is not None:
            self._closed(summary)

    def __repr__(self) -> str:
        return f"<AccessLog: {self.form.value}>"


def dropped_line(form: Form) -> Callable[[int], str]:
    """
    How a log of that form says that lines are missing; hand it to its `LineWriter`.

    JSON has an object with the one key ``dropped``; the others a line that begins with ``#``.
    """
    if form is Form.JSON:
        return lambda count: json.dumps({"dropped": count}, separators=(",", ":"))
    return lambda count: f"# {count} lines dropped here: they came faster than they could be written"
