# -*- test-case-name: tests.service.operators.test_changes -*-
"""Observes Twisted's log for operators while the service runs."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.logger import LogPublisher, globalLogPublisher

from portfwd.admin.changes import ChangeLog


class ChangeWatch(Service):
    """Adds a `ChangeLog` to the observers of the log."""

    name = "portfwd changes"

    def __init__(self, log: ChangeLog, publisher: LogPublisher = globalLogPublisher) -> None:
        self._change_log = log
        self._publisher = publisher

    def startService(self) -> None:
        """Add the observer."""
        super().startService()
        self._publisher.addObserver(self._change_log)

    def stopService(self) -> None:
        """Remove the observer."""
        super().stopService()
        self._publisher.removeObserver(self._change_log)
