# -*- test-case-name: tests.logs.test_repeats -*-
"""
Summarises closing lines of sessions of one client that fail in the same way many times a second.

A program that retries in a loop causes thousands of sessions a minute that fail for the same reason. The
first `FIRST` of them within `WINDOW` have a line each. For the others, one line at the end of each window has
their number. Metrics count all of them.

This module has no clock: `now` is an argument, in seconds.
"""

from __future__ import annotations

from typing import Final

from attrs import define

from portfwd.values import CloseReason, InetAddress, SessionSummary

#: Seconds of a window. An operator who watches the log does not wait longer.
WINDOW: Final = 10.0

#: Lines of a window that are written at once: fail2ban's default ``maxretry``.
FIRST: Final = 5

#: Number of remembered clients and causes. Lines of further ones are written at once.
MOST: Final = 4096

#: Reasons after which a client is likely to retry at once.
FAILURES: Final = frozenset(
    {
        CloseReason.ACCESS,
        CloseReason.CLIENT_GONE_EARLY,
        CloseReason.CLIENT_TLS_FAILED,
        CloseReason.CONNECT_REFUSED,
        CloseReason.CONNECT_TIMEOUT,
        CloseReason.FILTER,
        CloseReason.LIMIT,
        CloseReason.NAME_NOT_RESOLVED,
        CloseReason.RESOURCES,
        CloseReason.TLS_FAILED,
        CloseReason.UPSTREAM_RESET,
    }
)

_Key = tuple[str, str, CloseReason, str]


@define(eq=False)
class _Window:
    """
    The window of one client and cause.

    :ivar until: time of its end.
    :ivar written: number of lines written at once.
    :ivar kept: number of sessions without a line; `last` is the latest of them.
    """

    until: float
    written: int = 0
    kept: int = 0
    last: SessionSummary | None = None


class Repeats:
    """The open windows of sessions that failed."""

    def __init__(self) -> None:
        # In the order of their ends.
        self._windows: dict[_Key, _Window] = {}

    def __repr__(self) -> str:
        return f"<Repeats of {len(self._windows)} clients>"

    def keep(self, summary: SessionSummary, now: float) -> bool:
        """Whether `summary` was counted for the end of its window. If not, the caller writes its line now."""
        reason = summary.reason
        if reason is None or reason not in FAILURES or summary.to_client.bytes:
            return False
        client = summary.client
        host = client.host if isinstance(client, InetAddress) else str(client)
        key = (summary.rule, host, reason, summary.detail)
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) < MOST:
                self._windows[key] = _Window(now + WINDOW, 1)
            return False
        if window.written < FIRST:
            window.written += 1
            return False
        window.kept += 1
        window.last = summary
        return True

    @property
    def next_at(self) -> float | None:
        """When the next window ends; None if there is none."""
        return next((window.until for window in self._windows.values()), None)

    def due(self, now: float) -> list[SessionSummary]:
        """
        Close the windows that have ended.

        :returns: the latest summary of each window with counted sessions, and their number. The next window
            of that client then starts without lines that are written at once.
        """
        found: list[SessionSummary] = []
        for key, window in tuple(self._windows.items()):
            if window.until > now:
                break
            del self._windows[key]
            if window.last is not None:
                found.append(window.last._replace(repeated=window.kept))
                self._windows[key] = _Window(window.until + WINDOW, FIRST)
        return found

    def all(self) -> list[SessionSummary]:
        """Close all windows, as `due` does."""
        kept = [window for window in self._windows.values() if window.last is not None]
        self._windows.clear()
        return [window.last._replace(repeated=window.kept) for window in kept if window.last is not None]
