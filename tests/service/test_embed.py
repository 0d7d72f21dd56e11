"""`portfwd.forward`: the forwarder in somebody else's program."""

from __future__ import annotations

import json
import math
import os
import socket
from typing import Any, cast

from twisted.application.service import IService, MultiService
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

import portfwd
from portfwd.errors import RulesError, StartError, SteerError
from portfwd.filters import DONE, TO_UPSTREAM, Direction, Filter, Verdict
from portfwd.rules.model import Rule, Ruleset
from portfwd.service.embed import EmbeddedForwarder
from portfwd.service.tls.certificate_watch import CertificateWatch
from portfwd.values import CloseReason, SessionSummary
from tests.places import short_directory
from tests.service.contexts import Lines, a_used_port, rules

REACTOR = cast(Any, reactor)


class Loud(Filter):
    """Passes on in upper case what the client says."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        return data.upper() if direction is TO_UPSTREAM else DONE


class ForwardTests(TestCase):
    """Text, a rule or a ruleset in; a service out."""

    def test_kinds(self) -> None:
        """Whatever is handed in, the same service comes out, and nothing is bound yet."""
        ruleset = rules("a: 127.0.0.1:0 -> 127.0.0.1:9")
        for rule in ("a: 127.0.0.1:0 -> 127.0.0.1:9", ruleset.rules[0], ruleset):
            self.assertIsInstance(rule, (str, Rule, Ruleset))
            service = portfwd.forward(REACTOR, rule)
            verifyObject(IService, service)
            self.assertEqual([one.target for one in service.targets], ["127.0.0.1:9"])
            self.assertEqual((service.addresses, service.sessions), ({}, []))

    def test_wrong_rule(self) -> None:
        """A rule that cannot be read is refused with its place."""
        problem = self.assertRaises(RulesError, portfwd.forward, REACTOR, ":80 -> ")
        self.assertTrue(problem.problems)

    def test_not_yet(self) -> None:
        """An unsupported feature is refused, also in a `Ruleset`."""
        self.assertRaises(RulesError, portfwd.forward, REACTOR, ":0/udp -> 127.0.0.1:9/udp on-limit=wait")
        (rule,) = rules(":0/udp -> 127.0.0.1:9/udp on-limit=wait").rules
        self.assertRaises(RulesError, portfwd.forward, REACTOR, rule)

    def test_arguments_that_clash(self) -> None:
        """A rule has its options and filters; endpoints need each other; a log has four attributes."""
        rule = ":0 -> 127.0.0.1:9"
        wrong: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            ((), {}),
            ((), {"listen": ":0"}),
            ((rule,), {"listen": ":0", "to": ":9"}),
            ((rule,), {"idle": "5m"}),
            ((rule,), {"filters": [Loud]}),
            ((rule,), {"log": print}),
            ((rule,), {"log": Lines}),
        ]
        for arguments, options in wrong:
            self.assertRaises(TypeError, portfwd.forward, REACTOR, *arguments, **options)
        service = portfwd.forward(REACTOR, rule)
        self.assertRaises(TypeError, service.subscribe, closed=5)
        self.assertRaises(TypeError, service.reload, idle="5m")

    def test_target_that_is_not_good(self) -> None:
        """A target that cannot be made ready is a StartError, at once."""
        self.assertRaises(StartError, portfwd.forward, REACTOR, ":0 -> tls:h.example:443 ca=/nonexistent.pem")

    def test_log_that_is_not_good(self) -> None:
        """A file for access lines that cannot be opened is a StartError, at once."""
        ruleset = rules("log file=/nonexistent/log\n:0 -> 127.0.0.1:9")
        self.assertRaises(StartError, portfwd.forward, REACTOR, ruleset)


class LifeTests(TestCase):
    """Services that start and stop."""

    def setUp(self) -> None:
        self.upstream = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.upstream.close)
        self.target = f"127.0.0.1:{self.upstream.getsockname()[1]}"

    def _start(self, *arguments: Any, **options: Any) -> EmbeddedForwarder:
        service = portfwd.forward(REACTOR, *arguments, drain=1.0, **options)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def _converse(self, service: EmbeddedForwarder) -> bytes:
        """What the upstream gets of "hello" and an end."""
        ((address, *_),) = service.addresses.values()
        port = int(address.rpartition(":")[2])

        def converse() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 5.0) as client:
                server, _ = self.upstream.accept()
                with server:
                    client.sendall(b"hello")
                    client.shutdown(socket.SHUT_WR)
                    server.settimeout(5.0)
                    received = b""
                    while piece := server.recv(10):
                        received += piece
                    return received

        return await deferToThread(converse)

    def test_used_port(self) -> None:
        """A port that is taken is a StartError of startService; the program may try again."""
        used = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(used.close)
        service = portfwd.forward(REACTOR, f"127.0.0.1:{used.getsockname()[1]} -> 127.0.0.1:9")
        self.assertRaises(StartError, service.startService)
        self.assertFalse(service.running)
        used.close()
        service.startService()
        self.assertEqual(len(service.addresses), 1)
        return service.stopService()  # type: ignore[return-value]

    def test_used_port_under_a_parent(self) -> None:
        """The same for a running parent that it is given to."""
        parent = MultiService()
        parent.startService()
        service = portfwd.forward(REACTOR, f"127.0.0.1:{a_used_port(self)} -> 127.0.0.1:9")
        self.assertRaises(StartError, service.setServiceParent, parent)

    async def test_several_under_one_parent(self) -> None:
        """Each has a name of its own, and the parent starts and stops all of them."""
        parent = MultiService()
        made = [portfwd.forward(REACTOR, f"127.0.0.1:0 -> {self.target}") for _ in range(3)]
        for one in made:
            one.setServiceParent(parent)
        parent.privilegedStartService()
        parent.startService()
        self.assertEqual(len({child.name for child in parent}), 3)
        self.assertEqual([await self._converse(one) for one in made], [b"hello"] * 3)
        await parent.stopService()
        self.assertEqual([one.addresses for one in made], [{}] * 3)

    async def test_second_start(self) -> None:
        """A service starts once: neither twice at a time nor again after it was stopped."""
        service = self._start(f"127.0.0.1:0 -> {self.target}")
        self.assertRaises(StartError, service.startService)
        self.assertRaises(StartError, service.privilegedStartService)
        self.assertEqual(await self._converse(service), b"hello")
        await service.stopService()
        self.assertRaises(StartError, service.startService)

    async def test_traffic(self) -> None:
        """Bytes go through, the log is told, and stopService fires when all is closed."""
        lines = Lines()
        service = self._start(f"a: 127.0.0.1:0 -> {self.target}", log=lines)
        received = await self._converse(service)
        await service.stopService()
        self.assertEqual(received, b"hello")
        self.assertEqual([line.reason for line in lines.closed_lines], [CloseReason.NORMAL])

    async def test_objects(self) -> None:
        """Endpoints and filters that are objects work as those of a rules file do."""
        service = self._start(
            listen=TCP4ServerEndpoint(REACTOR, 0, interface="127.0.0.1"),
            to=TCP4ClientEndpoint(REACTOR, "127.0.0.1", self.upstream.getsockname()[1]),
            filters=[Loud],
            idle="5m",
        )
        self.assertEqual(await self._converse(service), b"HELLO")

    async def test_certificates(self) -> None:
        """The dates of certificates are looked at while the service runs."""
        service = self._start(f"a: 127.0.0.1:0 -> {self.target}")
        (watch,) = (child for child in service if isinstance(child, CertificateWatch))
        self.assertTrue(watch.running)
        await service.stopService()
        self.assertFalse(watch.running)

    async def test_subscribers(self) -> None:
        """Functions are told of sessions that open and close, until they end their subscription."""
        service = self._start(f"a: 127.0.0.1:0 -> {self.target}")
        opened: list[SessionSummary] = []
        closed: list[SessionSummary] = []
        service.subscribe(opened=opened.append)
        end = service.subscribe(closed=closed.append)
        await self._converse(service)
        end()
        await self._converse(service)
        await service.stopService()
        self.assertEqual([(one.rule, one.reason) for one in opened], [("a", None)] * 2)
        self.assertLessEqual(len(closed), 1)

    async def test_sessions_and_targets(self) -> None:
        """Open sessions and targets show what they did, and a session can be killed."""
        service = self._start(f"a: 127.0.0.1:0 -> {self.target}")
        port = int(service.addresses["a"][0].rpartition(":")[2])
        client = await deferToThread(socket.create_connection, ("127.0.0.1", port), 5.0)
        self.addCleanup(client.close)
        server, _ = await deferToThread(self.upstream.accept)
        self.addCleanup(server.close)
        (session,) = service.sessions
        self.assertEqual(session.rule, "a")
        (target,) = service.targets
        self.assertEqual((target.target, target.state, target.dials), (self.target, "up", 1))
        self.assertRaises(SteerError, service.kill, session.id + 1)
        service.kill(session.id)
        self.assertEqual(service.sessions, [])

    async def test_reload(self) -> None:
        """Other rules take over; a listener that is an object is kept, and its port with it."""
        listen = TCP4ServerEndpoint(REACTOR, 0, interface="127.0.0.1")
        service = self._start(listen=listen, to=self.target)
        before = service.addresses
        result = await service.reload(listen=listen, to=self.target, filters=[Loud], dry_run=True)
        self.assertFalse(result.applied or result.failures)
        result = await service.reload(listen=listen, to=self.target, filters=[Loud])
        self.assertTrue(result.applied, result.failures)
        self.assertEqual(service.addresses, before)
        self.assertEqual(await self._converse(service), b"HELLO")
        self.assertTrue((await service.reload()).applied)
        self.assertEqual(await self._converse(service), b"HELLO")
        self.assertRaises(RulesError, service.reload, ":80 -> ")

    def test_drain_that_is_none(self) -> None:
        """A time for the drain that is no time is refused at once."""
        for drain, error in (
            (-1, ValueError),
            (math.nan, ValueError),
            (math.inf, ValueError),
            ("5", TypeError),
        ):
            self.assertRaises(error, portfwd.forward, REACTOR, "127.0.0.1:0 -> 127.0.0.1:1", drain=drain)

    async def test_drain_pause_resume(self) -> None:
        """A drained listener is closed, and one that resumes listens again."""
        service = self._start(f"a: 127.0.0.1:0 -> {self.target}")
        self.assertEqual(service.drain(), ["a"])
        self.assertEqual(service.addresses["a"], [])
        self.assertEqual(service.resume("a"), ["a"])
        self.assertEqual(service.pause(), ["a"])
        service.resume()
        self.assertEqual(await self._converse(service), b"hello")
        self.assertRaises(SteerError, service.drain, "b")

    async def test_directives(self) -> None:
        """The lines of a rules file about the whole process do what they do under twistd."""
        home = short_directory(self)
        control = home / "admin.sock"
        service = self._start(
            rules(
                f"log access=json file={home}/access.log\nadmin unix:{control}\npidfile {home}/pid\n"
                f"a: 127.0.0.1:0 -> {self.target}"
            )
        )
        await self._converse(service)
        self.assertEqual((home / "pid").read_text(), f"{os.getpid()}\n")
        self.assertTrue((home / "admin.sock").is_socket())
        result = await service.reload(
            rules(f"log access=json file={home}/other.log\nb: 127.0.0.1:0 -> {self.target}")
        )
        self.assertTrue(result.applied, result.failures)
        await self._converse(service)
        await service.stopService()
        self.assertEqual(sorted(one.name for one in home.iterdir()), ["access.log", "other.log"])
        told = [json.loads(line) for path in ("access.log", "other.log") for line in (home / path).open()]
        self.assertEqual([one["rule"] for one in told], ["a", "b"])
