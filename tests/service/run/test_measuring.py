"""Tests of `portfwd.service.run.measuring`: what is told of a forwarder at work, and where it is told."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from http.client import HTTPConnection
from typing import Any, cast
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest

from portfwd.errors import StartError
from portfwd.extras import how_to_install
from portfwd.kernel import sockets
from portfwd.listen import binding
from portfwd.metrics.figures import Figures
from portfwd.rules.whole_process import metrics_listener
from portfwd.service.build.bind_failures import WAYS_OUT
from portfwd.service.run import measuring
from portfwd.service.run.forwarder import Forwarder
from portfwd.service.run.measuring import Watchers, measure, missing
from portfwd.streams.sockets import socket_stream
from portfwd.values import CloseReason
from tests.places import short_directory
from tests.service.contexts import a_free_port, a_used_port, rules, take_port
from tests.service.run.test_forwarder import PORTABLE, TIMEOUT, ForwarderCase

#: The way out where a port is taken.
IN_USE = WAYS_OUT[errno.EADDRINUSE]

try:
    import prometheus_client
except ImportError:
    prometheus_client = cast(Any, None)

#: Somebody asks, so sessions are counted.
ASKED = "metrics 127.0.0.1:0\n"


def needs_client() -> None:
    """Skip where no page can be made."""
    if prometheus_client is None:
        raise SkipTest("needs prometheus-client")


def figures_of(forwarder: Forwarder) -> Figures:
    """Everything, at once."""
    figures = Figures()
    for _ in measure(forwarder, figures):
        pass
    return figures


class MeasureTests(ForwarderCase):
    """What is read from a forwarder."""

    def setUp(self) -> Deferred[None]:
        needs_client()
        return super().setUp()

    async def in_session(self, forwarder: Forwarder) -> tuple[socket.socket, socket.socket]:
        """One more session."""
        before = forwarder.session_count
        client = await self.in_thread(lambda: self.connect(forwarder))
        server = await self.in_thread(self.accept)
        await self.until(lambda: forwarder.session_count == before + 1)
        return client, server

    async def refused(self, forwarder: Forwarder) -> None:
        """One more client, one too many."""

        def come() -> None:
            client = self.connect(forwarder)
            client.recv(1)
            client.close()

        before = len(self.lines.closed_lines)
        await self.in_thread(come)
        await self.until(lambda: len(self.lines.closed_lines) > before)

    async def test_open(self) -> None:
        """An open session's bytes are told as they are now; those of a closed one as its line has them."""
        for platform in (None, PORTABLE):
            forwarder = self.started(f"{ASKED}a: 127.0.0.1:0 -> {self.target}", platform=platform)
            client, server = await self.in_session(forwarder)
            self.lines.closed_lines.clear()

            def converse(client: socket.socket = client, server: socket.socket = server) -> None:
                client.sendall(b"question")
                server.recv(100)
                server.sendall(b"the answer")
                client.recv(100)

            await self.in_thread(converse)
            rule = figures_of(forwarder).rules["a"]
            self.assertEqual((rule.tally.to_upstream.bytes, rule.tally.to_client.bytes), (8, 10))
            self.assertEqual((rule.sessions, rule.total), (1, 1))
            self.assertEqual(rule.target_sessions, {self.target: 1})
            self.assertEqual(rule.tally.targets[self.target].to_client.bytes, 10)
            self.assertEqual(rule.tally.reasons, {})
            client.close()
            server.close()
            await self.until(lambda: bool(self.lines.closed_lines))
            (line,) = self.lines.closed_lines
            rule = figures_of(forwarder).rules["a"]
            for flow, told in (
                (rule.tally.to_upstream, line.to_upstream),
                (rule.tally.to_client, line.to_client),
            ):
                self.assertEqual((flow.bytes, flow.reads, flow.writes), (told.bytes, told.reads, told.writes))
            self.assertEqual((rule.sessions, rule.total, rule.tally.reasons), (0, 1, {CloseReason.NORMAL: 1}))
            self.assertEqual(rule.tally.targets[self.target].reasons, {CloseReason.NORMAL: 1})
            self.assertEqual((sum(rule.tally.dial.counts), sum(rule.tally.first_byte.counts)), (1, 1))

    async def test_closed_meanwhile(self) -> None:
        """A session that closes between two steps is told once."""
        self.patch(measuring, "SESSIONS_A_STEP", 1)
        self.patch(socket_stream, "tcp_info", lambda sock: b"\2" * 104)
        forwarder = self.started(f"{ASKED}a: 127.0.0.1:0 -> {self.target} tcp-info=on")
        pairs = [await self.in_session(forwarder) for _ in range(3)]
        for client, server in pairs:
            client.sendall(b"question")
            await self.in_thread(lambda server=server: server.recv(100))
        figures = Figures()
        steps = measure(forwarder, figures)
        next(steps)
        self.assertEqual(figures.rule("a").tally.to_upstream.bytes, 0)
        self.assertEqual(figures.rule("a").tally.retransmits, {})
        for sock in pairs[0]:
            sock.close()
        await self.until(lambda: forwarder.session_count == 2)
        for _ in steps:
            pass
        rule = figures.rules["a"]
        self.assertEqual((rule.tally.to_upstream.bytes, rule.sessions, rule.total), (24, 2, 3))
        self.assertEqual(set(rule.tally.retransmits.values()), {3 * 0x02020202})
        self.assertEqual(rule.target_sessions, {self.target: 2})
        self.assertEqual(rule.tally.targets[self.target].to_upstream.bytes, 24)

    async def test_retransmits(self) -> None:
        """Of a rule with ``tcp-info=on``: what the kernel says of open sessions, and said of closed ones."""
        told = bytearray(104)

        def ask(sock: socket.socket) -> bytes:
            return bytes(told)

        self.patch(socket_stream, "tcp_info", ask)
        self.patch(sockets, "tcp_info", ask)
        for platform in (None, PORTABLE):
            told[100] = 3
            forwarder = self.started(
                f"{ASKED}a: 127.0.0.1:0 -> {self.target} tcp-info=on\nb: 127.0.0.1:0 -> {self.target}\n",
                platform=platform,
            )
            self.assertEqual(figures_of(forwarder).rules["a"].tally.retransmits, {"client": 0, "upstream": 0})
            self.lines.closed_lines.clear()
            client, server = await self.in_session(forwarder)
            (session,) = forwarder.every_rule[0].sessions.values()
            await self.until(lambda session=session: session.reached)
            self.assertEqual(figures_of(forwarder).rules["a"].tally.retransmits, {"client": 3, "upstream": 3})
            told[100] = 4
            client.close()
            server.close()
            await self.until(lambda: bool(self.lines.closed_lines))
            told[100] = 5
            rules = figures_of(forwarder).rules
            self.assertEqual(rules["a"].tally.retransmits, {"client": 4, "upstream": 4})
            self.assertEqual(rules["b"].tally.retransmits, {})
            self.assertEqual(self.lines.closed_lines[0].tcp_info, (bytes(104)[:100] + b"\4\0\0\0",) * 2)

    async def test_refused(self) -> None:
        """Limits that were reached, failed dials, and pauses."""
        down = a_used_port(self)
        forwarder = self.started(
            f"{ASKED}"
            f"a: 127.0.0.1:0 -> {self.target} max-conns=1\n"
            f"b: 127.0.0.1:0 -> 127.0.0.1:1, {self.target}\n"
            f"w: 127.0.0.1:0 -> 127.0.0.1:{down} max-conns=1 on-limit=wait\n"
        )
        await self.in_session(forwarder)
        await self.refused(forwarder)
        await self.refused(forwarder)
        await self.in_thread(lambda: [self.connect(forwarder, "b"), self.accept()])
        await self.in_thread(lambda: [self.connect(forwarder, "w") for _ in range(2)])
        await self.until(lambda: any(one.limited for _, one in forwarder.listeners))
        figures = figures_of(forwarder)
        self.assertEqual(figures.rules["a"].refused, {"max-conns": 2})
        self.assertEqual(figures.rules["a"].tally.reasons, {CloseReason.LIMIT: 2})
        self.assertEqual(+figures.rules["b"].target_failures, {"127.0.0.1:1": 1})
        self.assertEqual(figures.rules["w"].pauses["limit"], 1)
        self.assertEqual(figures.listeners, {"accepting": 2, "at a limit": 1})

    async def test_datagrams(self) -> None:
        """What was dropped at a listener for datagrams, by cause; nothing is told of other listeners."""
        forwarder = self.started(
            f"{ASKED}u: 127.0.0.1:0/udp -> 127.0.0.1:1/udp\na: 127.0.0.1:0 -> {self.target}\n"
        )
        listener: Any = next(one for live, one in forwarder.listeners if live.name == "u")
        listener.refused, listener.unsent = 2, 3
        figures = figures_of(forwarder)
        self.assertEqual(figures.rules["u"].dropped, {"buffer": 0, "refused": 2, "answer": 3, "long": 0})
        self.assertEqual(figures.rules["a"].dropped, {})

    async def test_dropped_by_sessions(self) -> None:
        """What open sessions dropped is told; at the end the sum is that of the closing line."""
        upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(upstream.close)
        upstream.bind(("127.0.0.1", 0))
        port = upstream.getsockname()[1]
        forwarder = self.started(
            f"{ASKED}u: 127.0.0.1:0/udp -> 127.0.0.1:{port}/udp bandwidth-up=1KiB idle=5m\n"
        )
        host, listening = forwarder.addresses["u"][0].rsplit(":", 1)
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        for _ in range(20):
            client.sendto(bytes(100), (host, int(listening)))

        def dropped() -> int:
            return figures_of(forwarder).rules["u"].tally.dropped["bandwidth"]

        await self.until(lambda: dropped() > 5)
        while_open = dropped()
        forwarder.cut(CloseReason.KILLED)
        await self.until(lambda: bool(self.lines.closed_lines))
        (line,) = self.lines.closed_lines
        self.assertEqual(dict(line.dropped)["bandwidth"], dropped())
        self.assertGreaterEqual(dropped(), while_open)

    async def test_process(self) -> None:
        """What the whole process has."""
        forwarder = self.started(f"{ASKED}a: 127.0.0.1:0 -> {self.target} max-conns-per-source=5")
        self.assertTrue(figures_of(forwarder).ready)
        await self.in_session(forwarder)
        figures = figures_of(forwarder)
        self.assertGreater(figures.descriptor_limit, figures.descriptors)
        self.assertEqual((figures.reloads, figures.reload_failures, figures.reloaded_at), (0, 0, None))
        # One port is the rule's, one that of all rules.
        self.assertEqual(figures.sources, 2)
        forwarder.stopService()
        self.assertFalse(figures_of(forwarder).ready)

    async def test_portable(self) -> None:
        """Where there are no pipes there is nothing to say of them."""
        forwarder = self.started(f"{ASKED}a: 127.0.0.1:0 -> {self.target}", platform=PORTABLE)
        self.assertEqual(figures_of(forwarder).pipe_bytes, 0)

    async def test_a_rule_twice(self) -> None:
        """A rule that goes and the one that takes its place share what they count; it is told once."""
        forwarder = self.started(f"{ASKED}a: 127.0.0.1:0 -> {self.target} max-conns=1")
        await self.in_session(forwarder)
        await self.refused(forwarder)
        (live,) = forwarder.rules

        class Both:
            every_rule = (live, live)

            def __getattr__(self, name: str) -> Any:
                return getattr(forwarder, name)

        figures = Figures()
        for _ in measure(cast(Any, Both()), figures):
            pass
        rule = figures.rules["a"]
        self.assertEqual((rule.refused, rule.tally.reasons), ({"max-conns": 1}, {CloseReason.LIMIT: 1}))

    async def test_uncounted(self) -> None:
        """Without a place to ask nothing is counted; what is known anyway is told."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}")
        await self.in_session(forwarder)
        rule = figures_of(forwarder).rules["a"]
        self.assertEqual((rule.sessions, rule.tally.reasons), (1, {}))
        self.assertIs(forwarder.rules[0].tally, None)


class WatchersTests(ForwarderCase):
    """The listener of its own."""

    def setUp(self) -> Deferred[None]:
        needs_client()
        return super().setUp()

    def get(self, address: str, path: str = "/metrics") -> tuple[int, str]:
        """Ask, in a thread."""
        if address.startswith("unix:"):
            connection = HTTPConnection("unix")
            connection.sock = self.connect_to(address)
        else:
            connection = HTTPConnection(
                address.removeprefix("http://").removesuffix("/metrics"), timeout=TIMEOUT
            )
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    async def test_page(self) -> None:
        """The page is there while sessions run, on TCP of both families and on a unix socket."""
        path = str(short_directory(self) / "s")
        for listen in ("127.0.0.1:0", "[::1]:0", f"unix:{path}"):
            forwarder = self.forwarder(f"metrics {listen}\na: 127.0.0.1:0 -> {self.target}")
            self.assertEqual(forwarder.metrics_address, "")
            try:
                forwarder.startService()
            except StartError as problem:
                if listen.startswith("[") and "Cannot assign" in str(problem):
                    continue  # no IPv6 on this machine
                raise
            code, text = await self.in_thread(lambda: self.get(forwarder.metrics_address))  # noqa: B023
            self.assertEqual(code, 200)
            self.assertIn('portfwd_sessions_total{rule="a"} 0.0\n', text)
            self.assertIn('portfwd_listeners{state="accepting"} 1.0\n', text)
            if listen.startswith("unix"):
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
            await forwarder.stopService()
        self.assertFalse(os.path.exists(path))

    async def test_ready(self) -> None:
        """It goes on while sessions drain, and says that no more clients are accepted."""
        forwarder = self.started(f"{ASKED}a: 127.0.0.1:0 -> {self.target}")
        address = forwarder.metrics_address
        client = await self.in_thread(lambda: self.connect(forwarder))
        await self.in_thread(self.accept)
        self.assertEqual(await self.in_thread(lambda: self.get(address, "/readyz")), (200, "ready\n"))
        stopped = forwarder.stopService()
        self.assertEqual(await self.in_thread(lambda: self.get(address, "/readyz")), (503, "not ready\n"))
        self.assertEqual(await self.in_thread(lambda: self.get(address, "/healthz")), (200, "ok\n"))
        _, text = await self.in_thread(lambda: self.get(address))
        self.assertIn("portfwd_ready 0.0\n", text)
        self.assertIn('portfwd_sessions_active{rule="a"} 1.0\n', text)
        forwarder.cut(CloseReason.KILLED)
        client.close()
        await stopped
        with self.assertRaises(ConnectionRefusedError):
            await self.in_thread(lambda: self.get(address))

    async def test_again(self) -> None:
        """A forwarder that was stopped and started again tells its figures again, if it has no rules even."""
        for text in (f"{ASKED}a: 127.0.0.1:0 -> {self.target}", f"{ASKED}logfile x.log"):
            forwarder = self.started(text)
            await forwarder.stopService()
            self.assertEqual(forwarder.metrics_address, "")
            forwarder.startService()
            code, _ = await self.in_thread(lambda: self.get(forwarder.metrics_address))  # noqa: B023
            self.assertEqual(code, 200)

    async def test_used(self) -> None:
        """A port that is taken is said like a rule's; nothing else stays bound."""
        used = a_used_port(self)
        forwarder = self.forwarder(f"metrics 127.0.0.1:{used}\na: 127.0.0.1:0 -> {self.target}")
        problem = self.assertRaises(StartError, forwarder.privilegedStartService)
        said = f"metrics: cannot listen on 127.0.0.1:{used}: Address already in use (test.conf:1:1); {IN_USE}"
        self.assertEqual(problem.failures, (said,))
        self.assertEqual(forwarder.addresses, {})

    async def test_taken_between_bind_and_listen(self) -> None:
        """So is one that is taken before it listens; then no rule runs either."""
        port = a_free_port()
        forwarder = self.forwarder(f"metrics 127.0.0.1:{port}\na: 127.0.0.1:0 -> {self.target}")
        forwarder.privilegedStartService()
        take_port(self, port)
        problem = self.assertRaises(StartError, forwarder.startService)
        said = f"metrics: cannot listen on 127.0.0.1:{port}: Address already in use (test.conf:1:1); {IN_USE}"
        self.assertEqual(problem.failures, (said,))
        self.assertFalse(forwarder.running)

    async def test_two_addresses(self) -> None:
        """A name's first address is where it is; of the others nothing stays."""
        spec = rules(f"{ASKED}a: 127.0.0.1:0 -> {self.target}")
        socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.patch(binding, "bind", lambda *_: socks)
        forwarder = Forwarder(cast(Any, reactor), spec)
        forwarder.startService()
        self.assertEqual(socks[1].fileno(), -1)
        self.assertIn(str(socks[0].getsockname()[1]), forwarder.metrics_address)
        await forwarder.stopService()

    def test_not_installed(self) -> None:
        """Without prometheus-client the start says which package it is, and which line wants it."""
        hidden = mock.patch.dict(sys.modules, {"portfwd.metrics.exposition": None})
        hidden.start()
        self.addCleanup(hidden.stop)
        problem = self.assertRaises(StartError, self.forwarder, f"{ASKED}a: 127.0.0.1:0 -> {self.target}")
        self.assertIn(how_to_install("metrics"), problem.failures[0])
        self.assertIn("test.conf:1", problem.failures[0])

    def test_before_the_start(self) -> None:
        """What never started can be stopped."""
        ruleset = rules(ASKED + "a: 127.0.0.1:0 -> 127.0.0.1:1")
        listener = metrics_listener(ruleset)
        assert listener is not None
        watchers = Watchers(cast(Any, reactor), listener, cast(Any, None))
        self.assertEqual(
            repr(watchers), "<Watchers not bound <FigurePages <PageOfMetrics 0 made, 0 waiting>>>"
        )
        self.assertIn("test.conf:1", missing(listener))
        watchers.stop()
