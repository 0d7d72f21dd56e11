"""Tests of `portfwd.service.build.datagrams`; what its listeners do is tested with them."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import TestCase

from portfwd.errors import StartError
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.listen.datagram_port import DatagramPort
from portfwd.rules import parse
from portfwd.service.build.build import Binder, live_rules
from portfwd.service.build.datagrams import adopt_listeners, bind_listeners
from tests.service.contexts import Lines, a_context


class WithoutEpollTests(TestCase):
    """A platform that has nothing to watch sockets with."""

    def live(self, listen: str) -> Any:
        """The live rule of a listener, and its context."""
        from twisted.internet import reactor

        context = a_context(reactor)
        (planned,) = live_rules(parse(f"d: {listen}/udp -> 127.0.0.1:1/udp\n", "f"), context, Lines())
        return planned, context

    async def test_ports(self) -> None:
        """Twisted's ports, one for each address of a name."""
        planned, context = self.live("name:0")
        ports = bind_listeners(
            planned.live, 0, context, DescriptorBudget(0, 0), lambda _: ["127.0.0.1", "127.0.0.2"]
        )
        self.assertEqual(len(ports), 2)
        for port in ports:
            self.assertIsInstance(port, DatagramPort)
            port.stop()

    async def test_all_or_none(self) -> None:
        """Where one address cannot be had, none is."""
        planned, context = self.live("name:0")
        with self.assertRaises(OSError):
            bind_listeners(
                planned.live, 0, context, DescriptorBudget(0, 0), lambda _: ["127.0.0.1", "192.0.2.1"]
            )

    async def test_unix(self) -> None:
        """Unix sockets for datagrams are not to be had."""
        from twisted.internet import reactor

        context = a_context(reactor)
        (planned,) = live_rules(parse("d: unix-dgram:@x -> 127.0.0.1:1/udp\n", "f"), context, Lines())
        refusal = self.assertRaises(StartError, Binder(context, DescriptorBudget(0, 0)).bind_all, [planned])
        self.assertIn("epoll", str(refusal))

    async def test_inherited(self) -> None:
        """Nor are those that systemd holds."""
        from twisted.internet import reactor

        context = a_context(reactor)
        (planned,) = live_rules(parse("d: systemd-dgram:x -> 127.0.0.1:1/udp\n", "f"), context, Lines())
        refusal = self.assertRaises(
            ValueError, adopt_listeners, planned.live, [3], context, DescriptorBudget(0, 0)
        )
        self.assertIn("epoll", str(refusal))

    async def test_taken(self) -> None:
        """A port that is taken is told with its place."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            planned, context = self.live(f"127.0.0.1:{sock.getsockname()[1]}")
            refusal = self.assertRaises(
                StartError, Binder(context, DescriptorBudget(0, 0)).bind_all, [planned]
            )
        self.assertIn("in use", str(refusal))

    async def test_system_resolver(self) -> None:
        """Without another resolver the system's is asked."""
        planned, context = self.live("localhost:0")
        for port in bind_listeners(planned.live, 0, context, DescriptorBudget(0, 0)):
            port.stop()
