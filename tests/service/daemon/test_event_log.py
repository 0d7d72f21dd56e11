"""Tests for twistd's log: lines as twistd's, files that rotate, and readers that stop."""

from __future__ import annotations

import atexit
import os
import sys
import syslog
import threading
from pathlib import Path
from typing import Any

from twisted.logger import ILogObserver, Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from portfwd.logs.syslog_writer import ALERT, INFO, WARNING
from portfwd.logs.writer import QUEUE_BYTES
from portfwd.service.daemon import event_log as module
from portfwd.service.daemon.event_log import EventLog, event_log_for

#: Seconds after which what a thread waits for does not come.
TIMEOUT = 20.0


class EventLogTests(SynchronousTestCase):
    """What is written, and when."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.log = EventLog(str(self.path))
        self.addCleanup(self.log.close)
        self.emit = Logger(namespace="portfwd.test", observer=self.log)

    def test_lines(self) -> None:
        """Lines are twistd's; tracebacks are part of theirs; what came before `begin` waits for it."""
        verifyObject(ILogObserver, self.log)
        self.emit.info("a {what}", what="word")
        self.log.flush()
        self.assertEqual(self.path.read_text(), "")
        self.log.begin()
        try:
            raise ZeroDivisionError("by zero")
        except ZeroDivisionError:
            self.emit.failure("it failed")
        self.assertTrue(self.log.flush())
        first, second, *more = self.path.read_text().splitlines()
        self.assertRegex(first, r"^\d{4}-\d\d-\d\dT\S+ \[portfwd.test#info\] a word$")
        self.assertRegex(second, r" \[portfwd.test#critical\] it failed$")
        self.assertTrue(all(line.startswith("\t") for line in more))
        self.assertIn("\tbuiltins.ZeroDivisionError: by zero", more)
        self.assertIn("0 bytes waiting", repr(self.log))

    def test_closed_before_it_began(self) -> None:
        """What waits is written at the end, if the start did not get that far."""
        self.emit.info("why")
        self.assertTrue(self.log.close())
        self.assertIn("] why\n", self.path.read_text())

    def test_rotated(self) -> None:
        """A file that has become large is moved to .1, and so is one at `reopen`; no line is lost."""
        self.patch(module, "ROTATE_BYTES", 100)
        path = self.path.with_suffix(".small")
        log = EventLog(str(path))
        self.addCleanup(log.close)
        log.begin()
        emit = Logger(namespace="t", observer=log)
        emit.info("x" * 100)
        log.flush()
        emit.info("short")
        log.flush()
        log.reopen()
        log.flush()
        emit.info("last")
        log.flush()
        names = [path, path.with_name(path.name + ".1"), path.with_name(path.name + ".2")]
        said = [one.read_text().split("] ")[1].strip() for one in names]
        self.assertEqual(said, ["last", "short", "x" * 100])

    def test_moved_away(self) -> None:
        """If another program has renamed the file, `reopen` creates it without a rotation."""
        self.log.begin()
        self.emit.info("old")
        self.log.flush()
        moved = self.path.with_suffix(".moved")
        self.path.rename(moved)
        self.log.reopen()
        self.log.flush()
        self.emit.info("new")
        self.log.flush()
        self.assertIn("] old\n", moved.read_text())
        self.assertIn("] new\n", self.path.read_text())
        self.assertFalse(self.path.with_name(self.path.name + ".1").exists())

    def test_a_reader_that_stops(self) -> None:
        """Lines are dropped instead of waiting; one line tells how many, when there is a reader again."""
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as pipe, os.fdopen(reader, "rb") as end:
            log = EventLog(pipe)
            log.begin()
            emit = Logger(namespace="t", observer=log)
            count = 2 * QUEUE_BYTES // 10_000
            for number in range(count):
                emit.info(f"{number} {'x' * 10_000}")
            lines: list[str] = []
            while not lines or "dropped here" not in lines[-1]:
                lines.append(end.readline().decode())
            told = [line for line in lines if "dropped here" in line]
            self.assertIn(f" {count - len(lines) + len(told)} lines dropped here", told[-1])
            self.assertTrue(log.close())

    def test_a_file_that_cannot_be_rotated(self) -> None:
        """The old file stays in use, and says why."""
        folder = self.path.with_suffix(".folder")
        folder.mkdir()
        log = EventLog(str(folder / "log"))
        self.addCleanup(log.close)
        log.begin()
        moved = folder.with_suffix(".moved")
        folder.rename(moved)
        log.reopen()
        log.flush()
        log.flush()
        self.assertIn("cannot reopen", (moved / "log").read_text())


class ChoiceTests(SynchronousTestCase):
    """Which log twistd's options ask for."""

    def setUp(self) -> None:
        self.at_exit: list[Any] = []
        self.patch(atexit, "register", self.at_exit.append)

    def test_files(self) -> None:
        """A file, twistd's default as a daemon, is opened at once and closed at the exit."""
        folder = Path(self.mktemp())
        folder.mkdir()
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(folder)
        for options, name in (
            ({"logfile": "a.log", "nodaemon": True}, "a.log"),
            ({"logfile": None, "nodaemon": False}, "twistd.log"),
        ):
            log = event_log_for(options)
            self.assertIsNotNone(log)
            self.assertTrue((Path(before) / folder / name).exists())
        for close in self.at_exit:
            close()
        self.assertEqual(len(self.at_exit), 2)
        self.assertRaises(OSError, event_log_for, {"logfile": "no/such/folder", "nodaemon": True})

    def test_standard_output(self) -> None:
        """In the foreground lines go to standard output, which stays open."""
        with open(os.devnull, "w") as null:
            self.patch(sys, "stdout", null)
            for name in (None, "-"):
                self.assertIsNotNone(event_log_for({"logfile": name, "nodaemon": True}))
            for close in self.at_exit:
                close()
            self.assertFalse(null.closed)

    def test_syslog(self) -> None:
        """Events go to syslog in a thread: with twistd's words and priorities, and without a time."""
        sent: list[tuple[int, str]] = []
        opened: list[str] = []
        threads: list[threading.Thread] = []

        def send(priority: int, text: str) -> None:
            threads.append(threading.current_thread())
            sent.append((priority, text))

        self.patch(syslog, "syslog", send)
        self.patch(syslog, "openlog", opened.append)
        log = event_log_for({"logfile": None, "syslog": True, "prefix": "fwd", "nodaemon": True})
        assert log is not None
        emit = Logger(namespace="t", observer=log)
        emit.info("a {what}", what="word")
        self.assertEqual((sent, opened), ([], ["fwd"]))
        log.begin()
        try:
            raise ZeroDivisionError("by zero")
        except ZeroDivisionError:
            emit.failure("it failed")
        (close,) = self.at_exit
        self.assertTrue(close())
        self.assertEqual(
            sent[:2], [(syslog.LOG_INFO, "[t#info] a word"), (syslog.LOG_ALERT, "[t#critical] it failed")]
        )
        self.assertIn((syslog.LOG_ALERT, "\tbuiltins.ZeroDivisionError: by zero"), sent)
        self.assertNotIn(threading.main_thread(), threads)
        self.assertEqual((ALERT, WARNING, INFO), (syslog.LOG_ALERT, syslog.LOG_WARNING, syslog.LOG_INFO))

    def test_syslog_that_is_not_read(self) -> None:
        """Lines that did not fit are counted in a line of their own."""
        read, sent = threading.Event(), []

        def send(priority: int, text: str) -> None:
            read.wait(TIMEOUT)
            sent.append((priority, text))

        log = module.SyslogLog(send)
        log.begin()
        emit = Logger(namespace="t", observer=log)
        count = 2 * QUEUE_BYTES // 10_000
        for number in range(count):
            emit.info(f"{number} {'x' * 10_000}")
        read.set()
        self.assertTrue(log.close())
        told = [one for one in sent if "dropped here" in one[1]]
        self.assertEqual([priority for priority, _ in told], [WARNING] * len(told))
        self.assertIn(f" {count - len(sent) + len(told)} lines dropped here", told[-1][1])

    def test_twistds_own(self) -> None:
        """An observer that was named, and what twistd refuses, are left to it."""
        for options in (
            {},
            {"logfile": None, "logger": print},
            {"logfile": "-", "nodaemon": False},
        ):
            self.assertIsNone(event_log_for(options))
