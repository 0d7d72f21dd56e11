"""The wall clock is set while sessions are open: no limit is reached early, and none late."""

from __future__ import annotations

import datetime
import os
import socket
from pathlib import Path
from typing import ClassVar

from twisted.trial import unittest

from tests.integration.case import JSON_LOG, ForwarderCase
from tests.integration.forwarder import TIMEOUT, Forwarder

#: Debian's and others' places for the library that fakes clocks.
LIBRARIES = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")
HOUR = 3600


def library() -> str:
    """
    Where libfaketime is.

    :raises unittest.SkipTest: nowhere.
    """
    for path in LIBRARIES:
        if Path(path).exists():
            return path
    raise unittest.SkipTest("libfaketime is not installed")


class ClockTests(ForwarderCase):
    """One hour forward, then two hours back, under the reactor that is installed by itself."""

    reactor: ClassVar[str] = ""
    reactor_class: ClassVar[str] = "portfwd.kernel.event_loop.PollerReactor"

    def set_clock(self, seconds: int) -> None:
        """From here on the wall clock differs by `seconds`; the monotonic one is as it is."""
        fresh = self.clock.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}s\n")
        os.replace(fresh, self.clock)

    def start(self) -> Forwarder:
        """A forwarder with limits, whose wall clock can be set."""
        self.clock = self.directory / "clock"
        self.set_clock(0)
        upstream = self.listener()
        self.upstream = upstream
        rules = f"{JSON_LOG}long: 127.0.0.1:0 -> {upstream.address} idle=10m\n"
        rules += f"short: 127.0.0.1:0 -> {upstream.address} idle=1s\n"
        preload = ["env", f"LD_PRELOAD={library()}", f"FAKETIME_TIMESTAMP_FILE={self.clock}"]
        preload += ["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"]
        twistd = [f"--reactor={self.reactor}"] if self.reactor else []
        forwarder = Forwarder(
            self.directory, rules, ["--drain", "2"], twistd=[*twistd, "-n", "--pidfile="], launcher=preload
        )
        self.addCleanup(forwarder.clean_up)
        forwarder.wait_until_ready()
        self.assertIn(f"reactor class: {self.reactor_class}", forwarder.log)
        return forwarder

    def session(self, forwarder: Forwarder, rule: str) -> tuple[socket.socket, socket.socket]:
        """Both ends of one."""
        client = socket.create_connection(("127.0.0.1", forwarder.port(rule)), TIMEOUT)
        self.addCleanup(client.close)
        server = self.upstream.accept(TIMEOUT)
        assert server is not None
        self.addCleanup(server.close)
        server.settimeout(TIMEOUT)
        client.settimeout(TIMEOUT)
        self.exchange(client, server)
        return client, server

    def exchange(self, client: socket.socket, server: socket.socket) -> None:
        """A byte there, and one back."""
        client.sendall(b"a")
        self.assertEqual(server.recv(10), b"a")
        server.sendall(b"b")
        self.assertEqual(client.recv(10), b"b")

    def test_set(self) -> None:
        """
        A session that has ten minutes outlives the hour; one that has a second ends after it, each time.

        Lines of the log have the wall clock's time.
        """
        forwarder = self.start()
        client, server = self.session(forwarder, "long")
        self.set_clock(HOUR)
        waits, _ = self.session(forwarder, "short")
        with self.assertRaises(ConnectionResetError):
            waits.recv(10)
        self.exchange(client, server)
        self.set_clock(-HOUR)
        waits, _ = self.session(forwarder, "short")
        with self.assertRaises(ConnectionResetError):
            waits.recv(10)
        self.exchange(client, server)
        first, second = forwarder.access_lines(2)
        self.assertEqual([line.rule for line in (first, second)], ["short", "short"])
        times = [datetime.datetime.fromisoformat(line.raw["time"]).timestamp() for line in (first, second)]
        self.assertGreater(times[0] - times[1], HOUR)
        self.assertEqual(forwarder.stop(), 0)


class EpollClockTests(ClockTests):
    """The same under Twisted's epoll reactor, whose own clock is the wall clock."""

    reactor = "epoll"
    reactor_class = "twisted.internet.epollreactor.EPollReactor"


class SelectClockTests(ClockTests):
    """The same under its select reactor."""

    reactor = "select"
    reactor_class = "twisted.internet.selectreactor.SelectReactor"


class AsyncioClockTests(ClockTests):
    """The same under asyncio's loop."""

    reactor = "asyncio"
    reactor_class = "twisted.internet.asyncioreactor.AsyncioSelectorReactor"
