# -*- test-case-name: tests.service.run.test_subscribers -*-
"""A session log with any number of readers, which come and go while sessions run."""

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
    """Two functions as a session log; None for one that is not wanted."""

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
    Passes what happens to sessions to each log in its list.

    A log that raises is reported in the program's log; the session and the other logs do not notice.
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
        Pass sessions to `log`, too.

        :returns: ends that; to call it again does nothing.
        """
        self._logs.append(log)

        def end() -> None:
            self._logs = [one for one in self._logs if one is not log]

        return end

    def subscribe(self, opened: Told | None, closed: Told | None) -> Callable[[], None]:
        """Call `opened` and `closed` with the summary of each session; see `add`."""
        return self.add(_Functions(opened, closed))
