"""Tests for `portfwd.kernel.failures`."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.failures import MOST_FRAMES, log_failure, log_warning, shortened


class SafeLogTests(SynchronousTestCase):
    """Logging where nothing may be raised."""

    def setUp(self) -> None:
        self.events: list[Any] = []
        self.raises: BaseException | None = None
        self.log = Logger(namespace="test", observer=LogPublisher(self._observe))

    def _observe(self, event: Any) -> None:
        self.events.append(event)
        if self.raises is not None:
            raise self.raises

    def test_logged(self) -> None:
        """An event is as the logger's own, with the exception that is being handled."""
        try:
            raise KeyError("x")
        except KeyError:
            log_failure(self.log, "{what} failed", what="it")
        log_warning(self.log, "{what} is slow", what="it")
        failed, warned = self.events
        self.assertEqual((failed["log_failure"].type, failed["what"]), (KeyError, "it"))
        self.assertEqual(warned["log_format"], "{what} is slow")

    def test_endless_recursion(self) -> None:
        """A traceback of a thousand frames is logged with the first and the last of them."""

        def recurse() -> None:
            recurse()

        try:
            recurse()
        except RecursionError:
            log_failure(self.log, "it failed")
        traceback = self.events[0]["log_failure"].getTraceback()
        self.assertLess(traceback.count("\n"), 3 * MOST_FRAMES)
        self.assertIn("test_endless_recursion", traceback)
        self.assertIn("in recurse", traceback)
        self.assertIn("RecursionError: maximum recursion depth exceeded", traceback)

    def test_short(self) -> None:
        """Others are as they were."""
        failure = Failure(ValueError("x"))
        self.assertIs(shortened(failure), failure)
        try:
            raise ValueError("x")
        except ValueError:
            failure = Failure()
        self.assertIs(shortened(failure), failure)

    def test_observer_raises(self) -> None:
        """Whatever an observer raises stays here."""
        for self.raises in (ValueError(), SystemExit(), KeyboardInterrupt()):
            log_failure(self.log, "failed")
            log_warning(self.log, "slow")
