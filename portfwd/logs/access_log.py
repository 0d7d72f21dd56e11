# -*- test-case-name: tests.logs.test_access_log -*-
"""
Writes the access log in the format that the rules file chooses.

The formats `text` and `json` have one line per session, written at its close, and with ``opened=on`` another
one at its opening. `rinetd` and `common` always have both, as rinetd does. In `text` and `json`, one line may
represent many sessions that failed in the same way (`portfwd.logs.repeats`), and probes may have no line.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.logs.json_lines import json_line
from portfwd.logs.repeats import Repeats
from portfwd.logs.rinetd import LocalTime, common_line, tab_line
from portfwd.logs.text import text_line
from portfwd.rules.model import AccessLogFormat as Form
from portfwd.values import CloseReason, SessionSummary, Side, counted

#: Reasons with which the connection of a health check ends.
_PROBES: Final = frozenset(
    {
        CloseReason.NORMAL,
        CloseReason.CLIENT_RESET,
        CloseReason.CLIENT_GONE_EARLY,
        CloseReason.CLIENT_TLS_FAILED,
    }
)

_RINETD: Final = {Form.RINETD: tab_line, Form.COMMON: common_line}


class Lines(Protocol):
    """The destination of lines, such as a `LineWriter`."""

    def write(self, line: str) -> None:
        """Write a line, given without its line end. Must not block."""


class AccessLog:
    """
    Writes a line for each session.

    Call `opened` when the upstream is connected, and `closed` once for every session, also for refused ones.
    """

    __slots__ = ("_clock", "_closed", "_opened", "_probes", "_repeats", "_timer", "form")

    def __init__(
        self,
        form: Form,
        writer: Lines,
        localtime: LocalTime,
        *,
        clock: IReactorTime | None = None,
        probes: bool = True,
        opened: bool = False,
    ) -> None:
        """
        Choose the format.

        :param localtime: converts seconds since the epoch to local time, for rinetd's formats.
        :param clock: schedules the summary lines of repeated failures. None, and rinetd's formats: each
            session has a line of its own.
        :param probes: whether connections without a byte have a closing line (`is_probe`).
        :param opened: whether to write a line when the upstream is connected. Always in rinetd's formats.
        """
        self.form = form
        self._clock = None if form in _RINETD else clock
        self._probes = probes or form in _RINETD
        self._repeats = Repeats()
        self._timer: IDelayedCall | None = None
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
        if opened and self._opened is None:
            # In every format, a summary without a reason is of an open session.
            self._opened = self._closed

    @property
    def wants_opened(self) -> bool:
        """Whether `opened` writes anything. If not, callers need not make the summary."""
        return self._opened is not None

    @property
    def wants_closed(self) -> bool:
        """Whether `closed` writes anything. False if the log is off."""
        return self._closed is not None

    def opened(self, summary: SessionSummary) -> None:
        """The upstream of a session is connected."""
        if self._opened is not None:
            self._opened(summary)

    def closed(self, summary: SessionSummary) -> None:
        """A session has ended; `summary` has its reason."""
        closed, clock = self._closed, self._clock
        if closed is None or (not self._probes and is_probe(summary)):
            return
        if clock is None or not self._repeats.keep(summary, clock.seconds()):
            closed(summary)
        elif self._timer is None:
            self._wait(clock)

    def _wait(self, clock: IReactorTime) -> None:
        until = self._repeats.next_at
        if until is not None:
            self._timer = clock.callLater(max(0.0, until - clock.seconds()), self._write_due, clock)

    def _write_due(self, clock: IReactorTime) -> None:
        self._timer = None
        for summary in self._repeats.due(clock.seconds()):
            if self._closed is not None:
                self._closed(summary)
        self._wait(clock)

    def flush(self) -> None:
        """Write the summary lines that are due later. Call it before the log is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for summary in self._repeats.all():
            if self._closed is not None:
                self._closed(summary)

    def __repr__(self) -> str:
        return f"<AccessLog: {self.form.value}>"


def is_probe(summary: SessionSummary) -> bool:
    """
    Whether the client disconnected without a byte in either direction, as health checks of load balancers do.

    HAProxy's ``option dontlognull`` omits the same connections.
    """
    return (
        not summary.to_upstream.bytes
        and not summary.to_client.bytes
        and summary.reason in _PROBES
        and summary.ended_first is Side.CLIENT
    )


def dropped_line(form: Form) -> Callable[[int], str]:
    """
    The function that formats the line for dropped lines, for the `LineWriter` of a log in that format.

    In JSON the line is an object with the key ``dropped``; in the other formats it begins with ``#``.
    """
    if form is Form.JSON:
        return lambda count: json.dumps({"dropped": count}, separators=(",", ":"))
    return lambda count: (
        f"# {counted(count, 'line')} dropped here: they came faster than they could be written"
    )
