"""From rules at work to others: what keeps its socket, its sessions, its place; all or nothing."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NoReturn, cast
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Location, Problem, Severity
from portfwd.listen import binding, systemd
from portfwd.metrics.figures import Figures
from portfwd.relay.live import LiveRule
from portfwd.rules import parse
from portfwd.rules.queries.diff import difference
from portfwd.service.build import build as build_module
from portfwd.service.build.build import count_descriptors
from portfwd.service.daemon import slices
from portfwd.service.run import forwarder as forwarder_module
from portfwd.service.run.forwarder import Forwarder
from portfwd.service.run.matching import is_reusable
from portfwd.service.run.measuring import measure
from portfwd.service.run.reload import MAX_LINES, ReloadResult, shortened
from portfwd.service.run.transition import Transition
from portfwd.values import CloseReason
from tests.places import short_directory
from tests.service.contexts import Lines, a_free_port, a_used_port, rules
from tests.service.run.test_forwarder import PORTABLE, ForwarderCase, open_descriptors


def a_free_range(count: int) -> int:
    """The first of `count` ports that nobody has just now, below those that the kernel gives to clients."""
    firsts = range(20000 + os.getpid() % 10000, 32000, count)
    return next(first for first in firsts if all(map(is_free, range(first, first + count))))


def is_free(port: int) -> bool:
    """Whether nobody has that port."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Answers:
    """A resolver that knows; :ivar found: the addresses of every name; :ivar asked: the names."""

    def __init__(self, *found: str) -> None:
        self.found = found
        self.asked: list[str] = []

    def look_up(self, host: str, done: Callable[[Sequence[str]], None]) -> Callable[[], None]:
        """At once."""
        self.asked.append(host)
        done(self.found)
        return lambda: None


class ReloadCase(ForwarderCase):
    """A forwarder that runs and is given other rules."""

    def resolving(self, *found: str) -> Answers:
        """Reloads of forwarders that are made from now on look up names of listeners in what is returned."""
        resolver = Answers(*found)
        self.patch(forwarder_module, "resolver_of", lambda _: resolver)
        return resolver

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

    async def turn(self) -> None:
        """Let the reactor do what waits."""
        await deferLater(cast(Any, reactor), 0)

    @staticmethod
    def live_rules() -> int:
        """How many are in memory."""
        return sum(isinstance(one, LiveRule) for one in gc.get_objects())

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
        self.assertEqual([len(one.sessions) for one in forwarder.retired_rules], [1])
        second = await self.in_thread(lambda: self.connect(forwarder))
        there, _ = await self.in_thread(other.accept)
        self.addCleanup(there.close)
        await self.converses(second, there)
        await self.converses(client, server)
        server.close()
        client.close()
        await self.until(lambda: not len(forwarder.retired_rules))
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

    async def test_filters_stay(self) -> None:
        """A clause that is unchanged keeps its factory, a clause that has changed gets a new one."""
        text = f"a: 127.0.0.1:0 -> {self.target}\n    filter hexdump\n"
        forwarder = self.started(text)
        before, descriptor = forwarder.rules[0].filters[0][1], self.descriptor(forwarder, "a")
        await self.applied(forwarder, f"# other places\n{text}")
        self.assertIs(forwarder.rules[0].filters[0][1], before)
        await self.applied(forwarder, text.replace("hexdump", "hexdump limit=99"))
        self.assertIsNot(forwarder.rules[0].filters[0][1], before)
        self.assertEqual(self.descriptor(forwarder, "a"), descriptor)

    async def test_ranges(self) -> None:
        """Ports of a range that stay keep their sockets; others come and go."""
        port = a_free_range(4)
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


class LimitTests(ReloadCase):
    """Limits over reloads: who is in stays counted, and who waits looks anew."""

    def is_empty(self, forwarder: Forwarder) -> bool:
        """Whether there are no sessions."""
        return not forwarder.session_count

    async def refused(self, forwarder: Forwarder, rule: str = "a") -> str:
        """The limit that keeps the next client out."""
        count = len(self.lines.closed_lines)

        def come() -> None:
            client = self.connect(forwarder, rule)
            self.assertEqual(client.recv(1), b"")
            client.close()

        await self.in_thread(come)
        await self.until(lambda: len(self.lines.closed_lines) > count)
        return self.lines.closed_lines[-1].detail

    async def test_new_limits_count_old_sessions(self) -> None:
        """Sessions that began before there were limits count for those that a reload adds, of each kind."""
        text = f"a: 127.0.0.1:0 -> {self.target}"
        for limit in ("max-conns=1", "max-conns-per-source=1", "max-conns-per-target=1"):
            forwarder = self.started(f"{text}\n")
            client, server = await self.session(forwarder, "a")
            await self.applied(forwarder, f"{text} idle=1h\n")
            await self.applied(forwarder, f"{text} {limit}\n")
            self.assertIn(limit, await self.refused(forwarder))
            client.close()
            server.close()
            await self.until(partial(self.is_empty, forwarder))
            await self.session(forwarder, "a")

    async def test_new_limit_of_all_counts_old_sessions(self) -> None:
        """So they do for a ``limits`` line, those of a rule that was removed too."""
        text = f"a: 127.0.0.1:0 -> {self.target}\n"
        forwarder = self.started(f"{text}b: 127.0.0.1:0 -> {self.target}\n")
        await self.session(forwarder, "b")
        await self.applied(forwarder, f"limits max-conns=1\n{text}")
        self.assertEqual(await self.refused(forwarder, "a"), "limits max-conns=1")

    async def test_limits_of_all(self) -> None:
        """A ``limits`` line that comes holds for rules that stay as they are, and is gone when it goes."""
        text = f"a: 127.0.0.1:0 -> {self.target}\nb: 127.0.0.1:0 -> {self.target}\n"
        forwarder = self.started(text)
        before = forwarder.rules
        await self.applied(forwarder, f"limits max-conns=1 max-conns-per-source=5\n{text}")
        self.assertEqual(forwarder.rules, before)
        await self.session(forwarder, "a")
        self.assertEqual(await self.refused(forwarder, "b"), "limits max-conns=1")
        await self.applied(forwarder, f"limits max-conns=9 max-conns-per-source=1\n{text}")
        self.assertEqual(await self.refused(forwarder, "b"), "limits max-conns-per-source=1")
        await self.applied(forwarder, text)
        await self.session(forwarder, "b")

    async def test_shared(self) -> None:
        """Sessions count for limits that rules share over every reload: new ones, renamed ones, none."""
        plain = f"a: 127.0.0.1:0 -> {self.target}%s\nb: 127.0.0.1:0 -> {self.target}%s\n"
        forwarder = self.started(plain % ("", ""))
        client, server = await self.session(forwarder, "a")
        await self.applied(forwarder, "limits x max-conns=1\n" + plain % (" limit=x", " limit=x"))
        self.assertEqual(await self.refused(forwarder, "b"), "limits x max-conns=1")
        rules = forwarder.rules
        await self.applied(forwarder, "limits x max-conns=2\n" + plain % (" limit=x", " limit=x"))
        self.assertEqual(forwarder.rules, rules)
        other, far = await self.session(forwarder, "b")
        self.assertEqual(await self.refused(forwarder, "a"), "limits x max-conns=2")
        await self.applied(forwarder, "limits y max-conns=2\n" + plain % (" limit=y", " limit=y"))
        self.assertEqual(await self.refused(forwarder, "a"), "limits y max-conns=2")
        text = "limits y max-conns=1\nlimits z max-conns=1\n" + plain % (" limit=y", " limit=z")
        await self.applied(forwarder, text)
        self.assertEqual(await self.refused(forwarder, "b"), "limits z max-conns=1")
        other.close()
        far.close()
        await self.until(lambda: forwarder.session_count == 1)
        await self.applied(forwarder, "limits z max-conns=1\n" + plain % ("", " limit=z"))
        other, far = await self.session(forwarder, "b")
        await self.applied(forwarder, "limits z max-conns=2\n" + plain % (" limit=z", " limit=z"))
        self.assertEqual(await self.refused(forwarder, "a"), "limits z max-conns=2")
        for one in (client, server, other, far):
            one.close()
        await self.until(partial(self.is_empty, forwarder))
        for name in "ab":
            await self.session(forwarder, name)
        self.assertEqual(await self.refused(forwarder, "a"), "limits z max-conns=2")

    async def test_renamed_rule(self) -> None:
        """A rule that is renamed goes on counting the sessions that began under its old name."""
        for limit in ("max-conns=1", "max-conns-per-source=1", "max-conns-per-target=1"):
            forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target} {limit}\n")
            client, server = await self.session(forwarder, "a")
            await self.applied(forwarder, f"b: 127.0.0.1:0 -> {self.target} {limit}\n")
            self.assertIn(limit, await self.refused(forwarder, "b"))
            await self.applied(forwarder, f"c: 127.0.0.1:0 -> {self.target} {limit} idle=1h\n")
            self.assertIn(limit, await self.refused(forwarder, "c"))
            client.close()
            server.close()
            await self.until(partial(self.is_empty, forwarder))
            await self.session(forwarder, "c")

    async def test_sources(self) -> None:
        """So are the sessions of a source, whichever rule of that name they began with."""
        text = f"a: 127.0.0.1:0 -> {self.target} max-conns-per-source=1"
        forwarder = self.started(text)
        client, server = await self.session(forwarder)
        await self.applied(forwarder, f"{text} idle=1h")
        self.assertEqual(await self.refused(forwarder), "max-conns-per-source=1")
        client.close()
        server.close()
        await self.until(lambda: not forwarder.session_count)
        await self.session(forwarder)

    async def test_who_waits(self) -> None:
        """A client that waits for a place comes in when the new rules have one."""
        text = f"a: 127.0.0.1:0 -> {self.target} on-limit=wait max-conns="
        forwarder = self.started(f"{text}1")
        await self.session(forwarder)
        waits = await self.in_thread(lambda: self.connect(forwarder))
        await self.until(lambda: forwarder.bound[0].listeners[0].state == "at a limit")
        self.assertEqual(forwarder.session_count, 1)
        await self.applied(forwarder, f"{text}2")
        server = await self.in_thread(self.accept)
        await self.converses(waits, server)

    async def test_counters(self) -> None:
        """Counters go on where they were."""
        text = f"metrics 127.0.0.1:0\na: 127.0.0.1:0 -> {self.target} max-conns=1"
        forwarder = self.started(text)
        await self.session(forwarder)
        await self.refused(forwarder)
        await self.applied(forwarder, f"{text} idle=1h")
        await self.refused(forwarder)
        figures = Figures()
        for _ in measure(forwarder, figures):
            pass
        rule = figures.rules["a"]
        self.assertEqual((rule.total, rule.sessions, rule.refused), (3, 1, {"max-conns": 2}))
        self.assertEqual(figures.reloads, 1)

    async def test_no_counter_falls(self) -> None:
        """What is counted for a rule's name goes on from there, wherever the rule listens and connects to."""
        port = a_free_port()
        forwarder = self.started(
            f"a: 127.0.0.1:0 -> 127.0.0.1:{port}, {self.target} max-conns=1 on-limit=wait\n"
        )
        client, server = await self.session(forwarder)
        await self.in_thread(lambda: self.connect(forwarder))
        await self.until(lambda: forwarder.bound[0].listeners[0].state == "at a limit")
        for listen in ("127.0.0.1:0 ", "127.0.0.2:0", "127.0.0.1:0"):
            await self.applied(forwarder, f"a: {listen} -> 127.0.0.1:{port}, {self.target} max-conns=1\n")
            client.close()
            server.close()
            await self.until(lambda: not forwarder.session_count or bool(self.lines.closed_lines))
            figures = Figures()
            for _ in measure(forwarder, figures):
                pass
            rule = figures.rules["a"]
            self.assertGreaterEqual(rule.target_failures[f"127.0.0.1:{port}"], 1, listen)
            self.assertEqual(rule.pauses["limit"], 1, listen)
            self.assertGreaterEqual(forwarder.rules[0].counts.total, 1, listen)


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
        self.assertEqual(forwarder.bound[0].listeners[0].backlog, 7)
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
        path = str(short_directory(self) / "s")
        forwarder = self.started(f"a: unix:{path} -> {self.target}\nb: unix:@{path} -> {self.target}\n")
        text = f"a: unix:{path} mode=0666 -> {self.target}\nb: unix:@{path} mode=0666 -> {self.target}\n"
        await self.applied(forwarder, text)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o666)
        refused = PermissionError(1, "not yours")
        with mock.patch("portfwd.listen.unix_files.os.chmod", side_effect=refused):
            result = await self.applied(forwarder, text.replace("mode=0666 ", ""))
        self.assertEqual(result.notes, (f"unix:{path}: its permission bits stay as they were: not yours",))

    async def test_mode_of_another_file(self) -> None:
        """What stands in the place of the socket's file keeps its permission bits; that is said."""
        for kind in ("unix", "unix-dgram"):
            directory = tempfile.mkdtemp()
            self.addCleanup(shutil.rmtree, directory)
            path, precious = f"{directory}/{kind}", f"{directory}/precious"
            with open(precious, "w", encoding="ascii"):
                os.chmod(precious, 0o600)
            target = self.target if kind == "unix" else f"udp:{self.target}"
            forwarder = self.started(f"a: {kind}:{path} -> {target}\n")
            for replace in (os.symlink, os.link):
                os.unlink(path)
                replace(precious, path)
                result = await self.applied(forwarder, f"a: {kind}:{path} mode=0666 -> {target}\n")
                self.assertEqual(stat.S_IMODE(os.stat(precious).st_mode), 0o600)
                (note,) = result.notes
                self.assertIn("its permission bits stay as they were", note)
                await self.applied(forwarder, f"a: {kind}:{path} -> {target}\n")

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
        before, spent = count_descriptors(), forwarder.budget.spent
        await self.applied(
            forwarder,
            f"b: unix:{short_directory(self) / 's'} -> {self.target}\nc: [::1]:0 -> {self.target}\n",
        )
        self.assertRaises(ConnectionRefusedError, self.connect_to, old)
        self.assertEqual(forwarder.budget.spent, spent + 1)
        # One listener more, and the lock of the unix path.
        self.assertEqual(count_descriptors(), before + 2)
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
        used, path = a_used_port(self), short_directory(self) / "s"
        text = f"a: 127.0.0.1:0 -> {self.target}\n"
        forwarder = self.started(text)
        client, server = await self.session(forwarder)
        before = count_descriptors(), forwarder.budget.spent, forwarder.addresses, forwarder.rules[0]
        result = await self.reload(
            forwarder, f"new: unix:{path} -> {self.target}\nb: 127.0.0.1:{used} -> {self.target}\n"
        )
        self.assertRegex(
            result.failures[0],
            rf"^b: cannot listen on 127\.0\.0\.1:{used}: Address already in use \(test\.conf:2(:\d+)?\); ",
        )
        self.assertTrue(result.refused)
        self.assertEqual(
            (count_descriptors(), forwarder.budget.spent, forwarder.addresses, forwarder.rules[0]), before
        )
        self.assertFalse(os.path.exists(path))
        await self.converses(client, server)
        self.assertEqual((forwarder.reloads, forwarder.reload_failures), (0, 1))
        self.assertEqual(forwarder.ruleset, rules(text))

    async def test_endpoints(self) -> None:
        """Twisted's endpoints come, change their rule, and go; one that cannot listen changes nothing."""
        port, other = a_free_port(), a_free_port()
        forwarder = self.started(f'a: endpoint:"tcp:{port}:interface=127.0.0.1" -> {self.target}\n')
        await self.applied(
            forwarder,
            f'a: endpoint:"tcp:{port}:interface=127.0.0.1" -> {self.target} buffer=4KiB\n'
            f'b: endpoint:"tcp:{other}:interface=127.0.0.1" -> {self.target}\n',
        )
        for name, live, buffer in zip(("a", "b"), forwarder.rules, (4096, 65536), strict=True):
            client, server = await self.session(forwarder, name)
            (one,) = live.sessions.values()
            self.assertEqual(one.streams[0].buffer, buffer)  # type: ignore[union-attr]
            await self.converses(client, server)
        self.assertEqual([len(rule.sessions) for rule in forwarder.rules], [1, 1])
        used = a_used_port(self)
        result = await self.reload(
            forwarder, f'c: endpoint:"tcp:{used}:interface=127.0.0.1" -> {self.target}\n'
        )
        self.assertIn("Address already in use", result.failures[0])
        self.assertEqual(sorted(forwarder.addresses), ["a", "b"])
        await self.applied(forwarder, f"c: 127.0.0.1:0 -> {self.target}\n")
        await self.turn()  # Twisted closes a port in the next one
        self.assertRaises(ConnectionRefusedError, self.connect_to, f"127.0.0.1:{port}")

    async def test_endpoint_that_says_so_later(self) -> None:
        """An endpoint that fails when the reload is over is told to the log."""
        forwarder = self.started("logfile x.log")
        late: list[str] = []
        self.patch(forwarder.binder, "late_failure", late.append)
        answers: list[Deferred[Any]] = []

        class Slow:
            """It has not decided yet."""

            def listen(self, factory: object) -> Deferred[Any]:
                answers.append(Deferred())
                return answers[0]

        with mock.patch("portfwd.service.build.build.serverFromString", lambda *_: Slow()):
            await self.applied(forwarder, f'logfile x.log\na: endpoint:"slow:" -> {self.target}\n')
        answers[0].errback(Failure(CannotListenError(None, 1, OSError(98, "taken"))))
        self.assertEqual(len(late), 1)
        self.assertTrue(late[0].startswith("a: cannot listen on endpoint:slow:: taken (test.conf:2:4); "))

    async def test_portable(self) -> None:
        """Where all sockets are Twisted's a reload works the same."""
        port = a_free_port()
        text = f"a: 127.0.0.1:{port} -> {self.target}\n"
        forwarder = self.started(text, platform=PORTABLE)
        await self.applied(forwarder, text + f"b: unix:{short_directory(self) / 's'} -> {self.target}\n")
        for name in ("a", "b"):
            client, server = await self.session(forwarder, name)
            await self.converses(client, server)

    async def test_taken_between_bind_and_listen(self) -> None:
        """A port that can be bound and then not listened on is a failure like any other."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        before = count_descriptors()
        with mock.patch("portfwd.listen.listener.Listener.open", side_effect=OSError(98, "in use")):
            result = await self.reload(forwarder, f"b: 127.0.0.2:0 -> {self.target}\n")
        self.assertRegex(result.failures[0], r"^b: cannot listen on 127\.0\.0\.2:\d+: in use \(test\.conf:1")
        self.assertEqual((count_descriptors(), sorted(forwarder.addresses)), (before, ["a"]))

    async def test_too_few_descriptors(self) -> None:
        """Listeners come out of the same budget as sessions."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        forwarder.budget.limit = forwarder.budget.spent + 12
        result = await self.reload(
            forwarder, f"a: 127.0.0.1:0 -> {self.target}\nb: 127.0.0.1:0 -> {self.target}\n"
        )
        self.assertRegex(result.failures[0], r"^1 more listener is too many: \d+ of \d+ descriptors")
        self.assertEqual(sorted(forwarder.addresses), ["a"])

    async def test_low_port(self) -> None:
        """Without the privilege for it, a port below 1024 is refused with the ways out."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        self.patch(build_module.os, "geteuid", lambda: 1000)
        with mock.patch(
            "portfwd.service.build.build.bind", side_effect=PermissionError(13, "Permission denied")
        ):
            result = await self.reload(forwarder, f"b: 127.0.0.1:80 -> {self.target}\n")
            high = await self.reload(forwarder, f"b: 127.0.0.1:8080 -> {self.target}\n")
        self.assertIn("CAP_NET_BIND_SERVICE", result.failures[0])
        self.assertNotIn("CAP_NET_BIND_SERVICE", high.failures[0])

    async def test_another_user_holds_the_port(self) -> None:
        """Two of ours that cannot share a port after a change of user: refused, and the old one serves."""
        port = a_free_port()
        forwarder = self.started(f"a: 127.0.0.1:{port} -> {self.target}\n")
        sock = forwarder.bound[0].listeners[0].sock
        self.patch(binding, "share_port", lambda *_: None)
        result = await self.reload(forwarder, f"a: 0.0.0.0:{port} -> {self.target}\n")
        self.assertIn("Address already in use", result.failures[0])
        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT), 0)
        client, server = await self.session(forwarder)
        await self.converses(client, server)

    async def test_names_of_listeners(self) -> None:
        """A name is asked for if a socket is to be bound; one without an address is a failure."""
        resolver = self.resolving("127.0.0.1")
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        await self.applied(forwarder, f"a: localhost:0 -> {self.target}\n")
        resolver.found, resolver.asked = (), []
        result = await self.reload(forwarder, f"a: localhost:0 -> {self.target}\n")
        self.assertIn("the name localhost has no address", "".join(result.notes))
        resolver.asked = []
        result = await self.reload(
            forwarder, f"a: localhost:0 -> {self.target}\nb: nosuch.example:0 -> {self.target}\n"
        )
        self.assertEqual(resolver.asked, ["localhost", "nosuch.example"])
        self.assertIn("the name nosuch.example has no address", result.failures[0])

    async def test_silent_name_server(self) -> None:
        """A port that moves, a rule more on the same name, and a rule that resumes need no answer of it."""
        self.resolving()
        forwarder = self.started(f"a: localhost:0 -> {self.target}\n")

        def blocked(*_: object, **__: object) -> NoReturn:
            raise AssertionError("the reactor's thread asked a name server")

        self.patch(binding.socket, "getaddrinfo", blocked)
        port = a_free_port()
        await self.applied(
            forwarder, f"a: localhost:{port} -> {self.target}\nb: localhost:0/udp -> {self.target}/udp\n"
        )
        forwarder.drain("a")
        forwarder.resume("a")
        self.assertIn(f"127.0.0.1:{port}", forwarder.addresses["a"])

    async def test_name_that_is_known(self) -> None:
        """A port more on a name that is listened on already is bound as at the start."""
        forwarder = self.started(f"a: localhost:0 -> {self.target}\n")
        await self.applied(forwarder, f"a: localhost:0 -> {self.target}\nb: localhost:0 -> {self.target}\n")
        self.assertEqual(sorted(forwarder.addresses), ["a", "b"])

    async def test_inherited(self) -> None:
        """A socket that systemd passed is there for a rule that comes later, too."""
        held = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(held.close)
        self.patch(systemd, "inherited", lambda *_: {"web": [held.fileno()]})
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        await self.applied(forwarder, f"a: systemd:web -> {self.target}\n")
        await self.applied(forwarder, f"a: systemd:web -> {self.target} idle=1h\n")
        client, server = await self.session(forwarder)
        await self.converses(client, server)


class FileTests(ReloadCase):
    """Rules that are wrong."""

    async def test_not_yet(self) -> None:
        """What this version cannot do is refused, with its place."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        result = await self.reload(forwarder, "u: 127.0.0.1:1 -> tls:127.0.0.1:2 relay=copy\n")
        self.assertIn("test.conf:1:", result.failures[0])
        self.assertFalse(result.applied)
        self.assertEqual(forwarder.reload_failures, 1)

    async def test_targets_and_filters(self) -> None:
        """Bad filters are told as `check` tells them, bad endpoints and authorities with their rules."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        result = await self.reload(
            forwarder,
            f"a: 127.0.0.1:0 -> {self.target}\n    filter nosuch\n"
            'b: 127.0.0.1:0 -> endpoint:"nosuch:x"\n'
            "c: 127.0.0.1:0 -> tls:h.example:443 ca=/nosuch\n"
            'd: endpoint:"nosuch:y" -> 10.0.0.1:1\n',
        )
        self.assertEqual(len(result.failures), 4)
        self.assertIn("there is no filter", result.failures[0])
        for name, failure in zip("bcd", sorted(result.failures[1:]), strict=True):
            self.assertTrue(failure.startswith(f"{name}: "), failure)
        self.assertEqual(len(result.problems), 1)

    async def test_not_running(self) -> None:
        """A forwarder that does not run has nothing to change."""
        forwarder = self.forwarder(f"a: 127.0.0.1:0 -> {self.target}\n")
        result = await self.reload(forwarder, "logfile x")
        self.assertEqual(result.failures, ("the forwarder is not running",))

    async def test_dry_run(self) -> None:
        """The difference is told, ports are tried, and nothing listens or is changed."""
        used, path, port = a_used_port(self), short_directory(self) / "s", a_free_port()
        text = f"a: 127.0.0.1:0 -> {self.target}\n"
        forwarder = self.started(text)
        before = count_descriptors(), forwarder.addresses
        more = f"b: 127.0.0.1:{port} -> {self.target}\nc: unix:{path} -> {self.target}\n"
        good = await self.reload(forwarder, text + more, dry_run=True)
        self.assertEqual((good.failures, good.applied, good.dry_run), ((), False, True))
        self.assertEqual(next(good.lines()), "dry run: rules: 2 added, 1 unchanged")
        bad = await self.reload(forwarder, text + f"b: 127.0.0.1:{used} -> {self.target}\n", dry_run=True)
        self.assertEqual(len(bad.failures), 1)
        self.assertEqual((count_descriptors(), forwarder.addresses), before)
        self.assertFalse(os.path.exists(path))
        self.assertEqual((forwarder.reloads, forwarder.reload_failures), (0, 0))

    async def test_at_the_next_start(self) -> None:
        """What only a start obeys is said."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        with mock.patch("portfwd.service.run.forwarder.unsupported_in_steps", lambda _: iter_nothing()):
            result = await self.applied(
                forwarder, f"metrics 127.0.0.1:1\npidlogfile x\na: 127.0.0.1:0 -> {self.target}\n"
            )
        self.assertEqual(
            result.notes,
            (
                "the directive 'metrics' is obeyed at the next start",
                "the pid file is written at the next start",
            ),
        )

    async def test_log(self) -> None:
        """Another log is written to by all sessions, those that are there included."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        client, server = await self.session(forwarder)
        other = Lines()
        await self.applied(forwarder, f"a: 127.0.0.1:0 -> {self.target} idle=1h\n", log=other)
        client.close()
        server.close()
        await self.until(lambda: bool(other.closed_lines))
        self.assertEqual(self.lines.closed_lines, [])
        self.assertIs(forwarder.rules[0].log, other)


class RemovedTests(ReloadCase):
    """Sessions whose listener goes."""

    async def removed(self, how: str, drain: float = 5.0) -> tuple[Forwarder, socket.socket, socket.socket]:
        """A session of a rule that was removed."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}{how}\n", drain=drain)
        client, server = await self.session(forwarder)
        await self.applied(forwarder, f"b: 127.0.0.2:0 -> {self.target}\n")
        return forwarder, client, server

    async def test_stay(self) -> None:
        """Without a word they go on to their end."""
        forwarder, client, server = await self.removed("")
        await self.converses(client, server)
        self.assertEqual(forwarder.session_count, 1)
        client.close()
        server.close()
        await self.until(lambda: forwarder.session_count == 0)
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.NORMAL])

    async def test_drain(self) -> None:
        """They have as long as at a stop."""
        forwarder, client, _ = await self.removed(" on-remove=drain", 0.1)
        await self.is_reset(client)
        await self.until(lambda: forwarder.session_count == 0)
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.DRAIN])

    async def test_cut(self) -> None:
        """They are reset."""
        forwarder, client, _ = await self.removed(" on-remove=cut")
        await self.is_reset(client)
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.KILLED])
        self.assertEqual(len(forwarder.retired_rules), 0)

    async def test_earlier_reloads(self) -> None:
        """Sessions that began before an earlier reload are the rule's as well, under another name too."""
        forwarder = self.started(f"old: 127.0.0.1:0 -> {self.target}\n")
        client, _ = await self.session(forwarder, "old")
        await self.applied(forwarder, f"a: 127.0.0.1:0 -> {self.target}\n")
        await self.applied(forwarder, f"a: 127.0.0.1:0 -> {self.target} on-remove=cut idle=1h\n")
        await self.applied(forwarder, f"b: 127.0.0.2:0 -> {self.target}\n")
        await self.is_reset(client)
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.KILLED])

    async def test_drained_under_another_name(self) -> None:
        """An operator who drains a rule drains the sessions that began before it was renamed."""
        forwarder = self.started(f"old: 127.0.0.1:0 -> {self.target}\n", drain=0.1)
        client, _ = await self.session(forwarder, "old")
        await self.applied(forwarder, f"a: 127.0.0.1:0 -> {self.target}\n")
        forwarder.drain("a")
        await self.is_reset(client)

    async def test_resume_spares_no_removed_rule(self) -> None:
        """The deadline of ``on-remove=drain`` holds, though a rule of that name is paused and resumed."""
        forwarder, client, _ = await self.removed(" on-remove=drain", 1.0)
        await self.applied(forwarder, f"a: 127.0.0.1:0 -> {self.target}\n")
        forwarder.pause("a")
        forwarder.resume("a")
        await self.is_reset(client)
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.DRAIN])

    async def test_stop_cuts_them_too(self) -> None:
        """The deadline of a stop holds for sessions of old rules as well."""
        forwarder, client, _ = await self.removed("", 0.1)
        await forwarder.stopService()
        await self.is_reset(client)
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.DRAIN])


class OrderTests(ReloadCase):
    """Several things at a time."""

    async def test_two_reloads(self) -> None:
        """They come one after the other; the last one holds."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        first = self.reload(forwarder, f"b: 127.0.0.1:0 -> {self.target}\n")
        second = self.reload(forwarder, f"c: 127.0.0.1:0 -> {self.target}\n")
        done = await gatherResults([Deferred.fromCoroutine(first), Deferred.fromCoroutine(second)])
        self.assertTrue(all(result.applied for result in done))
        self.assertEqual([rule.name for rule in forwarder.rules], ["c"])

    def slow(self) -> None:
        """Slices of one step each."""
        self.patch(slices, "SLICE", 0.0)

    async def test_stop_while_preparing(self) -> None:
        """What was bound is closed again, and the stop goes on."""
        self.slow()
        before = open_descriptors()
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        started = count_descriptors()
        more = "".join(f"b{number}: 127.0.0.1:0 -> {self.target}\n" for number in range(50))
        result = forwarder.reload(rules(more))
        while count_descriptors() <= started:
            await self.turn()  # one of the slices
        self.assertNoResult(result)
        await forwarder.stopService()
        self.assertEqual((await result).failures, ("the forwarder is stopping",))
        self.assertEqual(open_descriptors(), before)

    def stopped_during(self, part: str, forwarder: Forwarder) -> Deferred[Any]:
        """Slices of one step each, and a stop after the first one of a `Transition`.s part."""
        self.slow()
        stopped: Deferred[Any] = Deferred()
        steps = getattr(Transition, part)

        def begun(change: Transition) -> Iterator[None]:
            reactor.callLater(0, lambda: forwarder.stopService().chainDeferred(stopped))  # type: ignore[attr-defined]
            yield
            yield from steps(change)

        self.patch(Transition, part, begun)
        return stopped

    async def test_stop_while_switching(self) -> None:
        """The change is finished first, so that everything that listens is known and closed."""
        before = open_descriptors()
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        stopped = self.stopped_during("switch", forwarder)
        result = await forwarder.reload(
            rules(f"b: 127.0.0.1:0 -> {self.target}\nc: 127.0.0.1:0 -> {self.target}\n")
        )
        await stopped
        self.assertTrue(result.applied)
        self.assertEqual([live.name for live in forwarder.rules], ["b", "c"])
        self.assertEqual(forwarder.addresses, {})
        self.assertEqual(open_descriptors(), before)

    async def test_stop_while_letting_go(self) -> None:
        """A change that was made is told as one, though what was replaced is not forgotten bit by bit."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        stopped = self.stopped_during("let_go", forwarder)
        result = await forwarder.reload(rules(f"b: 127.0.0.1:0 -> {self.target}\n"))
        await stopped
        self.assertTrue(result.applied)
        self.assertEqual(forwarder.reloads, 1)

    async def test_stop_while_undoing(self) -> None:
        """What was bound in vain is closed, all of it."""
        before = open_descriptors()
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        stopped = self.stopped_during("undo", forwarder)
        more = "".join(f"b{number}: 127.0.0.1:0 -> {self.target}\n" for number in range(5))
        result = await forwarder.reload(rules(more), dry_run=True)
        await stopped
        self.assertEqual(result.failures, ())
        self.assertEqual(open_descriptors(), before)

    async def test_stop_while_resolving(self) -> None:
        """A name that comes when all is over changes nothing."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        result = forwarder.reload(rules(f"a: localhost:0 -> {self.target}\n"))
        await forwarder.stopService()
        self.assertEqual((await result).failures, ("the forwarder is stopping",))

    async def test_started_again(self) -> None:
        """A forwarder that was stopped starts with the rules of the last reload."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        await self.applied(forwarder, f"b: 127.0.0.1:0 -> {self.target}\n")
        await forwarder.stopService()
        forwarder.startService()
        client, server = await self.session(forwarder, "b")
        await self.converses(client, server)

    async def test_nothing_is_left(self) -> None:
        """A hundred reloads leave no descriptor, no old rule and nothing for the garbage collector."""
        texts = [
            f"a: 127.0.0.1:0 -> {self.target}\nb: 127.0.0.1:0 -> {self.target}\n    filter hexdump\n",
            f"a: 127.0.0.1:0 -> {self.target} idle=1h\nc: 127.0.0.2:0 -> {self.target}\n",
        ]
        forwarder = self.started(texts[0])
        await self.applied(forwarder, texts[1])
        await self.turn()
        gc.collect()
        gc.disable()
        before = count_descriptors(), forwarder.budget.spent
        self.addCleanup(gc.enable)
        alive = self.live_rules()
        for number in range(100):
            await self.applied(forwarder, texts[number % 2])
        self.assertEqual((count_descriptors(), forwarder.budget.spent), before)
        self.assertEqual(len(forwarder.retired_rules), 0)
        self.assertEqual(self.live_rules(), alive)


class ResultTests(SynchronousTestCase):
    """What came of it, for people."""

    def test_refused(self) -> None:
        """How many things are wrong, each with what was said of it, and warnings."""
        warning = Problem(Location("x", 1), "no-rules", "look here", severity=Severity.WARNING)
        error = Problem(Location("x", 2), "bad-value", "no")
        result = ReloadResult(failures=("one", "two\n    more"), problems=(warning, error), notes=("n",))
        self.assertEqual(
            list(result.lines()),
            [
                "refused, nothing was changed: 2 things are wrong",
                "one",
                "two",
                "    more",
                "x:1: warning: look here",
                "note: n",
            ],
        )
        self.assertTrue(str(ReloadResult(failures=("one",))).endswith("1 thing is wrong"))
        self.assertEqual(str(ReloadResult()), "nothing is different")

    def test_many_failures(self) -> None:
        """So it is with failures and notes: a log is no place for ten thousand lines."""
        lines = list(ReloadResult(failures=tuple(map(str, range(MAX_LINES + 3)))).lines())
        self.assertEqual(len(lines), 1 + MAX_LINES + 1)
        self.assertTrue(lines[-1].startswith("… and 3 more; 'portfwd check'"), lines[-1])

    def test_many(self) -> None:
        """Of very many differences the first are told, and how many there are besides."""
        many = "".join(f":{number} -> 10.0.0.1:1\n" for number in range(1, MAX_LINES + 11))
        made = list(shortened(difference(parse("", "x"), parse(many, "x"))))
        self.assertEqual((len(made), made[-1]), (MAX_LINES + 1, "… and 10 more"))
        few = "".join(f":{number} -> 10.0.0.1:1\n" for number in range(1, MAX_LINES + 1))
        self.assertEqual(len(list(shortened(difference(parse("", "x"), parse(few, "x"))))), MAX_LINES)


def iter_nothing() -> Any:
    """Steps that find nothing wrong."""
    return ()
    yield
