"""The forwarder on the loopback: start all or nothing, drain, cut; and the portable path, end to end."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel
from twisted.trial.unittest import TestCase

from portfwd.errors import StartError
from portfwd.kernel.platform import Platform
from portfwd.relay import rule as rule_module
from portfwd.relay.failovers import Failovers
from portfwd.service.build.bind_failures import WAYS_OUT
from portfwd.service.build.build import count_descriptors
from portfwd.service.run.forwarder import Forwarder
from portfwd.service.run.session_log import Silent
from portfwd.values import CloseReason
from tests.events import EventsOf
from tests.places import short_directory
from tests.ports import free_port
from tests.service.contexts import Lines, a_used_port, rules

#: The way out where a port is taken.
IN_USE = WAYS_OUT[errno.EADDRINUSE]

#: Seconds after which a peer gives up, and a test has failed. Only failures wait so long: it is far more than
#: a test takes on a machine with more to do than it has processors for.
TIMEOUT = 60.0
PORTABLE = Platform(own_sockets=False, epoll=False)
PAIR = Platform(own_sockets=True, epoll=False)

T = TypeVar("T")


def read_to_end(sock: socket.socket) -> bytes:
    """Everything up to the end."""
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def open_descriptors() -> set[str]:
    """What this process has open, as the kernel names it."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:  # the directory that was listed
            continue
    return found


class ForwarderCase(TestCase):
    """Forwarders that are stopped after the test, and peers in threads."""

    def setUp(self) -> Deferred[None]:
        """
        Make a log, and an upstream that listens; the reactor runs when the test begins.

        trial starts the reactor anew for each test, once the test waits for something. The reactor opens
        descriptors of its own then, which a test that counts descriptors would find one time and not another.
        """
        self.lines = Lines()
        self.upstream = socket.create_server(("127.0.0.1", 0))
        self.upstream.settimeout(TIMEOUT)
        self.addCleanup(self.upstream.close)
        self.target = f"127.0.0.1:{self.upstream.getsockname()[1]}"
        return deferLater(cast(Any, reactor), 0)

    def forwarder(self, text: str, *, platform: Platform | None = None, drain: float = 5.0) -> Forwarder:
        """A forwarder that is not started."""
        made = Forwarder(cast(Any, reactor), rules(text), self.lines, drain=drain, platform=platform)

        def stop() -> Deferred[None]:
            made.cut(CloseReason.KILLED)
            return made.stopService()

        self.addCleanup(stop)
        return made

    def started(self, text: str, **options: Any) -> Forwarder:
        """A forwarder that runs."""
        made = self.forwarder(text, **options)
        made.privilegedStartService()
        made.startService()
        return made

    def connect(self, forwarder: Forwarder, rule: str = "a") -> socket.socket:
        """A client of that rule; blocking, for a thread."""
        (address,) = forwarder.addresses[rule]
        return self.connect_to(address)

    def connect_to(self, address: str) -> socket.socket:
        """A client at an address as the log writes it."""
        if address.startswith("unix:"):
            client = socket.socket(socket.AF_UNIX)
            name = address.removeprefix("unix:")
            client.settimeout(TIMEOUT)
            client.connect("\0" + name[1:] if name.startswith("@") else name)
        else:
            host, _, port = address.rpartition(":")
            host = {"[::]": "127.0.0.1"}.get(host, host.strip("[]"))
            client = socket.create_connection((host, int(port)), TIMEOUT)
        self.addCleanup(client.close)
        return client

    def accept(self) -> socket.socket:
        """The upstream's side of it."""
        server, _ = self.upstream.accept()
        server.settimeout(TIMEOUT)
        self.addCleanup(server.close)
        return server

    def in_thread(self, work: Callable[[], T]) -> Deferred[T]:
        """Peers block; the reactor must not."""
        return deferToThread(work)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the reactor run until something holds."""
        for _ in range(int(TIMEOUT / 0.01)):
            if holds():
                return
            await deferLater(cast(Any, reactor), 0.01)
        self.fail("it never came to hold")


class StartTests(ForwarderCase):
    """Binding and addresses."""

    async def test_addresses(self) -> None:
        """Every rule's real addresses are known when it runs, and none before or after."""
        path = str(short_directory(self) / "s")
        forwarder = self.forwarder(
            f"a: 127.0.0.1:0 -> {self.target}\n"
            f"b: unix:{path} -> {self.target}\n"
            f"lab: 127.0.0.1:0 -> {self.target}\n"
        )
        self.assertEqual(forwarder.addresses, {})
        self.assertEqual(repr(forwarder), "<Forwarder stopped rules=3 sessions=0>")
        forwarder.startService()
        self.assertRegex(forwarder.addresses["a"][0], r"^127\.0\.0\.1:\d+$")
        self.assertEqual(forwarder.addresses["b"], [f"unix:{path}"])
        self.assertEqual(repr(forwarder), "<Forwarder running rules=3 sessions=0>")
        self.assertEqual([rule.name for rule in forwarder.rules], ["a", "b", "lab"])
        await forwarder.stopService()
        self.assertEqual(forwarder.addresses, {})
        self.assertFalse(os.path.exists(path))

    def test_all_or_nothing(self) -> None:
        """One port that is taken, and nothing is bound."""
        used = a_used_port(self)
        path = str(short_directory(self) / "s")
        forwarder = self.forwarder(f"a: unix:{path} -> {self.target}\nb: 127.0.0.1:{used} -> {self.target}\n")
        before = count_descriptors()
        problem = self.assertRaises(StartError, forwarder.privilegedStartService)
        self.assertEqual(
            problem.failures,
            (f"b: cannot listen on 127.0.0.1:{used}: Address already in use (test.conf:2:4); {IN_USE}",),
        )
        self.assertFalse(os.path.exists(path))
        self.assertEqual(count_descriptors(), before)
        self.assertRaises(StartError, forwarder.startService)
        self.assertFalse(forwarder.running)

    def test_no_descriptors_for_sessions(self) -> None:
        """A limit that leaves none for a single client is said at the start; nothing stays bound."""
        forwarder = self.forwarder(f"a: 127.0.0.1:0 -> {self.target}\n")
        before = count_descriptors()
        forwarder.privilegedStartService()
        forwarder.budget.limit = before + 2
        problem = self.assertRaises(StartError, forwarder.startService)
        self.assertRegex(problem.failures[0], "^[0-9]+ descriptors are too few: ")
        self.assertEqual(count_descriptors(), before)

    def test_taken_between_bind_and_listen(self) -> None:
        """Another program listens on a port after it was bound: the start fails, and nothing stays."""
        port = free_port()
        forwarder = self.forwarder(
            f"a: 127.0.0.1:{port} -> {self.target}\nb: 127.0.0.2:{port} -> {self.target}\n"
        )
        forwarder.privilegedStartService()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.2", port))
            other.listen()
            before = count_descriptors()
            problem = self.assertRaises(StartError, forwarder.startService)
            line = f"b: cannot listen on 127.0.0.2:{port}: Address already in use (test.conf:2:4); {IN_USE}"
            self.assertEqual(problem.failures, (line,))
            self.assertEqual(count_descriptors(), before - 2)
        self.assertFalse(forwarder.running)
        self.successResultOf(forwarder.stopService())

    async def test_no_rules(self) -> None:
        """A file with a log line and nothing else runs, and stops."""
        forwarder = self.started("logfile x.log")
        self.assertEqual(forwarder.addresses, {})
        await forwarder.stopService()

    async def test_again(self) -> None:
        """A forwarder that was stopped can be started again."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}")
        await forwarder.stopService()
        forwarder.startService()
        client = await self.in_thread(lambda: self.connect(forwarder))
        server = await self.in_thread(self.accept)
        client.sendall(b"x")
        self.assertEqual(await self.in_thread(lambda: server.recv(1)), b"x")

    def test_missing_facilities(self) -> None:
        """What the platform lacks is said at the start."""
        forwarder = self.forwarder(f"a: 127.0.0.1:0 -> {self.target}", platform=PORTABLE)
        told = EventsOf(self, Forwarder)
        forwarder.startService()
        self.assertIn("sockets are Twisted's own", "".join(told.texts(LogLevel.info)))

    def test_silent(self) -> None:
        """Without a log nobody is told."""
        silent = Silent()
        self.assertFalse(silent.wants_opened or silent.wants_closed)
        silent.opened(object())
        silent.closed(object())
        forwarder = Forwarder(cast(Any, reactor), rules(f"a: 127.0.0.1:0 -> {self.target}"))
        self.assertEqual(forwarder.rules[0].log, silent)


class StopTests(ForwarderCase):
    """Draining and cutting."""

    async def in_session(self, **options: Any) -> tuple[Forwarder, socket.socket, socket.socket]:
        """One session."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}", **options)
        client = await self.in_thread(lambda: self.connect(forwarder))
        server = await self.in_thread(self.accept)
        await self.until(lambda: forwarder.session_count == 1)
        return forwarder, client, server

    async def test_without_sessions(self) -> None:
        """It is over at once, twice if need be."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}")
        await forwarder.stopService()
        await forwarder.stopService()
        self.assertFalse(forwarder.running)

    async def test_who_waits_already(self) -> None:
        """A client whom the kernel has let in is served, and has the time that sessions have."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}", drain=TIMEOUT)
        client = self.connect(forwarder)
        stopped = forwarder.stopService()
        server = await self.in_thread(self.accept)
        client.sendall(b"late")
        self.assertEqual(await self.in_thread(lambda: server.recv(4)), b"late")
        (deadline,) = (
            call for call in cast(Any, reactor).getDelayedCalls() if call.func == forwarder.cut_at_deadline
        )
        deadline.reset(0)
        await stopped
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.DRAIN])

    async def test_sessions_finish(self) -> None:
        """New clients are refused; the session goes on to its end, and then the stop is over for all."""
        forwarder, client, server = await self.in_session()
        address = forwarder.addresses["a"][0]
        first, second = forwarder.stopService(), forwarder.stopService()
        self.assertNoResult(first)

        def converse() -> bytes:
            self.assertRaises(ConnectionRefusedError, self.connect_to, address)
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            asked = read_to_end(server)
            server.sendall(b"answer")
            server.close()
            return asked + read_to_end(client)

        self.assertEqual(await self.in_thread(converse), b"questionanswer")
        await first
        await second
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.NORMAL])

    async def test_deadline(self) -> None:
        """Sessions that are left at the drain deadline are reset: ``TD``."""
        forwarder, client, server = await self.in_session(drain=0.05)
        await forwarder.stopService()
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.DRAIN])
        for sock in (client, server):
            with self.assertRaises(ConnectionResetError):
                await self.in_thread(lambda sock=sock: sock.recv(1))

    async def test_readers_after_the_deadline(self) -> None:
        """Who still has to read what was received then does not keep the process for as long as he likes."""
        self.patch(rule_module, "DELIVERY_LIMIT", 0.05)
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target} linger=1h", drain=0.05)
        client = await self.in_thread(lambda: self.connect(forwarder))
        server = await self.in_thread(self.accept)
        self.addCleanup(client.close)

        def fill() -> None:
            server.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    server.send(bytes(65536))

        await self.in_thread(fill)
        await forwarder.stopService()
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.DRAIN])

    async def test_cut(self) -> None:
        """A cut during the drain ends it at once: ``KD``."""
        forwarder, _, _ = await self.in_session(drain=3600.0)
        stopped = forwarder.stopService()
        forwarder.cut(CloseReason.KILLED)
        await stopped
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.KILLED])

    async def test_nothing_is_left(self) -> None:
        """After a session and a stop there are as many descriptors as before the start."""
        await self.in_thread(lambda: None)  # the pool of threads has descriptors of its own
        before = open_descriptors()
        forwarder, client, server = await self.in_session()
        client.close()
        server.close()
        await forwarder.stopService()
        await self.until(lambda: open_descriptors() <= before)


class RelayCase(ForwarderCase):
    """The same conversations, whatever the platform has."""

    platform: Platform | None = None

    def run_rule(self, listen: str, target: str | None = None) -> Forwarder:
        """One rule on this platform."""
        return self.started(f"a: {listen} -> {target or self.target}", platform=self.platform)

    def send_and_end(self, source: socket.socket, destination: socket.socket, data: bytes) -> bytes:
        """Send and end on one side; what the other one got."""

        def send() -> None:
            source.sendall(data)
            source.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            return read_to_end(destination)
        finally:
            sender.join()

    async def check_both_ways(self, forwarder: Forwarder) -> None:
        """Bytes both ways, more than all buffers hold, and ends in both orders."""
        data = os.urandom(3_000_000)
        for client_first in (True, False):

            def converse(client_first: bool = client_first) -> tuple[bytes, bytes]:
                client = self.connect(forwarder)
                server = self.accept()
                first, second = (client, server) if client_first else (server, client)
                there = self.send_and_end(first, second, data)
                back = self.send_and_end(second, first, data[::-1])
                client.close()
                server.close()
                return there, back

            there, back = await self.in_thread(converse)
            self.assertEqual((there == data, back == data[::-1]), (True, True))
        await self.until(lambda: len(self.lines.closed_lines) == 2)
        for line, first in zip(self.lines.closed_lines, ("client", "upstream"), strict=True):
            self.assertIs(line.reason, CloseReason.NORMAL)
            self.assertEqual(line.ended_first.value if line.ended_first else None, first)
            self.assertEqual((line.to_upstream.bytes, line.to_client.bytes), (len(data), len(data)))

    async def test_ipv4(self) -> None:
        """TCP to TCP."""
        await self.check_both_ways(self.run_rule("127.0.0.1:0"))

    async def test_endpoint_target(self) -> None:
        """A client endpoint of Twisted's ends its directions one by one too."""
        host, _, port = self.target.partition(":")
        await self.check_both_ways(self.run_rule("127.0.0.1:0", f'endpoint:"tcp:{host}:{port}"'))

    async def test_everywhere(self) -> None:
        """A listener without a host takes IPv4 clients too, under their own address."""
        forwarder = self.run_rule(":0")
        client = await self.in_thread(lambda: self.connect(forwarder))
        (server, _) = await self.in_thread(self.upstream.accept)
        client.close()
        server.close()
        await self.until(lambda: bool(self.lines.closed_lines))
        self.assertRegex(str(self.lines.closed_lines[0].client), r"^127\.0\.0\.1:")

    async def test_unix(self) -> None:
        """A unix listener, a unix target."""
        for name in ("@portfwd-test-" + os.urandom(6).hex(), str(short_directory(self) / "s")):
            self.lines.closed_lines.clear()
            self.upstream = socket.socket(socket.AF_UNIX)
            self.addCleanup(self.upstream.close)
            self.upstream.settimeout(TIMEOUT)
            self.upstream.bind("\0" + name[1:] if name.startswith("@") else name)
            self.upstream.listen()
            await self.check_both_ways(self.run_rule(f"unix:{name}.l", f"unix:{name}"))

    async def test_refused(self) -> None:
        """Nobody listens there: the client is reset, the line says so."""
        self.upstream.close()
        forwarder = self.run_rule("127.0.0.1:0")

        def converse() -> None:
            with self.assertRaises(ConnectionResetError):
                self.connect(forwarder).recv(1)

        await self.in_thread(converse)
        await self.until(lambda: bool(self.lines.closed_lines))
        (line,) = self.lines.closed_lines
        self.assertIs(line.reason, CloseReason.CONNECT_REFUSED)
        self.assertEqual(str(line.upstream), self.target)


class NativeRelayTests(RelayCase):
    """All that this machine has."""


class PairRelayTests(RelayCase):
    """Sockets of our own without epoll: the pair."""

    platform = PAIR


class PortableRelayTests(RelayCase):
    """Twisted's own sockets on both sides."""

    platform = PORTABLE


del RelayCase


class FailoverTests(ForwarderCase):
    """Targets that fail while another one serves."""

    async def test_told(self) -> None:
        """The session's line lists what failed first; one warning is written, not one a session."""
        dead = free_port()
        forwarder = self.started(f"a: 127.0.0.1:0 -> 127.0.0.1:{dead}, {self.target}\n")
        told = EventsOf(self, Failovers)
        for _ in range(2):
            client = await self.in_thread(lambda: self.connect(forwarder))
            server = await self.in_thread(self.accept)
            client.close()
            server.close()
        await self.until(lambda: len(self.lines.closed_lines) == 2)
        for line in self.lines.closed_lines:
            self.assertEqual(
                [(one.target, str(one.address)) for one in line.attempts], [(f"127.0.0.1:{dead}",) * 2]
            )
            self.assertIn("Connection refused", line.attempts[0].cause)
            self.assertEqual(line.reason, CloseReason.NORMAL)
        self.assertEqual(len(told.texts(LogLevel.warn)), 1)
