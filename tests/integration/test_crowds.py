"""Many clients at once: nothing leaks, nobody is turned away for want of descriptors."""

from __future__ import annotations

import selectors
import socket
import time

from tests.integration.case import ForwarderCase, deep
from tests.integration.echo import EchoServer
from tests.integration.forwarder import Forwarder


class CrowdCases:
    """Every relay must pass these."""

    def echo(
        self: ForwarderCase, descriptors: int | None = None, options: str = ""
    ) -> tuple[EchoServer, Forwarder]:
        """An echo server behind a forwarder."""
        server = EchoServer()
        self.addCleanup(server.close)
        forwarder = self.forwarder(
            f"echo: 127.0.0.1:0 -> 127.0.0.1:{server.port} {self.options(options)}\n", descriptors=descriptors
        )
        return server, forwarder

    def test_connect_and_close(self: ForwarderCase) -> None:
        """Thousands that connect and close at once leave no descriptor and one line each."""
        count = 10_000 if deep() else 2_000
        _, forwarder = self.echo()  # type: ignore[attr-defined]
        descriptors = forwarder.open_descriptors()
        port = forwarder.port("echo")
        for _ in range(count):
            socket.create_connection(("127.0.0.1", port), 20).close()
        lines = forwarder.access_lines(count, seconds=120)
        self.assertEqual({line.reason for line in lines}, {"--"})
        self.assert_settled(forwarder, descriptors)

    def test_connect_and_reset(self: ForwarderCase) -> None:
        """The same with clients that reset at once."""
        count = 5_000 if deep() else 500
        _, forwarder = self.echo()  # type: ignore[attr-defined]
        descriptors = forwarder.open_descriptors()
        port = forwarder.port("echo")
        reached = 0
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port), 20)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            reached += 1
        # A connection that was reset in the accept queue is accepted by Linux all the same.
        lines = forwarder.access_lines(reached, seconds=120)
        self.assertLessEqual({line.reason for line in lines}, {"CC", "CD"})
        self.assert_settled(forwarder, descriptors)

    def test_few_descriptors(self: ForwarderCase) -> None:
        """100 clients and ``ulimit -n 64``: some wait, nobody is closed, all are served; nothing spins."""
        server, forwarder = self.echo(descriptors=64)  # type: ignore[attr-defined]
        descriptors = forwarder.open_descriptors()
        port = forwarder.port("echo")
        poll = selectors.DefaultSelector()
        self.addCleanup(poll.close)
        for number in range(100):
            client = socket.create_connection(("127.0.0.1", port), 20)
            self.addCleanup(client.close)
            client.sendall(b"client %02d" % number)
            poll.register(client, selectors.EVENT_READ, b"client %02d" % number)
        served: list[tuple[socket.socket, bytes]] = []
        # Those for whom there is room answer; the others wait. See whether waiting costs anything.
        quiet = time.monotonic() + 1.0
        while time.monotonic() < quiet:
            served += self.answers(poll, 0.2)  # type: ignore[attr-defined]
        self.assertGreater(len(served), 5)
        self.assertLess(len(served), 40)
        before, start = forwarder.cpu_seconds(), time.monotonic()
        self.assertEqual(self.answers(poll, 2.0), [])  # type: ignore[attr-defined]
        used = (forwarder.cpu_seconds() - before) / (time.monotonic() - start)
        self.assertLess(used, 0.1, "share of a CPU while clients wait")
        # Each one that leaves makes room for another.
        until = time.monotonic() + 30
        total = len(served)
        while total < 100 and time.monotonic() < until:
            for client, _ in served:
                client.close()
            served = self.answers(poll, 1.0)  # type: ignore[attr-defined]
            total += len(served)
        self.assertEqual(total, 100, forwarder.log)
        for client, _ in served:
            client.close()
        lines = forwarder.access_lines(100)
        self.assertEqual({line.reason for line in lines}, {"--"})
        self.assertEqual({line.to_client for line in lines}, {9})
        self.assertEqual(server.accepted, 100)
        self.assert_settled(forwarder, descriptors)

    def answers(
        self: ForwarderCase, poll: selectors.BaseSelector, seconds: float
    ) -> list[tuple[socket.socket, bytes]]:
        """Those who have their own bytes back, as soon as there are any; fails if one is closed on."""
        found = []
        for key, _ in poll.select(seconds):
            client, expected = key.fileobj, key.data
            got = b""
            while len(got) < len(expected):
                data = client.recv(64)  # type: ignore[union-attr]
                self.assertNotEqual(data, b"", f"{expected!r} was closed on")
                got += data
            self.assertEqual(got, expected)
            poll.unregister(client)
            found.append((client, expected))
        return found

    def test_many_sessions_at_once(self: ForwarderCase) -> None:
        """300 sessions at once, each with its own bytes: nobody gets another's."""
        _, forwarder = self.echo()  # type: ignore[attr-defined]
        descriptors = forwarder.open_descriptors()
        port = forwarder.port("echo")
        clients = []
        for number in range(300):
            client = socket.create_connection(("127.0.0.1", port), 20)
            self.addCleanup(client.close)
            clients.append((client, b"%05d" % number * 2000))
        for client, text in clients:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
        for client, text in clients:
            client.settimeout(20)
            got = b""
            while data := client.recv(65536):
                got += data
            self.assertEqual(got, text)
        lines = forwarder.access_lines(300)
        self.assertEqual(
            {(line.reason, line.to_upstream, line.to_client) for line in lines}, {("--", 10000, 10000)}
        )
        self.assert_settled(forwarder, descriptors)


class AutoCrowdTests(CrowdCases, ForwarderCase):
    """``relay=auto``."""

    relay_option = "auto"


class PairCrowdTests(CrowdCases, ForwarderCase):
    """``relay=pair``."""

    relay_option = "pair"
