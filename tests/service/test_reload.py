"""From rules at work to others: what keeps its socket, its sessions, its place; all or nothing."""

from __future__ import annotations

import os
import socket
import stat
from typing import Any
from unittest import mock

from portfwd.service import reload as reload_module
from portfwd.service.build import count_descriptors
from portfwd.service.forwarder import Forwarder
from portfwd.service.reload import ReloadResult, is_reusable
from portfwd.values import CloseReason
from tests.service.test_forwarder import ForwarderCase
from tests.service.worlds import a_used_port, rules


def a_free_port(family: int = socket.AF_INET) -> int:
    """A port that nobody has just now."""
    with socket.socket(family) as probe:
        probe.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ReloadCase(ForwarderCase):
    """A forwarder that runs and is given other rules."""

    async def reload(self, forwarder: Forwarder, text: str, **options: Any) -> ReloadResult:
        """Other rules, and what came of it."""
        return await forwarder.reload(rules(text), **options)

    async def applied(self, forwarder: Forwarder, text: str, **options: Any) -> ReloadResult:
        """Other rules, which must be good."""
        result = await self.reload(forwarder, text, **options)
        self.assertEqual(result.failures, ())
        self.assertTrue(result.applied)
        return result

    def descriptor(self, forwarder: Forwarder, rule: str) -> int:
        """The listening socket of a rule."""
        (bound,) = (one for one in forwarder.bound if one.live.name == rule)
        return bound.listeners[0].fileno()

    async def session(self, forwarder: Forwarder, rule: str = "a") -> tuple[socket.socket, socket.socket]:
        """Both ends of a session."""
        count = forwarder.session_count
        client = await self.in_thread(lambda: self.connect(forwarder, rule))
        server = await self.in_thread(self.accept)
        await self.until(lambda: forwarder.session_count == count + 1)
        return client, server

    async def converses(self, client: socket.socket, server: socket.socket) -> None:
        """Bytes go through."""
        client.sendall(b"ping")
        self.assertEqual(await self.in_thread(lambda: server.recv(10)), b"ping")

    async def is_reset(self, client: socket.socket) -> None:
        """The connection was cut."""
        error = await self.in_thread(lambda: self.assertRaises(ConnectionResetError, client.recv, 10))
        self.assertIsInstance(error, ConnectionResetError)


class KeepTests(ReloadCase):
    """What both rulesets have."""

    async def test_nothing_different(self) -> None:
        """The same rules: the same sockets, the same live rules, the same sessions."""
        text = f"a: 127.0.0.1:0 -> {self.target}\n"
        forwarder = self.started(text)
        client, server = await self.session(forwarder)
        before = forwarder.addresses, self.descriptor(forwarder, "a"), forwarder.rules[0]
        result = await self.applied(forwarder, text)
        self.assertEqual(str(result), "nothing is different")
        self.assertEqual((forwarder.addresses, self.descriptor(forwarder, "a"), forwarder.rules[0]), before)
        await self.converses(client, server)
        self.assertEqual((forwarder.reloads, forwarder.reload_failures), (1, 0))
        self.assertIsNotNone(forwarder.reloaded_at)

    async def test_places_move(self) -> None:
        """A rule that only stands on another line is the same, and is known by its new line."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        live = forwarder.rules[0]
        await self.applied(forwarder, f"\n\na: 127.0.0.1:0 -> {self.target}\n")
        self.assertIs(forwarder.rules[0], live)
        self.assertEqual(live.rule.where.line, 3)

    async def test_changed(self) -> None:
        """New sessions get the new rule, by the same socket; the old session keeps its own to its end."""
        other = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(other.close)
        other.settimeout(5)
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        client, server = await self.session(forwarder)
        descriptor = self.descriptor(forwarder, "a")
        result = await self.applied(
            forwarder, f"a: 127.0.0.1:0 -> 127.0.0.1:{other.getsockname()[1]} idle=5m\n"
        )
        self.assertEqual(str(result), "rules: 1 changed")
        self.assertEqual(self.descriptor(forwarder, "a"), descriptor)
        self.assertEqual(forwarder.session_count, 1)
        self.assertEqual([len(one.sessions) for one in forwarder.departures], [1])
        second = await self.in_thread(lambda: self.connect(forwarder))
        there, _ = await self.in_thread(other.accept)
        self.addCleanup(there.close)
        await self.converses(second, there)
        await self.converses(client, server)
        server.close()
        client.close()
        await self.until(lambda: not len(forwarder.departures))
        self.assertEqual(forwarder.session_count, 1)

    async def test_waiting_clients(self) -> None:
        """Who waits in the backlog of a listener that is kept is served by the new rule."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        forwarder.pause("a")
        client = await self.in_thread(lambda: self.connect(forwarder))
        await self.applied(forwarder, f"a: 127.0.0.1:0 -> {self.target} idle=1h\n")
        self.assertEqual(forwarder.session_count, 0)
        forwarder.resume("a")
        await self.converses(client, await self.in_thread(self.accept))

    async def test_renamed(self) -> None:
        """A rule with another name on the same port keeps the socket; any free port belongs to its name."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\nb: 127.0.0.1:0 -> {self.target}\n")
        first, second = self.descriptor(forwarder, "a"), self.descriptor(forwarder, "b")
        await self.applied(forwarder, f"c: 127.0.0.1:0 -> {self.target}\nb: 127.0.0.1:0 -> {self.target}\n")
        self.assertEqual((self.descriptor(forwarder, "c"), self.descriptor(forwarder, "b")), (first, second))

    async def test_limit_counts_old_sessions(self) -> None:
        """Sessions that began under the old rule count for the new one's ``max-conns``."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target} max-conns=1\n")
        await self.session(forwarder)
        await self.applied(forwarder, f"a: 127.0.0.1:0 -> {self.target} max-conns=1 idle=1h\n")
        client = await self.in_thread(lambda: self.connect(forwarder))
        self.assertEqual(await self.in_thread(lambda: client.recv(10)), b"")
        client.close()
        await self.until(lambda: bool(self.lines.closed_lines))
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.LIMIT])

    async def test_access(self) -> None:
        """Access for all is judged anew for every rule, also for those whose own lines are the same."""
        text = f"a: 127.0.0.1:0 -> {self.target}\n"
        forwarder = self.started(text)
        await self.applied(forwarder, "deny 127.0.0.1\n" + text)
        client = await self.in_thread(lambda: self.connect(forwarder))
        self.assertEqual(await self.in_thread(lambda: client.recv(10)), b"")
        client.close()
        await self.until(lambda: bool(self.lines.closed_lines))
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.ACCESS])

    def test_reusable(self) -> None:
        """What reads files is made anew, since these may have changed; a plain rule is kept."""
        for text, expected in (
            (":1 -> 10.0.0.1:1, unix:/run/x", True),
            (":1 -> tls:h.example:443", False),
            (':1 -> endpoint:"tcp:h:1"', False),
            ("unix:/run/x -> 10.0.0.1:1\n    filter hexdump\n", False),
        ):
            (rule,) = rules(text).rules
            self.assertIs(is_reusable(rule), expected, text)

    async def test_filters_are_made_anew(self) -> None:
        """A rule with filters gets new ones, even if its text is the same."""
        text = f"a: 127.0.0.1:0 -> {self.target}\n    filter hexdump\n"
        forwarder = self.started(text)
        before, descriptor = forwarder.rules[0], self.descriptor(forwarder, "a")
        await self.applied(forwarder, text)
        self.assertIsNot(forwarder.rules[0].filters[0][1], before.filters[0][1])
        self.assertEqual(self.descriptor(forwarder, "a"), descriptor)

    async def test_ranges(self) -> None:
        """Ports of a range that stay keep their sockets; others come and go."""
        port = next(
            port for port in range(41000, 60000, 7)
            if all(self.is_free(port + offset) for offset in range(4))
        )  # fmt: skip
        target = self.target.rpartition(":")[2]
        forwarder = self.started(f"lab: 127.0.0.1:{port}-{port + 2} -> 127.0.0.1:1-3\n")
        kept = self.descriptor(forwarder, f"lab:{port + 1}")
        await self.applied(
            forwarder, f"lab: 127.0.0.1:{port + 1}-{port + 3} -> 127.0.0.1:{target}-{int(target) + 2}\n"
        )
        self.assertEqual(
            sorted(forwarder.addresses), [f"lab:{number}" for number in range(port + 1, port + 4)]
        )
        self.assertEqual(self.descriptor(forwarder, f"lab:{port + 1}"), kept)
        self.assertRaises(ConnectionRefusedError, self.connect_to, f"127.0.0.1:{port}")

    @staticmethod
    def is_free(port: int) -> bool:
        """Whether nobody has that port."""
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
            return True


class ListenerOptionTests(ReloadCase):
    """Options of a listener that stays."""

    async def test_backlog_and_settings(self) -> None:
        """Length of the backlog and options that clients inherit are changed on the socket that is there."""
        forwarder = self.started(f"a: 127.0.0.1:0 backlog=5 -> {self.target} keepalive=60:10:3 nodelay=off\n")
        sock = forwarder.bound[0].listeners[0].sock
        self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60)
        with socket.socket() as fresh:
            system = fresh.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        result = await self.applied(forwarder, f"a: 127.0.0.1:0 backlog=7 -> {self.target} keepalive=on\n")
        self.assertEqual(forwarder.bound[0].listeners[0]._backlog, 7)
        self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), system)
        self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)
        self.assertEqual(result.notes, ())

    async def test_buffer_sizes(self) -> None:
        """The kernel does not take back a size; that is said."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target} rcvbuf=64KiB\n")
        result = await self.applied(forwarder, f"a: 127.0.0.1:0 -> {self.target}\n")
        (note,) = result.notes
        self.assertIn("until the next start", note)
        self.assertIn(f"note: {note}", list(result.lines()))

    async def test_mode(self) -> None:
        """Permission bits of a socket's file change with the rule; where they cannot, that is said."""
        path = os.path.abspath(self.mktemp())
        forwarder = self.started(f"a: unix:{path} -> {self.target}\nb: unix:@{path} -> {self.target}\n")
        text = f"a: unix:{path} mode=0666 -> {self.target}\nb: unix:@{path} mode=0666 -> {self.target}\n"
        await self.applied(forwarder, text)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o666)
        with mock.patch.object(reload_module.os, "chmod", side_effect=PermissionError(1, "not yours")):
            result = await self.applied(forwarder, text.replace("mode=0666 ", ""))
        self.assertEqual(result.notes, (f"unix:{path}: its permission bits stay as they were: not yours",))

    async def test_refused_by_the_kernel(self) -> None:
        """An option that cannot be changed is said, and harms nothing else."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        with mock.patch("portfwd.listen.listener.Listener.resize", side_effect=OSError(22, "no")):
            result = await self.applied(forwarder, f"a: 127.0.0.1:0 backlog=7 -> {self.target} idle=1h\n")
        self.assertEqual(result.notes, ("127.0.0.1:0: an option of the listener stays as it was: no",))


class BindTests(ReloadCase):
    """What is new, and what is gone."""

    async def test_added_and_removed(self) -> None:
        """A new rule listens, a removed one does not; descriptors are counted."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        (old,) = forwarder.addresses["a"]
        before, spent = count_descriptors(), forwarder._budget.spent
        await self.applied(
            forwarder, f"b: unix:{self.mktemp()} -> {self.target}\nc: [::1]:0 -> {self.target}\n"
        )
        self.assertRaises(ConnectionRefusedError, self.connect_to, old)
        self.assertEqual((count_descriptors(), forwarder._budget.spent), (before + 1, spent + 1))
        for name in ("b", "c"):
            await self.session(forwarder, name)
        self.assertEqual([rule.name for rule in forwarder.rules], ["b", "c"])

    async def test_wildcard_and_back(self) -> None:
        """``:PORT`` and ``127.0.0.1:PORT`` take over from each other; both hold the port for a moment."""
        port = a_free_port()
        forwarder = self.started(f"a: 127.0.0.1:{port} -> {self.target}\n")
        for listen in (f":{port}", f"[::]:{port} v6only=off", f"0.0.0.0:{port}", f"127.0.0.1:{port}"):
            forwarder.pause("a")
            waiting = await self.in_thread(lambda: self.connect_to(f"127.0.0.1:{port}"))
            forwarder.resume("a")
            await self.applied(forwarder, f"a: {listen} -> {self.target}\n")
            await self.converses(waiting, await self.in_thread(self.accept))
            client = await self.in_thread(lambda: self.connect_to(f"127.0.0.1:{port}"))
            await self.converses(client, await self.in_thread(self.accept))
            sock = forwarder.bound[0].listeners[0].sock
            self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT), 0)

    async def test_taken_port(self) -> None:
        """A port that somebody else has: nothing is changed, and the line is named."""
        used, path = a_used_port(self), self.mktemp()
        text = f"a: 127.0.0.1:0 -> {self.target}\n"
        forwarder = self.started(text)
        client, server = await self.session(forwarder)
        before = count_descriptors(), forwarder._budget.spent, forwarder.addresses, forwarder.rules[0]
        result = await self.reload(
            forwarder, f"new: unix:{path} -> {self.target}\nb: 127.0.0.1:{used} -> {self.target}\n"
        )
        self.assertRegex(
            result.failures[0],
            rf"^b: cannot listen on 127\.0\.0\.1:{used}: Address already in use \(test\.conf:2(:\d+)?\)$",
        )
        self.assertTrue(result.refused)
        self.assertEqual(
            (count_descriptors(), forwarder._budget.spent, forwarder.addresses, forwarder.rules[0]), before
        )
        self.assertFalse(os.path.exists(path))
        await self.converses(client, server)
        self.assertEqual((forwarder.reloads, forwarder.reload_failures), (0, 1))
        self.assertEqual(forwarder.ruleset, rules(text))
