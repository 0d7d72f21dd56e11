"""The events that one module of the package logs, as an observer of Twisted's log sees them."""

from __future__ import annotations

from typing import cast

from twisted.logger import LogEvent, LogLevel, LogPublisher, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase


class EventsOf:
    """
    Everything that the module of a class logs from now to the end of a test.

    :ivar events: the events, oldest first.
    """

    def __init__(self, case: SynchronousTestCase, owner: type) -> None:
        self.events: list[LogEvent] = []
        # A logger of a class has the class in its namespace as well, one of an object only the module.
        self._namespaces = (owner.__module__, f"{owner.__module__}.{owner.__qualname__}")
        publisher = cast(LogPublisher, globalLogPublisher)
        publisher.addObserver(self._observe)
        case.addCleanup(publisher.removeObserver, self._observe)

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_namespace") in self._namespaces:
            self.events.append(event)

    def texts(self, *levels: LogLevel) -> list[str]:
        """The text of every event of those levels; without one, of all."""
        return [formatEvent(event) for event in self.events if not levels or event["log_level"] in levels]
