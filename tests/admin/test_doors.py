"""Tests of the sockets that operators come in by."""

from __future__ import annotations

import os
import socket

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from portfwd.admin import doors
from portfwd.admin.doors import FAREWELL, Door, peer_name
from portfwd.values import InetAddress
from tests.service.turning import TurningTestCase


class Greeter(Protocol):
    """Says who comes, and keeps what is said to it."""

    def __init__(self, who: str, lost: list[str]) -> None:
        self.who = who
        self._lost = lost

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.who.encode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost.append(self.who)


class DoorTests(TurningTestCase):
    """Who comes in, how many, and how they leave."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.directory / "admin.sock"
        self.lost: list[str] = []
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(os.fspath(self.path))
        sock.setblocking(False)
        self.door = Door("admin", sock, self.reactor, lambda who: Greeter(who, self.lost))
        self.door.open()
        self.addCleanup(self.door.close)

    def test_in_and_out(self) -> None:
        """A client gets a protocol that knows its name, and is forgotten when it leaves."""
        client = self.connect(self.path)
        said = self.received(client)
        self.assertEqual(said, f"uid {os.getuid()} (pid {os.getpid()})".encode())
        self.assertEqual(repr(self.door), "<Door admin clients=1>")
        client.close()
        self.turn()
        self.assertEqual(repr(self.door), "<Door admin clients=0>")
        self.assertEqual(len(self.lost), 1)

    def test_crowd(self) -> None:
        """Who comes when all places are taken waits in the backlog, and comes in when somebody leaves."""
        self.patch(doors, "MAX_CLIENTS", 2)
        self.door.close()
        self.turn()
        self.setUp()
        clients = [self.connect(self.path) for _ in range(3)]
        self.assertEqual([self.received(client) is not None for client in clients], [True, True, False])
        clients[0].close()
        self.turn()
        self.assertIsNotNone(self.received(clients[2]))

    def test_close(self) -> None:
        """Nobody comes in any more; who is inside gets what was said, then the end."""
        client = self.connect(self.path)
        self.turn()
        closed = self.door.close()
        self.assertNoResult(closed)
        self.turn()
        self.successResultOf(closed)
        self.assertIn(b"uid", self.received(client) or b"")
        self.assertEqual(self.received(client), b"")
        self.assertFalse(self.path.exists())
        self.assertEqual(self.turned.getDelayedCalls(), [])

    def test_close_in_a_talk(self) -> None:
        """Who has something to say yet says it before the end."""
        client = self.connect(self.path)
        self.turn()
        (greeter,) = self.door._inside

        def finish() -> None:
            assert greeter.transport is not None
            greeter.transport.write(b", farewell")
            greeter.transport.loseConnection()

        vars(greeter)["finish"] = finish
        closed = self.door.close()
        self.turn()
        self.successResultOf(closed)
        self.assertTrue((self.received(client) or b"").endswith(b", farewell"))

    def test_close_empty(self) -> None:
        """Without anybody inside it is closed at once."""
        self.successResultOf(self.door.close())

    def test_close_stuck(self) -> None:
        """Who does not read is shown out when the time is over."""
        self.connect(self.path)
        self.turn()
        (greeter,) = self.door._inside
        assert greeter.transport is not None
        greeter.transport.write(bytes(10_000_000))
        closed = self.door.close()
        self.turn()
        self.assertNoResult(closed)
        self.turn(FAREWELL)
        self.successResultOf(closed)
        self.assertEqual(len(self.lost), 1)


class PeerTests(TurningTestCase):
    """What a client is called."""

    def test_names(self) -> None:
        """Of unix sockets the kernel knows; of others the address is shown; else nobody knows."""
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        self.assertIn(f"pid {os.getpid()}", peer_name(one, None))
        with socket.socket() as inet:
            self.assertEqual(peer_name(inet, InetAddress("127.0.0.1", 5)), "127.0.0.1:5")
            self.assertEqual(peer_name(inet, None), "a local user")
