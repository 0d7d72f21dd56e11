"""
Reloads that fail at each of their steps, and listeners that are replaced.

A reload that is refused has changed nothing, whichever call of the kernel failed. One that is applied is
applied in full, whatever accident happens on the way.
"""

from __future__ import annotations

import errno
import gc
import os
import shutil
import socket
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import isgeneratorfunction
from typing import Any
from unittest import mock

from portfwd.limits.admission import AdmissionRegistry
from portfwd.listen import systemd
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.listen.listener import Listener
from portfwd.listen.retired import RetiredListeners
from portfwd.relay.live import LiveRule
from portfwd.relay.session import Session
from portfwd.service.build.bound import Bound
from portfwd.service.build.build import count_descriptors
from portfwd.service.build.unused_sockets import UnusedSockets
from portfwd.service.run import switching
from portfwd.service.run.forwarder import Forwarder
from portfwd.service.run.retired_rules import RetiredRules
from portfwd.values import CloseReason
from tests.ports import free_port
from tests.service.contexts import a_free_port, a_used_port
from tests.service.run.test_reload import ReloadCase


def free_ports(count: int) -> list[int]:
    """So many ports that nobody has now, neither for connections nor for datagrams."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


class Faulty:
    """
    Makes one call of a function fail.

    :ivar calls: how many there were.
    """

    def __init__(self, owner: Any, name: str, number: int, error: Callable[[], Exception]) -> None:
        self._owner, self._name = owner, name
        self._number, self._error = number, error
        self.calls = 0

    @contextmanager
    def placed(self) -> Iterator[None]:
        """While this lasts."""
        real = getattr(self._owner, self._name)

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls == self._number:
                raise self._error()
            return real(*arguments, **named)

        def steps(*arguments: Any, **named: Any) -> Iterator[Any]:
            yield from call(*arguments, **named)

        with mock.patch.object(self._owner, self._name, steps if isgeneratorfunction(real) else call):
            yield


class EveryStepCase(ReloadCase):
    """One reload with everything in it."""

    def setUp(self) -> Any:
        """A target for datagrams, and a path."""
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", 0))
        self.addCleanup(self.datagrams.close)
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        self.path = f"{directory}/s"
        return super().setUp()

    def texts(self) -> tuple[str, str]:
        """The rules before, and after."""
        self.ports = a, b, c, d, e, f, g, h, i = free_ports(9)
        udp = f"udp:127.0.0.1:{self.datagrams.getsockname()[1]}"
        return (
            "limits max-conns=50\n"
            f"same: 127.0.0.1:{a} -> {self.target}\n"
            f"changed: 127.0.0.1:{b} backlog=5 -> {self.target}\n"
            f"removed: 127.0.0.1:{c} -> {self.target} on-remove=cut\n"
            f"moved: 127.0.0.1:{d} -> {self.target} on-remove=drain\n"
            f"udp: udp:127.0.0.1:{e} -> {udp}\n"
            f"udp-moved: udp:127.0.0.1:{f} -> {udp}\n"
            f"file: unix:{self.path} -> {self.target}\n"
            f'native: endpoint:"tcp:{g}:interface=127.0.0.1" -> {self.target}\n',
            "limits max-conns=60\n"
            f"same: 127.0.0.1:{a} -> {self.target}\n"
            f"changed: 127.0.0.1:{b} backlog=7 -> {self.target} keepalive=60:10:3\n"
            f"new: 127.0.0.1:{h} -> {self.target}\n"
            f"moved: 0.0.0.0:{d} -> {self.target}\n"
            f"udp: udp:127.0.0.1:{e} -> {udp} rcvbuf=64KiB\n"
            f"udp-moved: udp:0.0.0.0:{f} -> {udp}\n"
            f"file: unix-dgram:{self.path} -> {udp}\n"
            f"native: 127.0.0.1:{g} -> {self.target}\n"
            f'other: endpoint:"tcp:{i}:interface=127.0.0.1" -> {self.target}\n',
        )

    def state(self, forwarder: Forwarder) -> list[object]:
        """All that a refused reload leaves as it is."""
        found: list[object] = [
            forwarder.addresses,
            forwarder.rules,
            forwarder.ruleset,
            list(forwarder.retired_rules),
            sorted(number for live in forwarder.every_rule for number in live.sessions),
            forwarder.admissions.overall,
            forwarder.admissions.everybody.taken,
            forwarder.budget.spent,
            count_descriptors(),
            os.stat(self.path).st_ino,
            sorted(os.listdir(os.path.dirname(self.path))),
            len(self.lines.closed_lines),
        ]
        for bound in forwarder.bound:
            found += [bound.live.name, bound.closed, bound.paused]
            for listener in bound.listeners:
                found.append(listener.state)
                for option in (socket.SO_REUSEPORT, socket.SO_RCVBUF, socket.SO_SNDBUF):
                    found.append(listener.sock.getsockopt(socket.SOL_SOCKET, option))
        return found

    def names(self, forwarder: Forwarder) -> list[str]:
        """What listens."""
        return [name for name, addresses in forwarder.addresses.items() if addresses]

    async def begun(self) -> tuple[Forwarder, str]:
        """The rules before, with sessions; and the text of those after."""
        before, after = self.texts()
        forwarder = self.started(before)
        for name in ("same", "removed", "moved"):
            await self.session(forwarder, name)
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.sendto(b"x", ("127.0.0.1", self.ports[5]))
        await self.until(lambda: forwarder.session_count == 4)
        return forwarder, after

    async def ended(self, forwarder: Forwarder) -> None:
        """Everything of one attempt is over, so that the next one can have the ports."""
        forwarder.cut(CloseReason.KILLED)
        await forwarder.stopService()
        self.lines.closed_lines.clear()


class RefusedTests(EveryStepCase):
    """Calls of the kernel that fail."""

    def points(self, forwarder: Forwarder) -> Sequence[tuple[Any, str]]:
        """Every call of the kernel that a reload makes and that may fail."""
        assert forwarder.context.sockets is not None
        poller = forwarder.context.sockets.poller
        return (
            (socket.socket, "bind"),
            (socket.socket, "listen"),
            (socket.socket, "setsockopt"),
            (poller, "watch"),
            (os, "rename"),
            (RetiredListeners, "revivable"),
            (LiveRule, "limit"),
        )

    async def test_every_call(self) -> None:
        """Whichever fails: the reload is refused and nothing is changed, or it is applied in full."""
        refused = applied = 0
        forwarder, after = await self.begun()
        for index in range(len(self.points(forwarder))):
            number = 1
            while True:
                owner, name = self.points(forwarder)[index]
                before = self.state(forwarder)
                fault = Faulty(owner, name, number, lambda: OSError(errno.ENOMEM, "no memory"))
                with fault.placed():
                    try:
                        result = await self.reload(forwarder, after)
                        is_refused, is_applied = result.refused, result.applied
                    except OSError:
                        is_refused, is_applied = True, False
                happened = fault.calls >= number
                if is_refused:
                    refused += 1
                    await self.turn()
                    self.assertEqual(self.state(forwarder), before, f"{name}, call {number}")
                else:
                    self.assertTrue(is_applied)
                    applied += happened
                    self.flushLoggedErrors()
                    again = await self.applied(forwarder, after)
                    self.assertFalse(again.difference, f"{name}, call {number}")
                    self.assertEqual(
                        self.names(forwarder),
                        ["same", "changed", "new", "moved", "udp", "udp-moved", "file", "native", "other"],
                        f"{name}, call {number}",
                    )
                    await self.ended(forwarder)
                    forwarder, after = await self.begun()
                if not happened:
                    break
                number += 1
        self.assertGreater(refused, 15)
        self.assertGreater(applied, 10)

    async def test_clients_of_a_refused_reload(self) -> None:
        """Who connects to a new listener that shares a port with an old one is served by the old one."""
        port, other = a_free_port(), a_free_port()
        forwarder = self.started(f"a: 0.0.0.0:{port} -> {self.target}\n")
        real, clients = socket.socket.listen, []

        def listen(sock: socket.socket, *arguments: int) -> None:
            if sock.getsockname()[1] == other:
                clients.append(socket.create_connection(("127.0.0.1", port)))
                raise OSError(errno.EADDRINUSE, "in use")
            real(sock, *arguments)

        with mock.patch.object(socket.socket, "listen", listen):
            result = await self.reload(
                forwarder, f"a: 127.0.0.1:{port} -> {self.target}\nb: 127.0.0.1:{other} -> {self.target}\n"
            )
        self.assertTrue(result.refused)
        (client,) = clients
        self.addCleanup(client.close)
        client.settimeout(60)
        await self.converses(client, await self.in_thread(self.accept))
        self.assertEqual([len(live.sessions) for live in forwarder.rules], [1])

    async def test_endpoint_accepts_nobody_before_the_switch(self) -> None:
        """A client of an endpoint whose reload is refused begins no session."""
        port, used = a_free_port(), a_used_port(self)
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        result = await self.reload(
            forwarder,
            f'b: endpoint:"tcp:{port}:interface=127.0.0.1" -> {self.target}\n'
            f'c: endpoint:"tcp:{used}:interface=127.0.0.1" -> {self.target}\n',
        )
        self.assertTrue(result.refused)
        await self.turn()
        self.assertRaises(ConnectionRefusedError, self.connect_to, f"127.0.0.1:{port}")
        self.assertEqual(forwarder.session_total, 0)


class AccidentTests(EveryStepCase):
    """Mistakes of ours after the point of no return."""

    POINTS: Sequence[tuple[Any, str]] = (
        (Listener, "begin"),
        (Listener, "late_clients"),
        (Listener, "resize"),
        (DatagramClients, "begin"),
        (DatagramClients, "serve"),
        (Bound, "serve"),
        (Bound, "judge"),
        (Bound, "resume"),
        (RetiredListeners, "join"),
        (AdmissionRegistry, "bound"),
        (RetiredRules, "replace"),
        (RetiredRules, "remove"),
        (RetiredRules, "count_sessions"),
        (Session, "cut"),
        (UnusedSockets, "refuse"),
        (switching, "tell_where"),
    )

    async def test_every_call(self) -> None:
        """The reload is applied, says what failed, and the next one mends what can be mended."""
        for owner, name in self.POINTS:
            await self.with_accident(owner, name)

    async def with_accident(self, owner: Any, name: str) -> None:
        """The first call of it raises."""
        forwarder, after = await self.begun()
        fault = Faulty(owner, name, 1, lambda: ZeroDivisionError(name))
        with fault.placed():
            result = await self.reload(forwarder, after)
        self.assertTrue(fault.calls, name)
        self.assertTrue(result.applied, name)
        self.assertIn("failed; the log has the traceback", " ".join(result.notes), name)
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError), name)
        again = await self.applied(forwarder, after)
        self.assertFalse(again.difference, name)
        for rule in ("same", "changed", "new", "moved", "native", "other"):
            await self.session(forwarder, rule)
        listed = sum(len(live.sessions) for live in forwarder.every_rule)
        self.assertEqual(listed + len(self.lines.closed_lines), forwarder.session_total, name)
        await self.ended(forwarder)


class ReplacedTests(EveryStepCase):
    """Listeners whose place another kind of listener takes, and clients who wait."""

    async def test_native_and_endpoint(self) -> None:
        """One reload is enough from a socket of ours to an endpoint and back; who waits is served."""
        port = a_free_port()
        forwarder = self.started(f"a: 127.0.0.1:{port} -> {self.target}\n")
        for listen in (
            f'endpoint:"tcp:{port}:interface=127.0.0.1"',
            f'endpoint:"tcp:{port}"',
            f"127.0.0.1:{port}",
        ):
            forwarder.pause("a")
            client = await self.in_thread(lambda: self.connect_to(f"127.0.0.1:{port}"))
            await self.applied(forwarder, f"a: {listen} -> {self.target}\n")
            await self.converses(client, await self.in_thread(self.accept))
            forwarder.resume("a")
            await self.turn()
            client = await self.in_thread(lambda: self.connect_to(f"127.0.0.1:{port}"))
            await self.converses(client, await self.in_thread(self.accept))

    async def test_unix_kinds(self) -> None:
        """One reload is enough from ``unix`` to ``unix-dgram`` and back; nothing is left beside."""
        udp = f"udp:127.0.0.1:{self.datagrams.getsockname()[1]}"
        forwarder = self.started(f"a: unix:{self.path} -> {self.target}\n")
        for kind, target in (("unix-dgram", udp), ("unix", self.target)):
            await self.applied(forwarder, f"a: {kind}:{self.path} -> {target}\n")
            self.assertEqual(sorted(os.listdir(os.path.dirname(self.path))), ["s", "s.lock"])
        await self.session(forwarder)

    async def test_unix_endpoint(self) -> None:
        """One reload is enough from any kind of unix socket to an endpoint on its path, and back."""
        udp = f"udp:127.0.0.1:{self.datagrams.getsockname()[1]}"
        directory = os.path.dirname(self.path)
        forwarder = self.started(f"a: unix:{self.path} -> {self.target}\n")
        endpoint = f'endpoint:"unix:{self.path}"', self.target
        for listen, target in (
            endpoint,
            (f'endpoint:"unix:{self.path}:mode=600"', self.target),
            (f'endpoint:"unix:{self.path}:lockfile=0"', self.target),
            (f"unix:{self.path}", self.target),
            (f'endpoint:"unix:{self.path}:lockfile=0"', self.target),
            (f"unix-dgram:{self.path}", udp),
            endpoint,
            (f"unix:{self.path}", self.target),
        ):
            await self.applied(forwarder, f"a: {listen} -> {target}\n")
            files = ["s"] if "lockfile=0" in listen else ["s", "s.lock"]
            self.assertEqual(sorted(os.listdir(directory)), files, listen)
            if target is self.target:
                await self.session(forwarder)
        await self.ended(forwarder)
        self.assertEqual(os.listdir(directory), [])

    async def test_unix_endpoint_refused(self) -> None:
        """A reload that is refused leaves the path to whoever has it, an endpoint or a socket of ours."""
        used = a_used_port(self)
        bad = f'endpoint:"tcp:{used}:interface=127.0.0.1"'
        for one, other in (("unix:{}", 'endpoint:"unix:{}"'), ('endpoint:"unix:{}"', "unix:{}")):
            forwarder = self.started(f"a: {one.format(self.path)} -> {self.target}\n")
            await self.turn()
            text = f"a: {other.format(self.path)} -> {self.target}\nb: {bad} -> {self.target}\n"
            result = await self.reload(forwarder, text)
            self.assertTrue(result.refused)
            await self.turn()
            self.assertEqual(sorted(os.listdir(os.path.dirname(self.path))), ["s", "s.lock"], one)
            await self.session(forwarder)
            await self.ended(forwarder)

    async def test_file_of_an_endpoint_is_made_again(self) -> None:
        """An endpoint whose file was removed has one again after a reload; it removes none but its own."""
        text = f'a: endpoint:"unix:{self.path}" -> {self.target}\n'
        forwarder = self.started(text)
        await self.turn()
        os.unlink(self.path)
        await self.applied(forwarder, text)
        await self.session(forwarder)
        os.unlink(self.path)
        os.unlink(f"{self.path}.lock")
        with open(self.path, "w", encoding="ascii"):
            pass
        await self.ended(forwarder)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["s"])

    async def test_file_is_made_again(self) -> None:
        """A unix socket whose file somebody removed has one again after a reload; sessions go on."""
        text = f"a: unix:{self.path} -> {self.target} on-remove=cut\n"
        forwarder = self.started(text)
        client, server = await self.session(forwarder)
        for name in ("s", "s.lock"):
            os.unlink(os.path.join(os.path.dirname(self.path), name))
        await self.applied(forwarder, text)
        await self.session(forwarder)
        await self.converses(client, server)
        self.assertEqual([len(live.sessions) for live in forwarder.rules], [2])
        self.assertEqual(sorted(os.listdir(os.path.dirname(self.path))), ["s", "s.lock"])

    async def test_name_with_another_address(self) -> None:
        """A rule on a name listens where that is now; its sessions go on, and what stays keeps its socket."""
        resolver = self.resolving("127.0.0.2", "127.0.0.1")
        forwarder = self.started(f"a: localhost:0 -> {self.target} on-remove=cut\n")
        client, server = await self.in_thread(
            lambda: (self.connect_to(forwarder.addresses["a"][0]), self.accept())
        )
        await self.until(lambda: forwarder.session_count == 1)
        (kept,) = [one.sock for one in forwarder.bound[0].listeners if "127" in str(one.address)]
        await self.applied(forwarder, f"a: localhost:0 -> {self.target} on-remove=cut\n")
        found = [one.sock for one in forwarder.bound[0].listeners]
        self.assertEqual((len(found), kept in found), (2, True))
        resolver.found = ("127.0.0.2",)
        await self.applied(forwarder, f"a: localhost:0 -> {self.target} on-remove=cut\n")
        (address,) = forwarder.addresses["a"]
        self.assertTrue(address.startswith("127.0.0.2:"), address)
        await self.session(forwarder)
        await self.converses(client, server)

    async def waits(self, forwarder: Forwarder, count: int = 1) -> list[socket.socket]:
        """Clients in the backlog."""
        return [await self.in_thread(lambda: self.connect(forwarder)) for _ in range(count)]

    async def test_paused_clients_are_served(self) -> None:
        """Who waits at a paused rule is served when the rule goes or moves; where it goes it is paused."""
        for after in ("b: 127.0.0.2:0", "a: 127.0.0.2:0"):
            forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
            forwarder.pause("a")
            clients = await self.waits(forwarder, 3)
            result = await self.applied(forwarder, f"{after} -> {self.target}\n")
            for client in clients:
                client.sendall(b"ping")
            for _ in clients:
                server = await self.in_thread(self.accept)
                self.assertEqual(await self.in_thread(lambda one=server: one.recv(9)), b"ping")
            self.assertEqual(forwarder.bound[0].paused, after.startswith("a"))
            self.assertEqual("a is paused" in " ".join(result.notes), after.startswith("a"))

    async def test_clients_at_a_limit_are_served(self) -> None:
        """Who waits for a limit is served when the limit lets it, though its listener is closed."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target} max-conns=1 on-limit=wait\n")
        first, server = await self.session(forwarder)
        clients = await self.waits(forwarder, 2)
        await self.until(lambda: forwarder.bound[0].listeners[0].state == "at a limit")
        await self.applied(forwarder, f"b: 127.0.0.2:0 -> {self.target}\n")
        self.assertEqual(forwarder.session_count, 1)
        for client in clients:
            first.close()
            server.close()
            server = await self.in_thread(self.accept)
            await self.converses(client, server)
            first = client
        self.assertEqual([len(live.sessions) for live in forwarder.retired_rules], [1])
        first.close()
        server.close()
        await self.until(lambda: not len(forwarder.retired_rules))

    async def late(self, after: str) -> tuple[Forwarder, socket.socket]:
        """A rule on a name whose address changes, with a session and a client that waits for its limit."""
        port = free_ports(1)[0]
        self.resolving("127.0.0.4")
        forwarder = self.started(f"a: localhost:{port} -> {self.target} max-conns=1 on-limit=wait\n")
        address = f"127.0.0.1:{port}"
        await self.in_thread(lambda: (self.connect_to(address), self.accept()))
        await self.until(lambda: forwarder.session_count == 1)
        client = await self.in_thread(lambda: self.connect_to(address))
        await self.until(lambda: any(one.state == "at a limit" for one in forwarder.bound[0].listeners))
        await self.applied(forwarder, f"{after.format(listen=f'localhost:{port}')} -> {self.target} {LATE}\n")
        return forwarder, client

    async def test_late_clients_of_a_drained_rule(self) -> None:
        """Who waits for a limit since before a reload is turned away when the rule is drained."""
        forwarder, client = await self.late("a: {listen}")
        self.assertEqual(forwarder.session_count, 1)
        forwarder.drain("a")
        await self.is_reset(client)

    async def test_late_clients_of_a_renamed_rule(self) -> None:
        """Who waits counts for the limit of the rule that has the place of its own now."""
        forwarder, client = await self.late("b: {listen}")
        self.assertEqual(forwarder.session_count, 1)
        forwarder.cut(CloseReason.KILLED)
        await self.converses(client, await self.in_thread(self.accept))
        self.assertEqual(forwarder.session_count, 1)

    async def test_late_clients_at_a_stop(self) -> None:
        """A stop does not wait for clients that wait."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target} max-conns=1 on-limit=wait\n", drain=0.1)
        await self.session(forwarder)
        (client,) = await self.waits(forwarder)
        await self.until(lambda: forwarder.bound[0].listeners[0].state == "at a limit")
        await self.applied(forwarder, f"b: 127.0.0.2:0 -> {self.target}\n")
        await forwarder.stopService()
        await self.is_reset(client)

    async def association(self, forwarder: Forwarder, address: Any) -> socket.socket:
        """A client that sends datagrams there, with an association."""
        count = forwarder.session_count
        family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        client = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.settimeout(60)
        if not isinstance(address, tuple):
            client.bind(f"{address}.client")
        client.connect(address)
        client.send(b"x")
        await self.until(lambda: forwarder.session_count == count + 1)
        return client

    async def test_name_of_a_socket_with_associations(self) -> None:
        """A path can be had though a socket without a rule has associations; a refused reload leaves it."""
        udp = f"udp:127.0.0.1:{self.datagrams.getsockname()[1]}"
        base = f"b: 127.0.0.1:0 -> {self.target}\n"
        stream = f"{base}a: unix:{self.path} -> {self.target}\n"
        datagrams = f"{base}a: unix-dgram:{self.path} -> {udp}\n"
        forwarder = self.started(datagrams)
        await self.association(forwarder, self.path)
        await self.applied(forwarder, base)
        for text in (datagrams, base, stream):
            dry = await self.reload(forwarder, text, dry_run=True)
            self.assertEqual(dry.failures, ())
            await self.applied(forwarder, text)
        refused = await self.reload(forwarder, f"{datagrams}c: unix:/nosuch/s -> {self.target}\n")
        self.assertTrue(refused.refused)
        await self.session(forwarder)

    async def test_associations_of_a_lost_file(self) -> None:
        """A socket whose file somebody removed has no claim to the name, whatever its associations."""
        udp = f"udp:127.0.0.1:{self.datagrams.getsockname()[1]}"
        base = f"b: 127.0.0.1:0 -> {self.target}\n"
        datagrams = f"{base}a: unix-dgram:{self.path} -> {udp}\n"
        forwarder = self.started(datagrams)
        await self.association(forwarder, self.path)
        os.unlink(self.path)
        await self.applied(forwarder, datagrams)
        inode = os.stat(self.path).st_ino
        stream = f"{base}a: unix:{self.path} -> {self.target}\nc: unix:/nosuch/s -> {self.target}\n"
        for _ in range(2):
            self.assertTrue((await self.reload(forwarder, stream)).refused)
            self.assertEqual(os.stat(self.path).st_ino, inode)
        for text in (base, datagrams):
            await self.applied(forwarder, text)
        self.assertTrue(os.path.exists(self.path))
        os.unlink(f"{self.path}.client")
        await self.association(forwarder, self.path)

    async def test_resume_beside_associations(self) -> None:
        """A drained rule resumes on a port on which associations of another listener go on."""
        port = free_ports(1)[0]
        udp = f"udp:127.0.0.1:{self.datagrams.getsockname()[1]}"
        forwarder = self.started(f"a: udp:127.0.0.1:{port} -> {udp}\n")
        await self.association(forwarder, ("127.0.0.1", port))
        forwarder.drain("a")
        await self.applied(forwarder, f"a: udp:0.0.0.0:{port} -> {udp}\n")
        forwarder.resume("a")
        self.assertEqual(forwarder.addresses, {"a": [f"0.0.0.0:{port}"]})
        sock = forwarder.bound[0].listeners[0].sock
        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT), 0)
        await self.association(forwarder, ("127.0.0.2", port))

    async def test_removed_rules_are_freed(self) -> None:
        """A rule of any kind that is gone leaves nothing to the garbage collector."""
        udp = f"udp:127.0.0.1:{self.datagrams.getsockname()[1]}"
        base = f"b: 127.0.0.1:0 -> {self.target}\n"
        forwarder = self.started(base)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for listen, target in (
            ("127.0.0.1:0", self.target),
            ("udp:127.0.0.1:0", udp),
            (f"unix:{self.path}", self.target),
            (f"unix-dgram:{self.path}", udp),
            (f'endpoint:"tcp:{a_free_port()}:interface=127.0.0.1"', self.target),
        ):
            await self.applied(forwarder, f"{base}a: {listen} -> {target}\n")
            counts = weakref.ref(forwarder.admissions.counts("a"))
            await self.applied(forwarder, base)
            await self.turn()
            self.assertIsNone(counts(), listen)

    async def test_steering_stays_with_the_name(self) -> None:
        """A drained rule that moves listens nowhere until it is resumed; who gets its address listens."""
        port, other = a_free_port(), a_free_port()
        forwarder = self.started(f"a: 127.0.0.1:{port} -> {self.target}\n")
        forwarder.drain("a")
        text = f"b: 127.0.0.1:{port} -> {self.target}\na: 127.0.0.1:{other} -> {self.target}\n"
        result = await self.applied(forwarder, text)
        self.assertEqual(result.notes, ("a is drained as before; 'resume' ends that",))
        self.assertEqual(forwarder.addresses, {"b": [f"127.0.0.1:{port}"], "a": []})
        await self.session(forwarder, "b")
        forwarder.resume("a")
        await self.session(forwarder, "a")
        forwarder.pause("b")
        await self.applied(forwarder, text.replace("b:", "c:"))
        await self.session(forwarder, "c")

    async def test_systemd(self) -> None:
        """Clients of a socket of systemd's are refused while no rule listens there, and served again."""
        held = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(held.close)
        address = f"127.0.0.1:{held.getsockname()[1]}"
        self.patch(systemd, "inherited", lambda *_: {"web": [held.fileno()]})
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        for _ in range(2):
            await self.applied(forwarder, f"a: systemd:web -> {self.target}\n")
            client = await self.in_thread(lambda: self.connect_to(address))
            await self.converses(client, await self.in_thread(self.accept))
            await self.applied(forwarder, f"a: 127.0.0.1:0 -> {self.target}\n")
            problem = await self.in_thread(lambda: self.assertRaises(ConnectionError, self.refused, address))
            self.assertIsInstance(problem, ConnectionResetError)

    def refused(self, address: str) -> bytes:
        """A client that is let in by the kernel, and reset."""
        return self.connect_to(address).recv(1)


class DryRunTests(EveryStepCase):
    """What a dry run says is what the reload says."""

    async def test_same_answer(self) -> None:
        """Addresses that cannot be had are told alike, and those that can."""
        used, directory = a_used_port(self), os.path.dirname(self.path)
        with open(f"{directory}/regular", "w", encoding="ascii"):
            pass
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(f"{directory}/live")
        listener.listen()
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(f"{directory}/stale")
        stale.close()
        base = f"a: 127.0.0.1:0 -> {self.target}\nb: unix:{self.path} -> {self.target}\n"
        forwarder = self.started(base)
        for listen in (
            f"unix:{directory}/nosuch/s",
            f"unix:{directory}/regular",
            f"unix:{directory}/live",
            f"unix:{directory}/stale",
            f"unix:{directory}/new",
            f'endpoint:"tcp:{used}:interface=127.0.0.1"',
            f'endpoint:"tcp:{a_free_port()}:interface=127.0.0.1"',
            f'endpoint:"unix:{directory}/regular"',
            f"127.0.0.1:{used}",
        ):
            text = f"{base}c: {listen} -> {self.target}\n"
            before = sorted(os.listdir(directory))
            dry = await self.reload(forwarder, text, dry_run=True)
            self.assertEqual(sorted(os.listdir(directory)), before, listen)
            real = await self.reload(forwarder, text)
            self.assertEqual(dry.failures, real.failures, listen)
            await self.applied(forwarder, base)
            await self.turn()


#: Options of a rule at which clients wait, and which another rule of that place has as well.
LATE = "max-conns=1 on-limit=wait idle=1h"
