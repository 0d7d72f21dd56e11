"""Rules that lead back to themselves, run for real: the loop ends, and everything else goes on."""

from __future__ import annotations

import os
import socket
from typing import Any, cast

from twisted.internet import reactor

from portfwd.values import CloseReason
from tests.places import short_directory
from tests.ports import free_port
from tests.service.run.test_forwarder import ForwarderCase


class LoopTests(ForwarderCase):
    """
    One client of each loop.

    Targets are names or leave the port's family open, because `check` refuses what it can see.
    """

    def ask(self, port: int) -> bytes:
        """What a client gets; a reset is nothing."""
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            try:
                client.sendall(b"x")
                return client.recv(10)
            except ConnectionError:
                return b""

    async def check(self, rules: str, port: int, count: int) -> None:
        """One client: it is reset after `count` sessions, all of which say why; nothing is left."""
        forwarder = self.started(rules)
        self.assertEqual(await self.in_thread(lambda: self.ask(port)), b"")
        await self.until(lambda: forwarder.session_count == 0)
        reasons = [line.reason for line in self.lines.closed_lines]
        self.assertEqual(reasons, [CloseReason.LOOP] * count)
        self.assertFalse(forwarder.context.loops.open)

    async def test_itself(self) -> None:
        """A rule whose target is its own listener, by name: one repetition, and the end."""
        port = free_port()
        await self.check(f"a: 127.0.0.1:{port} -> localhost:{port}", port, 2)
        self.assertIn("it has come through a", [line.detail for line in self.lines.closed_lines])

    async def test_wildcard(self) -> None:
        """The same by way of a listener on every address."""
        port = free_port()
        await self.check(f"a: :{port} -> localhost:{port}", port, 2)

    async def test_two_rules(self) -> None:
        """Two rules that point at each other."""
        one, two = free_port(), free_port()
        await self.check(
            f"a: 127.0.0.1:{one} -> localhost:{two}\nb: 127.0.0.1:{two} -> localhost:{one} relay=copy\n",
            one,
            3,
        )

    async def test_pair(self) -> None:
        """Transports of Twisted's, and a filter on the way."""
        one, two = free_port(), free_port()
        await self.check(
            f"a: 127.0.0.1:{one} -> localhost:{two} relay=pair\n"
            f"b: 127.0.0.1:{two} -> localhost:{one}\n    filter hexdump\n",
            one,
            3,
        )

    async def test_unix(self) -> None:
        """Unix sockets have no addresses of their own unless one is asked for."""
        port, path = free_port(), os.path.relpath(short_directory(self) / "s")
        await self.check(f"a: 127.0.0.1:{port} -> unix:{path}\nb: unix:{path} -> localhost:{port}\n", port, 3)

    async def test_chain(self) -> None:
        """Rules that are chained on purpose work, also with two clients, and one after the other."""
        one, two = free_port(), free_port()
        forwarder = self.started(
            f"a: 127.0.0.1:{one} -> 127.0.0.1:{two}\nb: 127.0.0.1:{two} -> {self.target}\n"
        )

        def ask() -> bytes:
            with socket.create_connection(("127.0.0.1", one), 30) as client, self.accept() as server:
                server.sendall(b"hello")
                return client.recv(10)

        for _ in range(2):
            self.assertEqual(await self.in_thread(ask), b"hello")
        await self.until(lambda: forwarder.session_count == 0)
        self.assertFalse(forwarder.context.loops.open)

    async def copied(self, rules: str, port: int, count: int) -> None:
        """
        One client whose bytes are copied into a loop, and another one behind it.

        Each makes `count` sessions that are refused besides its own, which gets its answer.
        """
        forwarder = self.started(rules)

        def ask() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as client, self.accept() as server:
                client.sendall(b"question")
                server.recv(10)
                server.sendall(b"answer")
                return client.recv(10)

        for number in (1, 2):
            self.assertEqual(await self.in_thread(ask), b"answer")
            expected = (count + 1) * number
            await self.until(lambda: len(self.lines.closed_lines) >= expected)  # noqa: B023 - awaited here
            await self.until(lambda: forwarder.session_count == 0)
            reasons = [line.reason for line in self.lines.closed_lines]
            self.assertEqual(reasons.count(CloseReason.LOOP), count * number, reasons)
            self.assertEqual(len(reasons), expected)
        self.assertFalse(forwarder.context.loops.open)

    async def test_copies(self) -> None:
        """A shadow that is the rule's own listener: its session is refused, and the client's goes on."""
        port = free_port()
        await self.copied(
            f"a: 127.0.0.1:{port} -> {self.target}\n    filter tee to=127.0.0.1:{port}\n", port, 1
        )

    async def test_copies_by_name(self) -> None:
        """The same by a name, behind a listener on every address."""
        port = free_port()
        await self.copied(f"a: :{port} -> {self.target}\n    filter tee to=localhost:{port}\n", port, 1)

    async def test_copies_through_another(self) -> None:
        """By way of another rule, over a unix socket, which ends too."""
        port, path = free_port(), os.path.relpath(short_directory(self) / "s")
        await self.copied(
            f"a: 127.0.0.1:{port} -> {self.target}\n    filter tee to=unix:{os.path.abspath(path)}\n"
            f"b: unix:{path} -> 127.0.0.1:{port}\n",
            port,
            2,
        )

    async def test_datagrams(self) -> None:
        """UDP: each datagram of the client is dropped at the first repetition, and no association stays."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        forwarder = self.started(f"a: 127.0.0.1:{port}/udp -> localhost:{port}/udp idle=1s src=127.0.0.1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", ("127.0.0.1", port))
            await self.until(lambda: len(self.lines.closed_lines) >= 2)
        await self.until(lambda: forwarder.session_count == 0)
        self.assertEqual({line.reason for line in self.lines.closed_lines}, {CloseReason.LOOP})
        self.assertEqual(len(self.lines.closed_lines), 2)
        targets = cast(Any, forwarder.rules[0].streams).targets
        await self.until(
            lambda: all(
                getattr(call.func, "__self__", None) is not targets
                for call in cast(Any, reactor).getDelayedCalls()
            )
        )

    async def test_client_chooses(self) -> None:
        """A client of a proxy may go through the proxy itself, a few times."""
        port = free_port()
        self.started(f"a: 127.0.0.1:{port} -> 127.0.0.1:9\n    filter http-connect allow=127.0.0.1/32\n")
        target = self.target

        def ask(times: int) -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as client:
                for where in [f"127.0.0.1:{port}"] * times + [target]:
                    client.sendall(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
                    try:
                        answer = client.recv(1000)
                    except ConnectionError:
                        return b"reset"
                    if not answer.startswith(b"HTTP/1.1 200"):
                        return answer
                return b"reached"

        self.assertEqual(await self.in_thread(lambda: ask(2)), b"reached")
        self.assertNotEqual(await self.in_thread(lambda: ask(12)), b"reached")
