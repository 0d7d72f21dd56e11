"""What systemd is told, on real datagram sockets; time and environment are the tests'."""

from __future__ import annotations

import os
import socket
from typing import Any, cast
from unittest import mock

from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.daemon.notify import (
    STATUS_INTERVAL,
    Heartbeat,
    Notifier,
    status_of,
    watchdog_seconds,
)
from tests.events import EventsOf
from tests.places import short_directory


class SystemdCase(SynchronousTestCase):
    """A socket that receives messages like systemd."""

    def setUp(self) -> None:
        """A socket with a short name: those of unix sockets have 107 bytes."""
        self.name = f"@portfwd-{os.getpid()}-{self.id()}"[:100]
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.setblocking(False)
        self.systemd.bind("\0" + self.name[1:])

    def notifier(self, name: str | None = None) -> Notifier:
        """One that speaks to it."""
        made = Notifier({"NOTIFY_SOCKET": self.name if name is None else name}, lambda: 5_000_123_456)
        self.addCleanup(made.close)
        return made

    def said(self) -> list[list[str]]:
        """The lines of every datagram so far."""
        messages = []
        while True:
            try:
                messages.append(self.systemd.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return messages


class NotifierTests(SystemdCase):
    """One datagram for each message."""

    def test_messages(self) -> None:
        """Ready, reloading with the time in microseconds, stopping with the time it takes, alive."""
        notifier = self.notifier()
        self.assertTrue(notifier.is_connected)
        self.assertEqual(repr(notifier), "<Notifier connected>")
        notifier.ready("3 listeners")
        notifier.reloading()
        notifier.stopping("draining", 12.5)
        notifier.alive()
        self.assertEqual(
            self.said(),
            [
                ["READY=1", "STATUS=3 listeners"],
                ["RELOADING=1", "MONOTONIC_USEC=5000123", "STATUS=reading the rules again"],
                ["STOPPING=1", "STATUS=draining", "EXTEND_TIMEOUT_USEC=12500000"],
                ["WATCHDOG=1"],
            ],
        )

    def test_status(self) -> None:
        """A status that is known already is not sent again."""
        notifier = self.notifier()
        notifier.ready("a")
        for text in ("a", "b", "b"):
            notifier.status(text)
        self.assertEqual(self.said(), [["READY=1", "STATUS=a"], ["STATUS=b"]])

    def test_a_path(self) -> None:
        """The socket may be a file; connected at once, it is still reached when its name leads nowhere."""
        path = str(short_directory(self) / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.setblocking(False)
            listening.bind(path)
            notifier = self.notifier(path)
            os.unlink(path)
            notifier.alive()
            self.assertEqual(listening.recv(100), b"WATCHDOG=1")

    def test_nobody(self) -> None:
        """Without a socket, or with a kind that is not known, nothing is sent and nothing fails."""
        for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}):
            notifier = Notifier(environment)
            self.assertFalse(notifier.is_connected)
            self.assertEqual(repr(notifier), "<Notifier without a socket>")
            notifier.ready("x")
            notifier.close()

    def test_nobody_any_more(self) -> None:
        """A socket that is gone, or that takes nothing now, costs one line in the log and no more."""
        gone = self.notifier()
        self.systemd.close()
        told = EventsOf(self, Notifier)
        gone.alive()
        gone.alive()
        self.assertEqual(len(told.texts(LogLevel.warn)), 1)
        absent = self.notifier("@portfwd-nobody-is-here")
        self.assertFalse(absent.is_connected)
        self.assertEqual(len(told.texts(LogLevel.warn)), 2)

    def test_process_environment(self) -> None:
        """Without other words it is the process's environment that counts."""
        self.patch(os, "environ", {"NOTIFY_SOCKET": self.name})
        notifier = Notifier()
        self.addCleanup(notifier.close)
        notifier.alive()
        self.assertEqual(self.said(), [["WATCHDOG=1"]])


class WatchdogTests(SynchronousTestCase):
    """How often systemd wants to hear from us."""

    def test_time(self) -> None:
        """The timeout is in microseconds, for this process or without a process number."""
        self.assertEqual(watchdog_seconds({"WATCHDOG_USEC": "3000000"}, 7), 3.0)
        self.assertEqual(watchdog_seconds({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "7"}, 7), 1.5)

    def test_never(self) -> None:
        """Not asked for, meant for another process, or no number."""
        for environment in (
            {},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "soon"},
            {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "8"},
            {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "me"},
        ):
            self.assertIsNone(watchdog_seconds(environment, 7), environment)


class HeartbeatTests(SystemdCase):
    """From time to time."""

    def heart(self, environment: dict[str, str]) -> tuple[Clock, Any, Heartbeat]:
        """A heartbeat of a forwarder with two listeners."""
        clock = Clock()
        forwarder = mock.Mock(
            rules=[1, 2], session_count=1, retired_rules=[], running=True, last_reload_refused=False
        )
        made = Heartbeat(clock, self.notifier(), cast(Any, forwarder), environment)
        self.addCleanup(made.end)
        return clock, forwarder, made

    def test_status(self) -> None:
        """The status is looked at every few seconds and sent when it is another."""
        clock, forwarder, heart = self.heart({})
        heart.startService()
        clock.advance(STATUS_INTERVAL)
        forwarder.session_count = 3
        clock.advance(STATUS_INTERVAL)
        self.assertEqual(self.said(), [["STATUS=2 listeners, 1 session"], ["STATUS=2 listeners, 3 sessions"]])

    def test_watchdog(self) -> None:
        """It beats twice in the time that systemd gave, and goes on while sessions drain, until the end."""
        clock, forwarder, heart = self.heart({"WATCHDOG_USEC": "4000000"})
        heart.startService()
        self.said()
        forwarder.running = False
        for _ in range(3):
            clock.advance(2)
        self.assertEqual(self.said(), [["WATCHDOG=1"]] * 3)
        heart.stopService()
        clock.advance(2)
        self.assertEqual(self.said(), [["WATCHDOG=1"]])
        heart.end()
        self.assertEqual(clock.getDelayedCalls(), [])
        heart.end()

    def test_unheard(self) -> None:
        """Without a socket there is no timer."""
        clock = Clock()
        heart = Heartbeat(clock, Notifier({}), cast(Any, mock.Mock()))
        heart.startService()
        self.assertEqual(clock.getDelayedCalls(), [])
        heart.end()

    def test_line(self) -> None:
        """Numbers with their right plurals; rules that are leaving are told."""
        forwarder: Any = mock.Mock(rules=[1], session_count=0, retired_rules=[], last_reload_refused=False)
        self.assertEqual(status_of(forwarder), "1 listener, 0 sessions")
        forwarder.retired_rules = [1, 2]
        self.assertEqual(status_of(forwarder), "1 listener, 0 sessions, 2 retired rules")
        forwarder.last_reload_refused = True
        self.assertEqual(
            status_of(forwarder),
            "1 listener, 0 sessions, 2 retired rules; the last reload was refused",
        )

    def test_refused_reload(self) -> None:
        """Each beat repeats that the last reload was refused, until one succeeds."""
        clock, sent = Clock(), mock.Mock(Notifier)
        forwarder: Any = mock.Mock(
            rules=[1], session_count=0, retired_rules=[], running=True, last_reload_refused=True
        )
        heart = Heartbeat(clock, sent, forwarder, {})
        heart.startService()
        self.addCleanup(heart.end)
        for refused in (True, True, False):
            forwarder.last_reload_refused = refused
            sent.status.reset_mock()
            clock.advance(60.0)
            self.assertEqual("refused" in sent.status.call_args.args[0], refused)
