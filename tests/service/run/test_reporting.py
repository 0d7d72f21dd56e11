"""Tests of `portfwd.service.run.reporting`: the status file, and the line of statistics."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, cast
from unittest import mock

from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.metrics.figures import Figures
from portfwd.rules.status_lines import StatusFileSpec, StatusFormat
from portfwd.rules.steps import Steps
from portfwd.service.run import reporting
from portfwd.service.run.forwarder import Forwarder
from portfwd.service.run.reporting import StatusReports, add_reports, replace_file, rule_facts
from tests.events import EventsOf
from tests.service.contexts import Lines, rules
from tests.service.run.test_forwarder import ForwarderCase


class ReplaceTests(SynchronousTestCase):
    """A file as a whole."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.path = os.path.join(self.directory, "status")

    def test_replaced(self) -> None:
        """It has its permission bits whatever the umask is, and nothing else stays."""
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        for text, mode in (("one\n", 0o644), ("two \udc80\n", 0o600)):
            replace_file(self.path, text, mode)
            self.assertEqual(os.stat(self.path).st_mode & 0o777, mode)
        self.assertEqual(Path(self.path).read_text("utf-8"), "two \\udc80\n")
        self.assertEqual(os.listdir(self.directory), ["status"])

    def test_failed(self) -> None:
        """What cannot be put there leaves nothing, and the old file is as it was."""
        os.mkdir(self.path)
        self.assertRaises(IsADirectoryError, replace_file, self.path, "text", 0o644)
        self.assertEqual(os.listdir(self.directory), ["status"])

    def test_link(self) -> None:
        """A link in its place is replaced, and not followed."""
        elsewhere = os.path.join(self.directory, "elsewhere")
        os.symlink("elsewhere", self.path)
        replace_file(self.path, "text", 0o644)
        self.assertFalse(os.path.islink(self.path) or os.path.exists(elsewhere))

    def test_device(self) -> None:
        """A device is not replaced by a file."""
        os.symlink("/dev/null", self.path)
        problem = self.assertRaises(OSError, replace_file, self.path, "text", 0o644)
        self.assertEqual(problem.strerror, "it is not a regular file")
        self.assertEqual(os.readlink(self.path), "/dev/null")


class LoopTests(SynchronousTestCase):
    """When what is written, on a clock, without a forwarder."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = 1_800_000_000.5
        self.written: list[str] = []
        self.answers: list[Deferred[None]] = []
        self.patch(reporting, "measure", self.measure)
        self.patch(reporting, "in_thread", self.in_thread)
        self.patch(reporting, "replace_file", lambda path, text, mode: self.written.append(text))
        self.told = EventsOf(self, StatusReports)

    def measure(self, forwarder: object, figures: Figures) -> Steps[None]:
        """Nothing to be measured."""
        figures.reloads = 7
        yield

    def in_thread(self, _: object, call: Any, seconds: float) -> Deferred[None]:
        """The thread is a promise."""
        call()
        return self.answers.pop(0) if self.answers else succeed(None)

    def reports(self, file: StatusFileSpec | None, interval: float | None = None) -> StatusReports:
        """They run."""
        forwarder = mock.Mock(every_rule=())
        made = StatusReports(cast(Any, self.clock), forwarder, file, interval, lambda: self.wall)
        made.startService()
        return made

    def test_file(self) -> None:
        """It is written at the start, after each interval, and no more after the stop."""
        made = self.reports(StatusFileSpec("s", 5.0))
        self.assertIn("/s, log every 0 s>", repr(made))
        self.clock.pump([0.0, 5.0, 5.0])
        self.assertEqual(len(self.written), 3)
        last = json.loads(self.written[-1])
        self.assertEqual((last["uptime_seconds"], last["config_reloads"]), (10, 7))
        self.assertEqual(last["timestamp"], "2027-01-15T08:00:00Z")
        self.assertEqual(last["stats_since_reload"], "2027-01-15T08:00:00Z")
        made.stopService()
        self.clock.advance(30)
        self.assertEqual((len(self.written), self.told.texts()), (3, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_text(self) -> None:
        """The form for people."""
        self.reports(StatusFileSpec("s", 5.0, StatusFormat.TEXT)).stopService()
        self.assertTrue(self.written[0].startswith("portfwd Status Report\n"))

    def test_slow_disk(self) -> None:
        """While one write hangs, none is begun."""
        hanging: Deferred[None] = Deferred()
        self.answers = [hanging]
        made = self.reports(StatusFileSpec("s", 5.0))
        self.clock.pump([5.0] * 10)
        self.assertEqual(len(self.written), 1)
        hanging.callback(None)
        self.clock.advance(5)
        self.assertEqual(len(self.written), 2)
        made.stopService()

    def test_problem(self) -> None:
        """A problem is told once, and its end."""
        full = OSError(errno.ENOSPC, "No space left on device")
        self.answers = [failed(full), failed(full), succeed(None), succeed(None)]
        made = self.reports(StatusFileSpec("/run/s", 5.0))
        self.clock.pump([5.0] * 3)
        self.assertEqual(
            self.told.texts(),
            ["status file /run/s: No space left on device", "status file /run/s: written again"],
        )
        made.stopService()

    def test_mistake(self) -> None:
        """What is no problem of a disk is logged as what it is, and the next report is made."""
        self.answers = [failed(ZeroDivisionError("0"))]
        made = self.reports(StatusFileSpec("s", 5.0))
        self.clock.advance(5)
        (event,) = self.told.events
        self.assertEqual((event["log_format"], len(self.written)), ("a status report failed", 2))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        made.stopService()

    def test_stopped_meanwhile(self) -> None:
        """A report that is made when the service stops is not written."""
        made = self.reports(StatusFileSpec("s", 5.0))
        self.patch(reporting, "Slices", lambda *_: mock.Mock(start=lambda: pending))
        pending: Deferred[dict[str, Any]] = Deferred()
        self.clock.advance(5)
        made.stopService()
        pending.callback({})
        self.assertEqual(len(self.written), 1)

    def test_line(self) -> None:
        """A line after each interval, none at the start."""
        made = self.reports(None, 2.0)
        self.assertEqual(self.told.texts(), [])
        self.clock.pump([2.0, 2.0])
        self.assertEqual(
            [one.split()[:2] for one in self.told.texts()], [["STATS:", "uptime=2s"], ["STATS:", "uptime=4s"]]
        )
        made.stopService()


def failed(error: Exception) -> Deferred[None]:
    """A promise that was broken."""
    made: Deferred[None] = Deferred()
    made.errback(Failure(error))
    return made


class ForwarderTests(ForwarderCase):
    """Reports of a forwarder at work."""

    async def test_written(self) -> None:
        """Sessions are counted, closed ones too, because the line asks for them."""
        path = os.path.abspath(self.mktemp())
        text = f"status-file {path} interval=1s\na: 127.0.0.1:0 -> {self.target}\n"
        forwarder = self.started(text)
        client = await self.in_thread(lambda: self.connect(forwarder))
        server = await self.in_thread(self.accept)
        server.close()
        client.close()
        await self.until(lambda: not forwarder.session_count)
        parent = MultiService()
        add_reports(parent, rules(text), forwarder, cast(Any, reactor))
        parent.startService()
        try:
            await self.until(lambda: os.path.exists(path))
        finally:
            await cast(Any, parent.stopService())
        found = json.loads(Path(path).read_text("utf-8"))
        self.assertEqual((found["connections"]["total_tcp"], found["servers"]), (1, 1))
        (rule,) = found["rules"]
        self.assertEqual((rule["name"], rule["connections_total"]), ("a", 1))
        self.assertEqual(rule["backends"][0]["name"], self.target)

    def test_nothing_asked(self) -> None:
        """Without such lines there is no service."""
        parent = MultiService()
        add_reports(parent, rules(":80 -> 10.0.0.1:80"), cast(Any, None), cast(Any, reactor))
        self.assertEqual(list(parent), [])

    def test_facts(self) -> None:
        """Each rule has a protocol and an algorithm, its targets their hosts."""
        text = (
            "web: 127.0.0.1:0 -> 10.0.0.1:80, 10.0.0.2:80 balance=source\n"
            "dns: 127.0.0.1:0/udp -> 10.0.0.3:53/udp\n"
            "app: 127.0.0.1:0 -> unix:/run/app.sock\n"
        )
        made = Forwarder(cast(Any, reactor), rules(text), Lines())
        facts = rule_facts(made.every_rule)
        self.assertEqual(
            {name: (one.protocol, one.algorithm) for name, one in facts.items()},
            {"web": ("tcp", "iphash"), "dns": ("udp", "first"), "app": ("unix", "first")},
        )
        self.assertEqual(facts["web"].hosts, {"10.0.0.1:80": "10.0.0.1", "10.0.0.2:80": "10.0.0.2"})
        self.assertEqual(facts["app"].hosts, {})
