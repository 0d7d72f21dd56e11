# -*- test-case-name: tests.service.daemon.test_log_level -*-
"""
The least level that is logged, changed while the program runs.

Twisted has no such switch: twistd's observers write every event. Each is put behind a filter
when a level is asked for the first time, and not before; the access log is no part of this.
"""

from __future__ import annotations

from twisted.logger import (
    FilteringLogObserver,
    InvalidLogLevelError,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    globalLogPublisher,
)


class LogThreshold:
    """One publisher of events and the filter before its observers."""

    def __init__(self, publisher: LogPublisher = globalLogPublisher) -> None:
        self._publisher = publisher
        self._predicate: LogLevelFilterPredicate | None = None

    def __repr__(self) -> str:
        return f"<LogThreshold {self.level}>"

    @property
    def level(self) -> str:
        """The least level that is logged."""
        if self._predicate is None:
            return "debug"
        return str(self._predicate.logLevelForNamespace("").name)

    def set_level(self, name: str) -> None:
        """
        Log `name` and what is worse.

        :raises ValueError: there is no such level.
        """
        try:
            level = LogLevel.levelWithName(name)
        except InvalidLogLevelError:
            raise ValueError(
                f"{name!r} is no level: " + ", ".join(one.name for one in LogLevel.iterconstants())
            ) from None
        if self._predicate is None:
            self._predicate = LogLevelFilterPredicate()
            # There is no public list of them.
            for observer in tuple(self._publisher._observers):
                self._publisher.removeObserver(observer)
                self._publisher.addObserver(FilteringLogObserver(observer, [self._predicate]))
        self._predicate.setLogLevelForNamespace("", level)
