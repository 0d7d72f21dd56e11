"""`portfwd.forward`: the forwarder in somebody else's program."""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.application.service import IService, MultiService
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

import portfwd
from portfwd.errors import RulesError, StartError
from portfwd.rules.model import Rule, Ruleset
from portfwd.service.run.forwarder import Forwarder
from portfwd.values import CloseReason
from tests.service.contexts import Lines, a_used_port, rules

REACTOR = cast(Any, reactor)


class ForwardTests(TestCase):
    """Text, a rule or a ruleset in; a service out."""

    def test_kinds(self) -> None:
        """Whatever is handed in, the same service comes out, and nothing is bound yet."""
        ruleset = rules("a: 127.0.0.1:0 -> 127.0.0.1:9")
        for rule in ("a: 127.0.0.1:0 -> 127.0.0.1:9", ruleset.rules[0], ruleset):
            self.assertIsInstance(rule, (str, Rule, Ruleset))
            service = portfwd.forward(REACTOR, rule)
            verifyObject(IService, service)
            assert isinstance(service, Forwarder)
            self.assertEqual([one.name for one in service.rules], ["a"])
            self.assertEqual(service.addresses, {})

    def test_wrong_rule(self) -> None:
        """A rule that cannot be read is refused with its place."""
        problem = self.assertRaises(RulesError, portfwd.forward, REACTOR, ":80 -> ")
        self.assertTrue(problem.problems)

    def test_not_yet(self) -> None:
        """What this version cannot do is refused, also in a value."""
        self.assertRaises(RulesError, portfwd.forward, REACTOR, ":0/udp -> 127.0.0.1:9/udp on-limit=wait")
        (rule,) = rules(":0/udp -> 127.0.0.1:9/udp on-limit=wait").rules
        self.assertRaises(RulesError, portfwd.forward, REACTOR, rule)

    def test_target_that_is_not_good(self) -> None:
        """A target that cannot be made ready is a StartError, at once."""
        self.assertRaises(StartError, portfwd.forward, REACTOR, ":0 -> tls:h.example:443 ca=/nonexistent.pem")

    def test_used_port(self) -> None:
        """A port that is taken is a StartError of startService; the program goes on."""
        service = portfwd.forward(REACTOR, f"127.0.0.1:{a_used_port(self)} -> 127.0.0.1:9")
        self.assertRaises(StartError, service.startService)
        self.assertFalse(service.running)

    def test_used_port_under_a_parent(self) -> None:
        """The same for a running parent that it is given to."""
        parent = MultiService()
        parent.startService()
        service = portfwd.forward(REACTOR, f"127.0.0.1:{a_used_port(self)} -> 127.0.0.1:9")
        self.assertRaises(StartError, service.setServiceParent, parent)

    async def test_traffic(self) -> None:
        """Bytes go through, the log is told, and stopService fires when all is closed."""
        upstream = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(upstream.close)
        lines = Lines()
        service = portfwd.forward(
            REACTOR, f"a: 127.0.0.1:0 -> 127.0.0.1:{upstream.getsockname()[1]}", log=lines, drain=1.0
        )
        assert isinstance(service, Forwarder)
        service.startService()
        port = int(service.addresses["a"][0].rpartition(":")[2])

        def converse() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 5.0) as client:
                server, _ = upstream.accept()
                with server:
                    client.sendall(b"hello")
                    client.shutdown(socket.SHUT_WR)
                    server.settimeout(5.0)
                    received = b""
                    while piece := server.recv(10):
                        received += piece
                    return received

        received = await deferToThread(converse)
        await service.stopService()
        self.assertEqual(received, b"hello")
        self.assertEqual([line.reason for line in lines.closed_lines], [CloseReason.NORMAL])
