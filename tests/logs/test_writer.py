"""Tests of `portfwd.logs.writer`: batches, and a caller that never waits."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import threading
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.logs import writer as writer_module
from portfwd.logs.writer import FLUSH_BYTES, LineWriter, open_log
from tests.logs.full_disk import FakeOs

#: Far more than any wait of these tests takes on a busy machine.
LONG = 30.0


class CountingWriter(LineWriter):
    """Counts the batches that its thread writes."""

    batches = 0

    def _put(self, batch: bytes, start: int) -> int:
        self.batches += 1
        return super()._put(batch, start)


class WriterTestCase(SynchronousTestCase):
    """Makes writers that are closed in the end."""

    def setUp(self) -> None:
        self.complaints: list[str] = []
        self.path = self.mktemp()

    def writer(
        self, target: Any = None, kind: Callable[..., LineWriter] = LineWriter, **options: Any
    ) -> LineWriter:
        """A writer to `target`, by default to a file of its own."""
        made = kind(target or self.path, self.complaints.append, **options)
        self.addCleanup(made.close, 0.1)
        return made

    def content(self, path: str | None = None) -> str:
        """What a file holds."""
        with open(path or self.path) as file:
            return file.read()

    def pipe(self, size: int = 4096) -> tuple[int, Any]:
        """A pipe of that many bytes: the descriptor to read from, and the file to write to."""
        reader, descriptor = os.pipe()
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size)
        file = os.fdopen(descriptor, "wb")
        self.addCleanup(file.close)
        return reader, file

    def read(self, reader: int, until: Callable[[bytes], bool]) -> str:
        """Read from a pipe until enough has come."""
        got = b""
        while not until(got):
            ready, _, _ = select.select([reader], [], [], LONG)
            self.assertTrue(ready, f"only {len(got)} bytes came")
            got += os.read(reader, 65536)
        return got.decode()


class FileTests(WriterTestCase):
    """A file that takes what it is given."""

    def test_in_order(self) -> None:
        """Lines come whole and in order, behind what the file had."""
        with open(self.path, "w") as file:
            file.write("before\n")
        writer = self.writer()
        for number in range(1000):
            writer.write(f"line {number} é\udcff")
        self.assertTrue(writer.close(LONG))
        expected = "before\n" + "".join(f"line {number} é\\udcff\n" for number in range(1000))
        self.assertEqual(self.content(), expected)
        self.assertEqual((writer.dropped, self.complaints), (0, []))

    def test_cannot_open(self) -> None:
        """A path that cannot be opened is an error of the constructor; a named pipe without reader too."""
        error = self.assertRaises(OSError, LineWriter, self.path + "/none/x", self.complaints.append)
        self.assertEqual(error.errno, errno.ENOENT)
        os.mkfifo(self.path)
        error = self.assertRaises(OSError, LineWriter, self.path, self.complaints.append)
        self.assertEqual(error.errno, errno.ENXIO)

    def test_mode_of_a_daemon(self) -> None:
        """The umask of a daemon does not keep a group from reading what is made after a rotation."""
        umask = os.umask(0o077)
        self.addCleanup(os.umask, umask)
        for _ in range(2):
            os.close(open_log(self.path))
            self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640)
        os.chmod(self.path, 0o600)
        os.close(open_log(self.path))
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)

    def test_mode(self) -> None:
        """A new file is not for everybody, and its descriptor blocks and is not inherited."""
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)
        descriptor = open_log(self.path)
        self.addCleanup(os.close, descriptor)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640)
        self.assertTrue(os.get_blocking(descriptor))
        self.assertFalse(os.get_inheritable(descriptor))

    def test_thread_starts_late(self) -> None:
        """There is no thread before the first line, so that the process may still fork."""
        before = threading.active_count()
        writer = self.writer()
        self.assertTrue(writer.flush(0))
        self.assertEqual(threading.active_count(), before)
        self.assertTrue(writer.close(0))
        self.assertTrue(writer.close(0))

    def test_batches(self) -> None:
        """The thread is not woken for each line: what comes within the interval is one batch."""
        writer = self.writer(kind=CountingWriter, flush_interval=LONG)
        assert isinstance(writer, CountingWriter)
        for number in range(50):
            writer.write(str(number))
        self.assertEqual(self.content(), "")
        self.assertIn("140 bytes waiting", repr(writer))
        self.assertTrue(writer.flush(LONG))
        self.assertEqual((writer.batches, self.content().count("\n")), (1, 50))

    def test_interval(self) -> None:
        """A single line is written when the interval has passed, though nobody asks for it."""
        reader, file = self.pipe()
        self.addCleanup(os.close, reader)
        self.writer(file, flush_interval=0.01).write("one")
        self.assertEqual(self.read(reader, lambda got: b"\n" in got), "one\n")

    def test_full_batch(self) -> None:
        """A full batch does not wait for the interval."""
        reader, file = self.pipe()
        self.addCleanup(os.close, reader)
        writer = self.writer(file, flush_interval=LONG)
        line = "x" * 1023
        for _ in range(FLUSH_BYTES // 1024 + 1):
            writer.write(line)
        got = self.read(reader, lambda got: len(got) >= FLUSH_BYTES)
        self.assertEqual(set(got.splitlines()), {line})

    def test_open_file(self) -> None:
        """A file that came open is written behind what it had buffered, and stays open."""
        with open(self.path, "wb") as file:
            file.write(b"buffered\n")
            writer = self.writer(file)
            writer.write("line")
            writer.reopen()
            self.assertTrue(writer.close(LONG))
            file.write(b"after\n")
        self.assertEqual(self.content(), "buffered\nline\nafter\n")
        self.assertEqual(writer.name, self.path)

    def test_after_close(self) -> None:
        """Lines after the close are dropped and counted."""
        writer = self.writer()
        writer.write("one")
        self.assertTrue(writer.close(LONG))
        writer.write("two")
        writer.reopen()
        self.assertTrue(writer.close(LONG))
        self.assertEqual((writer.dropped, self.content()), (1, "one\n"))


class ReopenTests(WriterTestCase):
    """Log rotation."""

    def test_moved_away(self) -> None:
        """After the file was moved away and `reopen` was called, lines go to a new one."""
        writer = self.writer()
        writer.write("old")
        self.assertTrue(writer.flush(LONG))
        os.rename(self.path, self.path + ".1")
        writer.reopen()
        self.assertTrue(writer.flush(LONG))
        writer.write("new")
        self.assertTrue(writer.close(LONG))
        self.assertEqual((self.content(self.path + ".1"), self.content()), ("old\n", "new\n"))

    def test_idle(self) -> None:
        """A file to which nothing is being written is opened again too."""
        writer = self.writer()
        os.rename(self.path, self.path + ".1")
        writer.reopen()
        self.assertTrue(writer.flush(LONG))
        self.assertTrue(os.path.exists(self.path))

    def test_cannot(self) -> None:
        """When the path cannot be opened again, the old file stays in use and somebody is told."""
        directory = self.mktemp()
        os.mkdir(directory)
        writer = self.writer(directory + "/log")
        os.rename(directory, directory + ".moved")
        writer.reopen()
        writer.write("line")
        self.assertTrue(writer.close(LONG))
        self.assertEqual(self.content(directory + ".moved/log"), "line\n")
        self.assertEqual(len(self.complaints), 1)
        self.assertIn("cannot reopen", self.complaints[0])


class TroubleTests(WriterTestCase):
    """A sink that does not take what it is given."""

    def test_nobody_reads(self) -> None:
        """A pipe that nobody reads costs lines and no waiting; the rest comes later, and the count."""
        reader, file = self.pipe()
        self.addCleanup(os.close, reader)
        writer = self.writer(file, queue_bytes=20_000, flush_interval=0.001, dropped_line="lost {}".format)
        count = 0
        while writer.dropped < 10:
            writer.write(f"{count:099d}")
            count += 1
        lost = writer.dropped
        self.assertEqual(len(self.complaints), 1)
        self.assertIn("faster than they can be written", self.complaints[0])
        lines = self.read(reader, lambda got: got.endswith(f"lost {lost}\n".encode())).splitlines()
        self.assertEqual([int(line) for line in lines[:-1]], list(range(count - lost)))
        # The reader has all before the thread says so, and until then the queue counts as full.
        self.assertTrue(writer.flush(LONG))
        writer.write("again")
        self.assertEqual(self.read(reader, lambda got: got.endswith(b"\n")), "again\n")

    def test_complains_once_a_while(self) -> None:
        """However many lines are lost, there is one complaint in an interval."""
        now = [0.0]
        reader, file = self.pipe()
        self.addCleanup(os.close, reader)
        writer = self.writer(file, queue_bytes=10, clock=lambda: now[0])
        for expected in (1, 1, 2, 2):
            writer.write("much longer than the queue")
            self.assertEqual(len(self.complaints), expected)
            now[0] += 0.6
        self.assertEqual(writer.dropped, 4)

    def test_disk_full(self) -> None:
        """A full disk keeps lines waiting; they are written whole, once each, when there is room."""
        fake = FakeOs(taken=7)
        self.patch(writer_module, "os", fake)
        writer = self.writer(flush_interval=0.001, retry_interval=0.001)
        writer.write("first")
        writer.write("second")
        self.assertTrue(fake.full.wait(LONG))
        self.assertFalse(writer.flush(0.01))
        fake.room.set()
        self.assertTrue(writer.flush(LONG))
        self.assertEqual(self.content(), "first\nsecond\n")
        self.assertIn("No space left on device", self.complaints[0])

    def test_disk_full_and_moved(self) -> None:
        """When a torn line is left behind in the old file, the new one has it whole."""
        fake = FakeOs(taken=7)
        self.patch(writer_module, "os", fake)
        writer = self.writer(flush_interval=LONG, retry_interval=LONG)
        writer.write("first")
        writer.write("second")
        self.assertFalse(writer.flush(0.01))
        self.assertTrue(fake.full.wait(LONG))
        os.rename(self.path, self.path + ".1")
        real_open = writer_module.open_log

        def open_elsewhere(path: str) -> int:
            fake.room.set()
            return real_open(path)

        self.patch(writer_module, "open_log", open_elsewhere)
        writer.reopen()
        self.assertTrue(writer.flush(LONG))
        self.assertEqual((self.content(self.path + ".1"), self.content()), ("first\ns", "second\n"))

    def test_reader_gone(self) -> None:
        """A pipe whose reader is gone is complained of, and closing counts what is lost."""
        reader, file = self.pipe()
        os.close(reader)
        writer = self.writer(file, flush_interval=0.001, retry_interval=LONG)
        writer.write("one")
        writer.write("two")
        self.assertFalse(writer.close(LONG))
        self.assertEqual(writer.dropped, 2)
        self.assertIn("Broken pipe", self.complaints[0])
        self.assertIn("2 lines were lost", self.complaints[-1])

    def test_disk_full_at_close(self) -> None:
        """Lines that a full disk does not take before the close are counted and reported."""
        fake = FakeOs(taken=7)
        self.patch(writer_module, "os", fake)
        writer = self.writer(flush_interval=LONG, retry_interval=LONG)
        for line in ("first", "second", "third"):
            writer.write(line)
        self.assertFalse(writer.close(LONG))
        self.assertEqual(writer.dropped, 2)
        self.assertIn("2 lines were lost, because it could not be written", self.complaints[-1])

    def test_blocked_at_close(self) -> None:
        """A close does not wait longer than told for a pipe that nobody reads."""
        reader, file = self.pipe()
        self.addCleanup(os.close, reader)
        writer = self.writer(file, flush_interval=0.001)
        for _ in range(100):
            writer.write("x" * 99)
        self.assertFalse(writer.close(0.05))
        self.assertIn("100 lines were lost, because nothing reads them", self.complaints[-1])
        self.read(reader, lambda got: len(got) >= 10_000)
        self.assertTrue(writer.close(LONG))

    def test_non_blocking(self) -> None:
        """A pipe that somebody made non-blocking loses nothing."""
        reader, file = self.pipe()
        self.addCleanup(os.close, reader)
        os.set_blocking(file.fileno(), False)
        writer = self.writer(file, flush_interval=0.001, retry_interval=0.01)
        for number in range(300):
            writer.write(f"{number:099d}")
        self.assertFalse(writer.flush(0.05))
        lines = self.read(reader, lambda got: len(got) >= 30_000).splitlines()
        self.assertEqual([int(line) for line in lines], list(range(300)))
        self.assertTrue(writer.close(LONG))


class DeviceTests(SynchronousTestCase):
    """A log that is no regular file."""

    def test_not_rotated(self) -> None:
        """A device is opened again, and not renamed."""
        path = os.path.abspath(self.mktemp())
        os.symlink("/dev/null", path)
        writer = LineWriter(path, self.fail, rotate_bytes=1)
        self.addCleanup(writer.close, LONG)
        writer.write("a line")
        writer.reopen()
        self.assertTrue(writer.flush(LONG))
        self.assertEqual(os.readlink(path), "/dev/null")
        self.assertFalse(os.path.lexists(f"{path}.1"))
