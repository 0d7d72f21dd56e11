"""Single rules, paused, drained and resumed while the others work on."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred

from portfwd.errors import SteerError
from portfwd.service.build.build import count_descriptors
from portfwd.service.run.forwarder import Forwarder
from portfwd.values import CloseReason
from tests.places import short_directory
from tests.service.contexts import a_free_port
from tests.service.run.test_forwarder import PORTABLE, TIMEOUT
from tests.service.run.test_reload import ReloadCase, a_free_range, is_free


class SteeringCase(ReloadCase):
    """A forwarder with two rules."""

    def steered(self, drain: float = 5.0, **options: Any) -> Forwarder:
        """It runs."""
        return self.started(
            f"a: 127.0.0.1:0 -> {self.target}\nb: 127.0.0.2:0 -> {self.target}\n", drain=drain, **options
        )


class PauseTests(SteeringCase):
    """Clients that wait."""

    async def test_pause(self) -> None:
        """New clients connect and wait in the backlog; sessions and other rules go on; resume serves them."""
        forwarder = self.steered()
        client, server = await self.session(forwarder)
        self.assertEqual([live.name for live in forwarder.pause("a")], ["a"])
        waiting = await self.in_thread(lambda: self.connect(forwarder))
        await self.session(forwarder, "b")
        await self.converses(client, server)
        self.assertEqual(forwarder.session_count, 2)
        self.assertTrue(forwarder.bound[0].paused)
        forwarder.resume("a")
        await self.converses(waiting, await self.in_thread(self.accept))
        self.assertFalse(forwarder.bound[0].paused)

    async def test_over_a_reload(self) -> None:
        """A paused rule stays paused when a reload keeps its listener."""
        forwarder = self.steered()
        forwarder.pause("b")
        await self.applied(forwarder, f"b: 127.0.0.2:0 -> {self.target} idle=1h\n")
        client = await self.in_thread(lambda: self.connect(forwarder, "b"))
        await self.turn()
        self.assertEqual(forwarder.session_count, 0)
        forwarder.resume("b")
        await self.converses(client, await self.in_thread(self.accept))

    async def test_twice(self) -> None:
        """To pause what is paused, and to resume what is not, changes nothing."""
        forwarder = self.steered()
        forwarder.resume("a")
        forwarder.pause("a")
        forwarder.pause("a")
        forwarder.resume("a")
        await self.session(forwarder)

    async def test_twisted_ports(self) -> None:
        """Ports of Twisted's wait as well."""
        forwarder = self.steered(platform=PORTABLE)
        forwarder.pause("a")
        client = await self.in_thread(lambda: self.connect(forwarder))
        await self.turn()
        self.assertEqual(forwarder.session_count, 0)
        forwarder.resume("a")
        await self.converses(client, await self.in_thread(self.accept))

    async def test_ports_that_cannot_wait(self) -> None:
        """A plug-in's port without reading to stop is refused, with what can be done; nothing is paused."""
        forwarder = self.steered()

        class Bare:
            """It only listens."""

            def stopListening(self) -> None:
                """Nothing to stop."""

        forwarder.bound[0].ports.append(Bare())  # type: ignore[arg-type]
        problem = self.assertRaises(SteerError, forwarder.pause, "a")
        self.assertIn("drain it", str(problem))
        self.assertFalse(forwarder.bound[0].paused)

    def test_unknown(self) -> None:
        """A name that no rule has is refused, with the name that was probably meant."""
        forwarder = self.started(f"web: 127.0.0.1:0 -> {self.target}\n")
        for call in (forwarder.pause, forwarder.drain, forwarder.resume):
            problem = self.assertRaises(SteerError, call, "wbe")
            self.assertEqual(str(problem), "there is no rule called 'wbe'; did you mean 'web'?")
        self.assertNotIn("mean", str(self.assertRaises(SteerError, forwarder.pause, "nothing-like-it")))

    def test_range(self) -> None:
        """The name of a range means all its ports, the name of one port that one."""
        port = a_free_range(3)
        forwarder = self.started(f"lab: 127.0.0.1:{port}-{port + 2} -> 127.0.0.1:7-9\n")
        names = [f"lab:{port + offset}" for offset in range(3)]
        self.assertEqual([live.name for live in forwarder.pause(names[1])], names[1:2])
        self.assertEqual([live.name for live in forwarder.pause("lab")], names)

    async def test_during_a_reload(self) -> None:
        """While rules change nothing can be steered: which rules would be meant?"""
        forwarder = self.steered()
        gate: Deferred[None] = Deferred()
        with mock.patch.object(forwarder.names, "learn", lambda _: gate):
            result = Deferred.fromCoroutine(self.reload(forwarder, f"a: localhost:0 -> {self.target}\n"))
            self.assertRaises(SteerError, forwarder.pause, "a")
        gate.callback(None)
        self.assertTrue((await result).applied)
        forwarder.pause("a")


class DrainTests(SteeringCase):
    """Rules that are to have no clients any more."""

    async def test_drain(self) -> None:
        """The listener is closed, sessions end with TD at the deadline, descriptors are given back."""
        forwarder = self.steered(0.1)
        address = forwarder.addresses["a"][0]
        client, _ = await self.session(forwarder)
        other, server = await self.session(forwarder, "b")
        before, spent = count_descriptors(), forwarder.budget.spent
        forwarder.drain("a")
        self.assertEqual((count_descriptors(), forwarder.budget.spent), (before - 1, spent - 1))
        self.assertRaises(ConnectionRefusedError, self.connect_to, address)
        await self.is_reset(client)
        await self.converses(other, server)
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.DRAIN])

    async def test_sessions_from_before_a_reload(self) -> None:
        """They have the rule's old options, and are drained, or spared again, with it all the same."""
        forwarder = self.steered(0.2)
        spared, server = await self.session(forwarder)
        await self.applied(forwarder, f"a: 127.0.0.1:0 -> {self.target} idle=1h\n")
        forwarder.drain("a")
        self.assertEqual(len(forwarder.retired_rules.deadlines), 1)
        forwarder.resume("a")
        self.assertEqual(forwarder.retired_rules.deadlines, {})
        await self.converses(spared, server)
        forwarder.drain("a")
        await self.is_reset(spared)
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.DRAIN])

    async def test_who_waits_already(self) -> None:
        """A client whom the kernel has let in is served: it cannot know that it came late."""
        forwarder = self.steered()
        client = self.connect(forwarder)
        forwarder.drain("a")
        await self.converses(client, await self.in_thread(self.accept))

    async def test_drained_in_time(self) -> None:
        """Sessions that end before the deadline end as always."""
        forwarder = self.steered()
        client, server = await self.session(forwarder)
        forwarder.drain("a")
        forwarder.drain("a")
        await self.converses(client, server)
        client.close()
        server.close()
        await self.until(lambda: bool(self.lines.closed_lines))
        self.assertEqual([line.reason for line in self.lines.closed_lines], [CloseReason.NORMAL])

    async def test_resume(self) -> None:
        """It is bound again, on the same path, and sessions that were to end are spared."""
        path = str(short_directory(self) / "s")
        forwarder = self.started(f"a: unix:{path} -> {self.target}\n", drain=0.2)
        client, server = await self.session(forwarder)
        spent = forwarder.budget.spent
        forwarder.drain("a")
        self.assertFalse(os.path.exists(path))
        forwarder.resume("a")
        self.assertEqual(forwarder.budget.spent, spent)
        await self.session(forwarder)
        self.assertEqual(forwarder.retired_rules.deadlines, {})
        await self.converses(client, server)

    async def test_resume_a_port_of_twisted(self) -> None:
        """Likewise where Twisted's endpoint listens."""
        port = a_free_port()
        forwarder = self.started(f'a: endpoint:"tcp:{port}:interface=127.0.0.1" -> {self.target}\n')
        forwarder.drain("a")
        await self.turn()
        forwarder.resume("a")
        await self.session(forwarder)

    async def test_resume_a_port_that_is_taken(self) -> None:
        """It cannot be bound, or not be listened on: refused, and it stays drained."""
        port = a_free_port()
        forwarder = self.started(f"a: 127.0.0.1:{port} -> {self.target}\n")
        forwarder.drain("a")
        with mock.patch("portfwd.listen.listener.Listener.open", side_effect=OSError(98, "in use")):
            problem = self.assertRaises(SteerError, forwarder.resume, "a")
        self.assertTrue(
            str(problem).startswith(f"a: cannot listen on 127.0.0.1:{port}: in use (test.conf:1:4); ")
        )
        with socket.create_server(("127.0.0.1", port)):
            problem = self.assertRaises(SteerError, forwarder.resume, "a")
        self.assertIn("Address already in use", str(problem))
        self.assertTrue(forwarder.bound[0].closed)
        forwarder.resume("a")
        await self.session(forwarder)

    async def test_datagrams(self) -> None:
        """A rule with datagrams that was drained and resumed answers old clients and new ones, each time."""
        upstream = self.datagram_socket()
        upstream.bind(("127.0.0.1", 0))
        port = upstream.getsockname()[1]
        forwarder = self.started(f"a: udp:127.0.0.1:{a_free_port()} -> udp:127.0.0.1:{port}\n", drain=0.1)
        host, _, number = forwarder.addresses["a"][0].removeprefix("udp:").rpartition(":")

        def asks(client: socket.socket) -> None:
            client.sendto(b"question", (host, int(number)))
            data, sender = upstream.recvfrom(100)
            upstream.sendto(data, sender)
            self.assertEqual(client.recv(100), b"question")

        old = self.datagram_socket()
        await self.in_thread(partial(asks, old))
        for waits in (False, True, False):
            forwarder.drain("a")
            if waits:
                await self.until(lambda: not forwarder.session_count)
            forwarder.resume("a")
            for client in (old, self.datagram_socket()):
                await self.in_thread(partial(asks, client))

    def datagram_socket(self) -> socket.socket:
        """A socket that gives up when a test has failed."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(TIMEOUT)
        self.addCleanup(sock.close)
        return sock

    async def test_resume_a_range_in_part(self) -> None:
        """Where one port of a range is taken, none is bound: nothing listens that nobody knows of."""
        port = a_free_range(2)
        forwarder = self.started(f"a: 127.0.0.1:{port}-{port + 1} -> 127.0.0.1:7-8\n")
        forwarder.drain("a")
        before, spent = count_descriptors(), forwarder.budget.spent
        with socket.create_server(("127.0.0.1", port + 1)):
            problem = self.assertRaises(SteerError, forwarder.resume, "a")
            self.assertIn(f"127.0.0.1:{port + 1}", str(problem))
            self.assertTrue(is_free(port))
        self.assertEqual((count_descriptors(), forwarder.budget.spent), (before, spent))
        forwarder.resume("a")
        self.assertEqual([bound.closed for bound in forwarder.bound], [False, False])

    async def test_over_a_reload(self) -> None:
        """What is drained stays so when the rule changes, until it is resumed."""
        forwarder = self.steered()
        forwarder.drain("a")
        await self.applied(forwarder, f"a: 127.0.0.1:0 backlog=9 -> {self.target} idle=1h\n")
        self.assertEqual(forwarder.addresses["a"], [])
        forwarder.resume("a")
        await self.session(forwarder)
