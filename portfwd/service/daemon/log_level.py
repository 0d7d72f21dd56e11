# -*- test-case-name: tests.service.daemon.test_log_level -*-
"""
Changes the minimum level of the log at run time.

Twisted has no such setting: twistd's observers write every event. The first change of the level wraps each
observer in a filter. The access log is not affected.
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
    """The minimum level of one publisher of events."""

    def __init__(self, publisher: LogPublisher = globalLogPublisher) -> None:
        self._publisher = publisher
        self._predicate: LogLevelFilterPredicate | None = None

    def __repr__(self) -> str:
        return f"<LogThreshold {self.level}>"

    @property
    def level(self) -> str:
        """The minimum level."""
        if self._predicate is None:
            return "debug"
        return str(self._predicate.logLevelForNamespace("").name)

    def set_level(self, name: str) -> None:
        """
        Log only events of the level `name` and above.

        :raises ValueError: the level does not exist.
        """
        try:
            level = LogLevel.levelWithName(name)
        except InvalidLogLevelError:
            raise ValueError(
                f"{name!r} is no level: " + ", ".join(one.name for one in LogLevel.iterconstants())
            ) from None
        if self._predicate is None:
            self._predicate = LogLevelFilterPredicate()
            # Twisted has no public list of observers.
            for observer in tuple(self._publisher._observers):
                self._publisher.removeObserver(observer)
                self._publisher.addObserver(FilteringLogObserver(observer, [self._predicate]))
        self._predicate.setLogLevelForNamespace("", level)
