"""Tests for lines that go to syslog."""

from __future__ import annotations

import threading

from twisted.trial.unittest import SynchronousTestCase

from portfwd.logs.syslog_writer import ALERT, INFO, WARNING, SyslogWriter, with_priority
from portfwd.logs.writer import QUEUE_BYTES


class SyslogWriterTests(SynchronousTestCase):
    """What is sent, and what a daemon that does not read costs."""

    def setUp(self) -> None:
        self.sent: list[tuple[int, str]] = []
        self.reads = threading.Event()
        self.reads.set()

    def send(self, priority: int, text: str) -> None:
        """What stands for syslog(3): it returns when the daemon reads."""
        self.reads.wait(30)
        self.sent.append((priority, text))

    def writer(self) -> SyslogWriter:
        """A writer, closed in the end."""
        writer = SyslogWriter(
            self.send,
            self.fail,
            dropped_line=lambda count: with_priority(WARNING, f"{count} dropped"),
            held=True,
        )
        self.addCleanup(writer.close, 30)
        self.addCleanup(self.reads.set)
        return writer

    def test_lines(self) -> None:
        """Each line goes by itself, with its priority; nothing goes before `begin`."""
        writer = self.writer()
        writer.write(with_priority(ALERT, "it failed\n\ttraceback"))
        writer.write("bare")
        self.assertEqual(self.sent, [])
        writer.begin()
        self.assertTrue(writer.flush(30))
        self.assertEqual(self.sent, [(ALERT, "it failed"), (ALERT, "\ttraceback"), (INFO, "bare")])

    def test_daemon_that_does_not_read(self) -> None:
        """Whoever writes goes on; what does not fit is dropped, and the log says how much, when it can."""
        writer = self.writer()
        writer.begin()
        self.reads.clear()
        count = 2 * QUEUE_BYTES // 10_000
        for number in range(count):
            writer.write(with_priority(INFO, f"{number} {'x' * 10_000}"))
        self.assertGreater(writer.dropped, 0)
        self.assertFalse(writer.flush(0.0))
        self.reads.set()
        self.assertTrue(writer.flush(30))
        writer.write("last")
        self.assertTrue(writer.close(30))
        # One count or two: the thread may take what waits while the loop above still writes.
        told = [int(text.split()[0]) for priority, text in self.sent if priority == WARNING]
        self.assertEqual(sum(told), writer.dropped)
        self.assertEqual(len(self.sent), count - writer.dropped + 1 + len(told))
