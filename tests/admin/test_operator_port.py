"""Tests of listening sockets for operators."""

from __future__ import annotations

import os
import socket

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin import operator_port
from portfwd.admin.operator_port import (
    BATCH,
    CLOSING_TIME,
    OperatorClient,
    OperatorPort,
    Priority,
    least_important,
    peer_name,
)
from portfwd.values import InetAddress
from tests.service.turning import TurningTestCase


class Greeter(Protocol):
    """Sends the name of its client, and stores received bytes."""

    def __init__(self, who: str, lost: list[str]) -> None:
        self.who = who
        self._lost = lost

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.who.encode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost.append(self.who)


class OperatorPortTests(TurningTestCase):
    """Accepting, the bound on clients, eviction and closing."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.directory / "admin.sock"
        self.lost: list[str] = []
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(os.fspath(self.path))
        sock.setblocking(False)
        self.port = OperatorPort("admin", sock, self.reactor, lambda who: Greeter(who, self.lost))
        self.port.open()
        self.addCleanup(self.port.close)

    def test_in_and_out(self) -> None:
        """A client gets a protocol with its name, and is removed when it disconnects."""
        client = self.connect(self.path)
        said = self.received(client)
        self.assertEqual(said, f"uid {os.getuid()} (pid {os.getpid()})".encode())
        self.assertEqual(repr(self.port), "<OperatorPort admin clients=1>")
        client.close()
        self.turn()
        self.assertEqual(repr(self.port), "<OperatorPort admin clients=0>")
        self.assertEqual(len(self.lost), 1)

    def test_crowd(self) -> None:
        """At the bound the oldest inactive client is evicted for the next one."""
        self.patch(operator_port, "MAX_CLIENTS", 2)
        self.port.close()
        self.turn()
        self.setUp()
        clients = [self.connect(self.path) for _ in range(3)]
        self.turn()
        self.assertEqual([self.received(client)[-1:] for client in clients], [b"", b")", b")"])
        self.assertEqual(repr(self.port), "<OperatorPort admin clients=2>")

    def test_crowd_that_is_served(self) -> None:
        """Inactive clients are evicted before served ones; logged-in ones are never evicted."""
        self.patch(operator_port, "MAX_CLIENTS", 2)
        self.port.close()
        self.turn()
        self.setUp()
        clients = [self.connect(self.path) for _ in range(2)]
        self.turn()
        first, second = self.port.clients
        vars(first)["priority"] = Priority.SERVED
        clients.append(self.connect(self.path))
        self.turn()
        self.assertEqual(next(iter(self.port.clients)), first)
        self.assertNotIn(second, self.port.clients)
        for protocol in self.port.clients:
            vars(protocol)["priority"] = Priority.LOGGED_IN
        inside = set(self.port.clients)
        for _ in range(3):
            self.connect(self.path)
            self.turn()
        self.assertLessEqual(inside, set(self.port.clients))

    def test_flood(self) -> None:
        """Accepting does not wait until evicted connections are closed."""
        self.patch(operator_port, "MAX_CLIENTS", 2)
        self.port.close()
        self.turn()
        self.setUp()
        clients = [self.connect(self.path) for _ in range(20)]
        self.turn()
        self.assertEqual(self.port.listener.accepted, 20)
        self.assertEqual(len(self.port.clients), 2)
        self.assertIsNotNone(self.received(clients[-1]))

    def test_flood_is_told_once(self) -> None:
        """Many evictions do not fill the log: one line has the number since the previous line."""
        self.patch(operator_port, "MAX_CLIENTS", 2)
        self.port.close()
        self.turn()
        lines: list[str] = []

        def observe(event: dict[str, object]) -> None:
            if event.get("log_namespace") == "portfwd.admin.operator_port.OperatorPort":
                lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.setUp()
        for _ in range(20):
            self.connect(self.path)
        self.turn()
        user = f"uid {os.getuid()}"
        self.assertEqual(
            lines, [f"admin: 1 client disconnected in favour of others, the last one from {user}"]
        )
        self.patch(operator_port, "LOG_INTERVAL", 0.0)
        self.connect(self.path)
        self.turn()
        self.assertEqual(
            lines[1:], [f"admin: 18 clients disconnected in favour of others, the last one from {user}"]
        )

    def test_sessions_do_not_wait(self) -> None:
        """Few clients are accepted per iteration of the reactor."""
        clients = [self.connect(self.path) for _ in range(10)]
        self.port.listener.doRead()
        self.assertEqual(self.port.listener.accepted, BATCH)
        self.turn()
        self.assertEqual(self.port.listener.accepted, len(clients))

    def test_close(self) -> None:
        """After `close` no client is accepted; open connections get the pending bytes, then the end."""
        client = self.connect(self.path)
        self.turn()
        closed = self.port.close()
        self.assertNoResult(closed)
        self.turn()
        self.successResultOf(closed)
        self.assertIn(b"uid", self.received(client) or b"")
        self.assertEqual(self.received(client), b"")
        self.assertFalse(self.path.exists())
        self.assertEqual(self.turned.getDelayedCalls(), [])

    def test_close_in_a_talk(self) -> None:
        """A protocol with `finish` can send bytes before the end."""
        client = self.connect(self.path)
        self.turn()
        (greeter,) = self.port.clients

        def finish() -> None:
            assert greeter.transport is not None
            greeter.transport.write(b", farewell")
            greeter.transport.loseConnection()

        vars(greeter)["finish"] = finish
        closed = self.port.close()
        self.turn()
        self.successResultOf(closed)
        self.assertTrue((self.received(client) or b"").endswith(b", farewell"))

    def test_close_empty(self) -> None:
        """Without clients it is closed at once."""
        self.successResultOf(self.port.close())

    def test_close_stuck(self) -> None:
        """A client that does not read is aborted after `CLOSING_TIME`."""
        self.connect(self.path)
        self.turn()
        (greeter,) = self.port.clients
        assert greeter.transport is not None
        greeter.transport.write(bytes(10_000_000))
        closed = self.port.close()
        self.turn()
        self.assertNoResult(closed)
        self.turn(CLOSING_TIME)
        self.successResultOf(closed)
        self.assertEqual(len(self.lost), 1)


class LeastImportantTests(SynchronousTestCase):
    """The choice of the client to evict."""

    def test_source_with_most(self) -> None:
        """A client of the source with most clients is evicted, whatever the priorities are."""

        def client(name: str, priority: Priority) -> OperatorClient:
            protocol = Protocol()
            vars(protocol)["priority"] = priority
            return OperatorClient(protocol, name)

        one = client("one", Priority.INACTIVE)
        served, silent = client("many", Priority.SERVED), client("many", Priority.INACTIVE)
        inside = client("many", Priority.LOGGED_IN)
        self.assertIs(least_important([one, served, silent, inside, served]), silent)
        self.assertIs(least_important([one, inside, inside, inside]), one)
        self.assertIs(least_important([inside]), None)

    def test_newcomer(self) -> None:
        """The latest clients had no time for a request, so an older served one is evicted first."""
        clients = [OperatorClient(Protocol(), "one") for _ in range(8)]
        for client in clients[:6]:
            vars(client.protocol)["priority"] = Priority.SERVED
        self.assertIs(least_important(clients), clients[0])
        alone = [OperatorClient(Protocol(), name) for name in "abc"]
        self.assertIs(least_important(alone), alone[0])


class PeerTests(TurningTestCase):
    """The names of clients."""

    def test_names(self) -> None:
        """A client of a unix socket has its user and process, another one its address, if known."""
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        self.assertIn(f"pid {os.getpid()}", peer_name(one, None))
        with socket.socket() as inet:
            self.assertEqual(peer_name(inet, InetAddress("127.0.0.1", 5)), "127.0.0.1:5")
            self.assertEqual(peer_name(inet, None), "a local user")
