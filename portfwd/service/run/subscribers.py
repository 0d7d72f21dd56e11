# -*- test-case-name: tests.service.run.test_subscribers -*-
"""A session log that passes sessions to any number of other logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen
from twisted.logger import Logger

from portfwd.kernel.failures import log_failure
from portfwd.relay.rule import SessionLog
from portfwd.values import SessionSummary

Told: TypeAlias = Callable[[SessionSummary], object]


@frozen(eq=False)
class _Functions:
    """Two functions as a session log. Either may be None."""

    on_opened: Told | None
    on_closed: Told | None

    @property
    def wants_opened(self) -> bool:
        """See `SessionLog`."""
        return self.on_opened is not None

    @property
    def wants_closed(self) -> bool:
        """See `SessionLog`."""
        return self.on_closed is not None

    def opened(self, summary: SessionSummary) -> None:
        """See `SessionLog`."""
        if self.on_opened is not None:
            self.on_opened(summary)

    def closed(self, summary: SessionSummary) -> None:
        """See `SessionLog`."""
        if self.on_closed is not None:
            self.on_closed(summary)


class Subscribers:
    """
    Passes sessions to each log in its list.

    An exception of a log is reported in the program's log. It does not affect the session and the other logs.
    """

    def __init__(self) -> None:
        self._logs: list[SessionLog] = []
        self._log = Logger()

    def __repr__(self) -> str:
        return f"<Subscribers {len(self._logs)}>"

    @property
    def wants_opened(self) -> bool:
        """See `SessionLog`."""
        return any(one.wants_opened for one in self._logs)

    @property
    def wants_closed(self) -> bool:
        """See `SessionLog`."""
        return any(one.wants_closed for one in self._logs)

    def opened(self, summary: SessionSummary) -> None:
        """See `SessionLog`."""
        for one in tuple(self._logs):
            try:
                if one.wants_opened:
                    one.opened(summary)
            except BaseException:
                log_failure(self._log, "{reader!r} failed to take a session that opened", reader=one)

    def closed(self, summary: SessionSummary) -> None:
        """See `SessionLog`."""
        for one in tuple(self._logs):
            try:
                if one.wants_closed:
                    one.closed(summary)
            except BaseException:
                log_failure(self._log, "{reader!r} failed to take a session that closed", reader=one)

    def add(self, log: SessionLog) -> Callable[[], None]:
        """
        Add `log`.

        :returns: a function that removes it. Further calls do nothing.
        """
        self._logs.append(log)

        def end() -> None:
            self._logs = [one for one in self._logs if one is not log]

        return end

    def subscribe(self, opened: Told | None, closed: Told | None) -> Callable[[], None]:
        """Call `opened` and `closed` with the summary of each session; see `add`."""
        return self.add(_Functions(opened, closed))
