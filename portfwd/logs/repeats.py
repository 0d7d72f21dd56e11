# -*- test-case-name: tests.logs.test_repeats -*-
"""
Which closing lines say again what the log says already: one client's sessions that fail alike, many times a
second.

A program that retries in a loop has thousands of sessions a minute that fail for one cause. The first
`FIRST` of them within `WINDOW` have a line each. Then one line at the end of each window stands for all the
others and says how many they are. Nothing is left out of the metrics.

It refuses to have a clock: `now` is an argument, in seconds.
"""

from __future__ import annotations

from typing import Final

from attrs import define

from portfwd.values import CloseReason, InetAddress, SessionSummary

#: Seconds for which lines are gathered: an operator who looks at a log that grows waits no longer.
WINDOW: Final = 10.0

#: Lines of a window that are written as they come: as many failures as fail2ban's default ``maxretry``
#: counts.
FIRST: Final = 5

#: Clients and causes that are remembered; the lines of what comes beyond are written as they come.
MOST: Final = 4096

#: How sessions end that the client is likely to try again at once.
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
    One client and cause.

    :ivar until: when the window is over.
    :ivar written: lines that were written as they came.
    :ivar kept: sessions whose lines were not; `last` is the latest of them.
    """

    until: float
    written: int = 0
    kept: int = 0
    last: SessionSummary | None = None


class Repeats:
    """What is remembered of sessions that failed."""

    def __init__(self) -> None:
        # In the order in which windows end.
        self._windows: dict[_Key, _Window] = {}

    def __repr__(self) -> str:
        return f"<Repeats of {len(self._windows)} clients>"

    def keep(self, summary: SessionSummary, now: float) -> bool:
        """Whether the line of `summary` is kept for the end of its window; else it is to be written now."""
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
        End the windows whose time is over.

        :returns: a summary for each that has kept lines: the latest, with how many sessions it stands for.
        The client's next window then begins with no line that is written as it comes.
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
        """End all windows, as `due` does."""
        kept = [window for window in self._windows.values() if window.last is not None]
        self._windows.clear()
        return [window.last._replace(repeated=window.kept) for window in kept if window.last is not None]
