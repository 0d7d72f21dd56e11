"""
Loops that lead through two forwarders, which cannot know of each other.

The default share of descriptors bounds a loop of connections, ``max-assocs`` one of datagrams, which
``rate-per-source`` ends. Other rules of both go on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.integration.case import ForwarderCase
from tests.integration.control_case import read_exactly
from tests.integration.echo import EchoServer
from tests.integration.forwarder import TIMEOUT, Forwarder, wait_until
from tests.ports import free_port

#: ``ulimit -n`` of each forwarder.
DESCRIPTORS = 200


class LoopTests(ForwarderCase):
    """Two forwarders whose rules point at each other."""

    def pair(self, rule: Callable[[int, int], str]) -> tuple[list[Forwarder], list[int]]:
        """Both of them, each with `rule` of its own port and the other's, and a rule for others."""
        echo = EchoServer()
        self.addCleanup(echo.close)
        ports = [free_port(), free_port()]
        forwarders = [
            self.forwarder(
                f"other: 127.0.0.1:0 -> 127.0.0.1:{echo.port}\n{rule(own, target)}\n", descriptors=DESCRIPTORS
            )
            for own, target in (ports, reversed(ports))
        ]
        return forwarders, ports

    def assert_others_served(self, *forwarders: Forwarder) -> None:
        """Clients of the other rules are served, many of them at once."""
        for forwarder in forwarders:
            clients = [
                socket.create_connection(("127.0.0.1", forwarder.port("other")), TIMEOUT) for _ in range(10)
            ]
            for client in clients:
                client.sendall(b"hello")
            for client in clients:
                self.assertEqual(read_exactly(client, 5), b"hello")
                client.close()

    def test_connections(self) -> None:
        """The loop takes its share and costs nothing then; others are served, also when its client left."""
        forwarders, ports = self.pair(lambda own, target: f"loop: 127.0.0.1:{own} -> 127.0.0.1:{target}")
        with socket.create_connection(("127.0.0.1", ports[0]), TIMEOUT) as client:
            client.sendall(b"round and round")
            forwarders[0].wait_for_line("loop: no descriptors for more sessions")
            self.assert_others_served(*forwarders)
            for forwarder in forwarders:
                self.assertLess(forwarder.open_descriptors(), DESCRIPTORS - 30)
            used = [forwarder.cpu_seconds() for forwarder in forwarders]
            self.assert_others_served(*forwarders)
            for forwarder, seconds in zip(forwarders, used, strict=True):
                self.assertLess(forwarder.cpu_seconds() - seconds, 0.5)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        # It may go round when its client has left, but not with more than before.
        self.assert_others_served(*forwarders)
        for forwarder in forwarders:
            self.assertLess(forwarder.open_descriptors(), DESCRIPTORS - 30)

    def test_datagrams(self) -> None:
        """A datagram that comes round again and again leaves other rules their turns."""
        forwarders, ports = self.pair(
            lambda own, target: f"loop: udp:127.0.0.1:{own} -> udp:127.0.0.1:{target} max-assocs=50"
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"round and round", ("127.0.0.1", ports[0]))
            wait_until(
                lambda: (
                    '"rule": "loop"' in forwarders[0].access_text() or "LC" in forwarders[0].access_text()
                ),
                TIMEOUT,
                lambda: forwarders[0].log,
            )
            self.assert_others_served(*forwarders)
            for forwarder in forwarders:
                self.assertLess(forwarder.open_descriptors(), DESCRIPTORS - 30)

    def test_datagrams_with_a_rate(self) -> None:
        """A rate of each source ends such a loop: the datagram that is refused was the only one."""
        forwarders, ports = self.pair(
            lambda own, target: f"loop: udp:127.0.0.1:{own} -> udp:127.0.0.1:{target} rate-per-source=20/s"
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"round and round", ("127.0.0.1", ports[0]))
            wait_until(
                lambda: any("rate-per-source" in forwarder.access_text() for forwarder in forwarders),
                TIMEOUT,
                lambda: forwarders[0].log,
            )
        for forwarder in forwarders:
            self.assertLess(forwarder.open_descriptors(), 100)
