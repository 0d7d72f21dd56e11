"""Tests of the service that observes the log for operators."""

from __future__ import annotations

from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.changes import ChangeLog
from portfwd.service.operators.changes import ChangeWatch


class ChangeWatchTests(SynchronousTestCase):
    """While it runs, and no longer."""

    def test_observes(self) -> None:
        """Lines are kept from its start to its stop."""
        publisher, changes = LogPublisher(), ChangeLog()
        log, watch = Logger("portfwd.x", observer=publisher), ChangeWatch(changes, publisher)
        log.info("before")
        watch.startService()
        log.info("meanwhile")
        watch.stopService()
        log.info("after")
        self.assertEqual([one.text for one in changes.since(0)], ["meanwhile"])
