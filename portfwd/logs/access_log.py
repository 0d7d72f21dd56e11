# -*- test-case-name: tests.logs.test_access_log -*-
"""
The access log: a session's summary in, lines out, in the form the rules file asks for.

`text` and `json` write one line a session, when it has closed, and with ``opened=on`` one for the opening;
`rinetd` and `common` always write both, as rinetd does. In `text` and `json`, one line may stand for many
sessions that failed alike (`portfwd.logs.repeats`), and probes may have none. It writes to whatever has a
``write``.
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

#: How a client leaves that only wanted to see who is there.
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
    """Where lines go: a `LineWriter`, or a test's list."""

    def write(self, line: str) -> None:
        """Take a line, without its end, and do not block."""


class AccessLog:
    """
    Writes what sessions did.

    Call `opened` when an upstream has been reached and `closed` once for
    every session, also for those that were refused.
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
        Choose the form.

        :param localtime: seconds since the epoch to local time, for rinetd's formats.
        :param clock: ends the time for which lines of sessions that fail alike are gathered; None: each
            has its line, as in rinetd's formats in any case.
        :param probes: whether connections without a byte have a closing line (`is_probe`).
        :param opened: whether a session has a line when it has reached its upstream; in rinetd's formats it
            has in any case.
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
            # A summary without a reason is of a session that is open, in every form.
            self._opened = self._closed

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
        """Write what is kept: the log is about to be closed."""
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
    Whether the client connected and left without a byte either way, as load balancers do to see who is there.

    HAProxy's ``option dontlognull`` leaves out the same.
    """
    return (
        not summary.to_upstream.bytes
        and not summary.to_client.bytes
        and summary.reason in _PROBES
        and summary.ended_first is Side.CLIENT
    )


def dropped_line(form: Form) -> Callable[[int], str]:
    """
    How a log of that form says that lines are missing; hand it to its `LineWriter`.

    JSON has an object with the one key ``dropped``; the others a line that begins with ``#``.
    """
    if form is Form.JSON:
        return lambda count: json.dumps({"dropped": count}, separators=(",", ":"))
    return lambda count: (
        f"# {counted(count, 'line')} dropped here: they came faster than they could be written"
    )
