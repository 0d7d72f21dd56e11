"""Tests of warnings of targets that fail while others serve."""

from __future__ import annotations

from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.failovers import MAX_TOLD, Failovers
from portfwd.values import FailedAttempt


class FailoversTests(SynchronousTestCase):
    """`Failovers`."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.seen)
        self.addCleanup(globalLogPublisher.removeObserver, self.seen)
        self.failovers = Failovers("web")

    def seen(self, event: LogEvent) -> None:
        """Keep the text of warnings."""
        if event["log_namespace"].startswith("portfwd.relay.failovers"):
            self.lines.append(formatEvent(event))

    def test_once(self) -> None:
        """A target and a cause are told once; another cause, or another target, is told too."""
        for cause in ("a:80: Connection refused", "a:80: Connection refused", "certificate has expired"):
            self.failovers.note([FailedAttempt("a:80", None, cause)], "b:80")
        self.assertEqual(
            self.lines,
            [
                "web: target a:80 failed, and b:80 was tried instead: a:80: Connection refused",
                "web: target a:80 failed, and b:80 was tried instead: certificate has expired",
            ],
        )

    def test_only_what_is_hidden(self) -> None:
        """The target that was reached, or that the session's line tells of, is not warned of."""
        self.failovers.note(
            [FailedAttempt("a:80", None, "one address"), FailedAttempt("a:80", None, "x")], "a:80"
        )
        self.assertEqual(self.lines, [])

    def test_last_cause(self) -> None:
        """Of several addresses of a target the last one's cause is told."""
        self.failovers.note(
            [FailedAttempt("a:80", None, "first"), FailedAttempt("a:80", None, "last")], "b:80"
        )
        self.assertEqual(self.lines, ["web: target a:80 failed, and b:80 was tried instead: last"])

    def test_bounded(self) -> None:
        """What is remembered is bounded."""
        for index in range(2 * MAX_TOLD):
            self.failovers.note([FailedAttempt("a:80", None, f"cause {index}")], "b:80")
        self.assertEqual(len(self.lines), MAX_TOLD)
        self.assertEqual(repr(self.failovers), f"<Failovers of web, {MAX_TOLD} told>")
