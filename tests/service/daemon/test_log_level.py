"""Tests of the least level that is logged."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.daemon.log_level import LogThreshold


class ThresholdTests(SynchronousTestCase):
    """A publisher whose observers get less, or more."""

    def setUp(self) -> None:
        self.seen: list[str] = []
        self.publisher = LogPublisher(self.observe)
        self.log = Logger(observer=self.publisher)
        self.threshold = LogThreshold(self.publisher)

    def observe(self, event: Any) -> None:
        self.seen.append(event["log_format"])

    def said(self) -> list[str]:
        """What is logged of a debug, an info and a warn event."""
        self.seen.clear()
        self.log.debug("debug")
        self.log.info("info")
        self.log.warn("warn")
        return list(self.seen)

    def test_levels(self) -> None:
        """Everything at first; then what the level says, as often as it is set."""
        self.assertEqual(self.threshold.level, "debug")
        self.assertEqual(self.said(), ["debug", "info", "warn"])
        for level, expected in (
            ("warn", ["warn"]),
            ("critical", []),
            ("info", ["info", "warn"]),
            ("debug", ["debug", "info", "warn"]),
        ):
            self.threshold.set_level(level)
            self.assertEqual((self.threshold.level, self.said()), (level, expected))
        self.assertEqual(repr(self.threshold), "<LogThreshold debug>")

    def test_unknown(self) -> None:
        """What is no level is refused with those that are, and nothing is changed."""
        error = self.assertRaises(ValueError, self.threshold.set_level, "loud")
        self.assertIn("debug, info, warn, error, critical", str(error))
        self.assertEqual(self.said(), ["debug", "info", "warn"])
