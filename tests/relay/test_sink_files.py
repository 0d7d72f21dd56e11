"""Tests of `portfwd.relay.sink_files`: a file that takes copies, and a caller that never waits."""

from __future__ import annotations

import os
import threading
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.logs import writer as writer_module
from portfwd.relay import sink_files
from portfwd.relay.sink_files import COMPLAINT_INTERVAL, FLUSH_BYTES, SinkFile
from tests.logs.full_disk import FakeOs

#: Far more than any wait of these tests takes on a busy machine.
LONG = 30.0


class SinkFileTests(SynchronousTestCase):
    """One file."""

    def setUp(self) -> None:
        self.complaints: list[str] = []
        self.now = 0.0
        self.path = self.mktemp()

    def file(self, path: str | None = None, limit: int = 10**9, **options: Any) -> SinkFile:
        """A file that is closed in the end."""
        made = SinkFile(path or self.path, limit, self.complaints.append, clock=lambda: self.now, **options)
        self.addCleanup(made.close, 0.1)
        return made

    def content(self, path: str | None = None) -> bytes:
        """What the file holds."""
        with open(path or self.path, "rb") as file:
            return file.read()

    def test_in_order(self) -> None:
        """Pieces come whole and in order, behind what the file had and what is to stand first."""
        with open(self.path, "wb") as file:
            file.write(b"before ")
        sink = self.file(first=lambda: b"first ")
        for number in range(1000):
            self.assertTrue(sink.write(b"%d " % number))
        self.assertTrue(sink.close(LONG))
        expected = b"before first " + b"".join(b"%d " % number for number in range(1000))
        self.assertEqual((self.content(), sink.dropped, self.complaints), (expected, 0, []))

    def test_nothing_to_write(self) -> None:
        """Without a piece there is no thread and no file, whatever it is asked for."""
        before = threading.active_count()
        sink = self.file()
        sink.reopen()
        self.assertTrue(sink.flush(0))
        self.assertTrue(sink.close(0))
        self.assertEqual(threading.active_count(), before)
        self.assertFalse(os.path.exists(self.path))

    def test_interval(self) -> None:
        """A piece is written when the interval is over, though nobody asks for it."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        self.addCleanup(os.close, writer)
        self.file(f"/dev/fd/{writer}", flush_interval=0.01).write(b"one")
        self.assertEqual(os.read(reader, 10), b"one")

    def test_full_batch(self) -> None:
        """Enough bytes are written without waiting for the interval."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        self.addCleanup(os.close, writer)
        sink = self.file(f"/dev/fd/{writer}", flush_interval=LONG)
        for _ in range(2):
            sink.write(b"x" * (FLUSH_BYTES // 2))
        got = 0
        while got < FLUSH_BYTES:
            got += len(os.read(reader, FLUSH_BYTES))
        self.assertIn("0 bytes dropped", repr(sink))

    def test_limit(self) -> None:
        """The file grows to its limit by whole pieces, and says so at its end; the rest is dropped."""
        with open(self.path, "wb") as file:
            file.write(b"12345")
        sink = self.file(limit=14, last=lambda: b".")
        for piece in (b"6789", b"abcdefgh", b"x"):
            sink.write(piece)
        self.assertTrue(sink.flush(LONG))
        self.assertEqual((self.content(), sink.full, sink.dropped), (b"123456789.", True, 9))
        self.assertFalse(sink.write(b"y"))
        self.assertEqual(sink.dropped, 10)
        self.assertIn("full", repr(sink))
        self.assertEqual(len(self.complaints), 1)
        self.assertIn("limit of 14 bytes", self.complaints[0])

    def test_limit_reached_before(self) -> None:
        """A file that is too large already stays as it is."""
        with open(self.path, "wb") as file:
            file.write(b"x" * 20)
        sink = self.file(limit=14, last=lambda: b".")
        sink.write(b"y")
        self.assertTrue(sink.close(LONG))
        self.assertEqual((self.content(), sink.dropped), (b"x" * 20, 1))

    def test_queue(self) -> None:
        """What comes faster than it is written is dropped, counted, and complained of once in a while."""
        sink = self.file(queue_bytes=10, flush_interval=LONG)
        self.assertTrue(sink.write(b"x" * 10))
        for _ in range(3):
            self.assertFalse(sink.write(b"y"))
        self.assertEqual((sink.dropped, len(self.complaints)), (3, 1))
        self.now += COMPLAINT_INTERVAL
        sink.write(b"y")
        self.assertEqual(len(self.complaints), 2)
        self.assertIn("faster than they can be written; 4 bytes dropped", self.complaints[1])
        self.assertTrue(sink.close(LONG))
        self.assertFalse(sink.write(b"z"))
        self.assertEqual((self.content(), sink.dropped), (b"x" * 10, 5))

    def test_cannot_open(self) -> None:
        """A file that cannot be opened is tried again, and gets what waited for it."""
        directory = self.mktemp()
        sink = self.file(directory + "/file", flush_interval=0.001, retry_interval=0.001)
        sink.write(b"one")
        self.assertFalse(sink.flush(0.05))
        self.assertIn("cannot be opened: No such file", self.complaints[0])
        os.mkdir(directory)
        self.assertTrue(sink.flush(LONG))
        self.assertEqual((self.content(directory + "/file"), len(self.complaints)), (b"one", 1))

    def test_cannot_open_at_close(self) -> None:
        """When it is closed, what could not be written is counted."""
        sink = self.file(self.mktemp() + "/none/file", retry_interval=LONG)
        sink.write(b"one")
        self.assertTrue(sink.close(LONG))
        self.assertEqual(sink.dropped, 3)

    def test_disk_full(self) -> None:
        """A full disk keeps pieces waiting; they are written whole, once each, when there is room."""
        fake = FakeOs(taken=2)
        self.patch(sink_files, "os", fake)
        sink = self.file(flush_interval=0.001, retry_interval=0.001)
        sink.write(b"first")
        self.assertTrue(fake.full.wait(LONG))
        sink.write(b"second")
        self.assertFalse(sink.flush(0.01))
        fake.room.set()
        self.assertTrue(sink.flush(LONG))
        self.assertEqual((self.content(), sink.dropped), (b"firstsecond", 0))
        self.assertIn("No space left", self.complaints[0])

    def test_moved_away(self) -> None:
        """After `reopen` pieces go to a new file, which is not full."""
        sink = self.file(limit=4, first=lambda: b"!")
        sink.write(b"old")
        sink.write(b"x")
        self.assertTrue(sink.flush(LONG))
        self.assertTrue(sink.full)
        os.rename(self.path, self.path + ".1")
        sink.reopen()
        self.assertTrue(sink.write(b"new"))
        self.assertTrue(sink.flush(LONG))
        self.assertEqual((self.content(self.path + ".1"), self.content()), (b"!old", b"!new"))

    def test_moved_away_torn(self) -> None:
        """What a full disk has torn does not go on in the new file."""
        fake = FakeOs(taken=2)
        self.patch(sink_files, "os", fake)
        sink = self.file(flush_interval=0.001, retry_interval=LONG)
        sink.write(b"first")
        self.assertTrue(fake.full.wait(LONG))
        os.rename(self.path, self.path + ".1")
        real_open = writer_module.open_log

        def open_elsewhere(path: str) -> int:
            fake.room.set()
            return real_open(path)

        self.patch(sink_files, "open_log", open_elsewhere)
        sink.reopen()
        sink.write(b"second")
        self.assertTrue(sink.close(LONG))
        self.assertEqual((self.content(self.path + ".1"), self.content()), (b"fi", b"second"))
        self.assertEqual(sink.dropped, 3)
