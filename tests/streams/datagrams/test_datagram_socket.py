"""Tests of `portfwd.streams.datagrams.datagram_socket`."""

from __future__ import annotations

import errno
import socket
from typing import Any, cast

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.datagrams import datagram_socket
from portfwd.streams.datagrams.datagram_socket import BATCH, ConnectedSocket
from portfwd.values import InetAddress, UnixAddress


class FakePoller:
    """Watches nothing; the test says when something is ready."""

    def __init__(self, problem: OSError | None = None) -> None:
        self.problem = problem
        self.turns: list[object] = []
        self.now = 0.0

    def watch(self, descriptor: int, events: int, watcher: object) -> None:
        if self.problem is not None:
            raise self.problem

    def take_turn(self, turn: object) -> None:
        self.turns.append(turn)

    def forget(self, sock: socket.socket) -> None:
        sock.close()


class Taker:
    """Writes down what comes."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.details: list[str] = []

    def received(self, data: bytes) -> None:
        self.got.append(data)

    def broken(self, detail: str) -> None:
        self.details.append(detail)


class Failing:
    """A socket with these errors before everything else."""

    def __init__(self, sock: socket.socket, *codes: int) -> None:
        self._sock = sock
        self._codes = list(codes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, size: int) -> bytes:
        if self._codes:
            raise OSError(self._codes.pop(0), "trouble")
        return self._sock.recv(size)

    def send(self, data: bytes) -> int:
        if self._codes:
            code = self._codes.pop(0)
            raise BlockingIOError(code, "full") if code == errno.EAGAIN else OSError(code, "trouble")
        return self._sock.send(data)


class ConnectedSocketTests(SynchronousTestCase):
    """The upstream's side."""

    def setUp(self) -> None:
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.server.close)
        self.server.bind(("127.0.0.1", 0))
        self.server.settimeout(1)
        self.poller = FakePoller()
        self.taker = Taker()

    def connected(self, *codes: int) -> ConnectedSocket:
        """Connected to the server, with these errors first."""
        sock = datagram_socket(socket.AF_INET)
        self.addCleanup(sock.close)
        sock.connect(self.server.getsockname())
        address = InetAddress(*self.server.getsockname())
        made = ConnectedSocket(cast(Any, Failing(sock, *codes)), address, cast(Any, self.poller))
        made.carry(self.taker)
        return made

    def test_both_ways(self) -> None:
        """Whole datagrams, empty ones too."""
        made = self.connected()
        self.assertTrue(made.send(b""))
        _, client = self.server.recvfrom(10)
        for data in (b"a", b"", b"c"):
            self.server.sendto(data, client)
        made.ready(1)
        self.assertEqual(self.taker.got, [b"a", b"", b"c"])
        self.assertEqual(str(made.local), f"127.0.0.1:{client[1]}")
        self.assertIn(" open>", repr(made))

    def test_turns(self) -> None:
        """More than a part is left to another turn."""
        made = self.connected()
        made.send(b"")
        _, client = self.server.recvfrom(10)
        for _ in range(BATCH + 1):
            self.server.sendto(b"x", client)
        made.run()
        self.assertEqual((len(self.taker.got), self.poller.turns), (BATCH, [made]))
        made.run()
        self.assertEqual(len(self.taker.got), BATCH + 1)

    def test_whoever_waits_for_its_turn_waits(self) -> None:
        """Datagrams that come meanwhile are read in its turn: a server that floods has one, as others do."""
        made = self.connected()
        made.send(b"")
        _, client = self.server.recvfrom(10)
        for _ in range(BATCH + 1):
            self.server.sendto(b"x", client)
        made.ready(1)
        made.queued = True  # as the poller marks it
        made.ready(1)
        self.assertEqual(len(self.taker.got), BATCH)
        made.queued = False
        made.run()
        self.assertEqual(len(self.taker.got), BATCH + 1)

    def test_closed_by_who_takes(self) -> None:
        """What waits behind a datagram that ended the association is not read."""
        made = self.connected()
        made.send(b"")
        _, client = self.server.recvfrom(10)
        for _ in range(2):
            self.server.sendto(b"x", client)

        def received(data: bytes) -> None:
            self.taker.got.append(data)
            made.close()
            made.close()

        self.taker.received = received  # type: ignore[method-assign]
        made.carry(self.taker)
        made.run()
        self.assertEqual((self.taker.got, self.poller.turns), ([b"x"], []))
        self.assertFalse(made.send(b"late"))
        self.assertIn(" closed>", repr(made))

    def test_errors_when_reading(self) -> None:
        """An unreachable port is told; another error is one datagram's."""
        made = self.connected(errno.EMSGSIZE, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED)
        made.run()
        self.assertEqual(self.taker.details, ["Connection refused"])

    def test_errors_when_sending(self) -> None:
        """An error of an earlier datagram costs none; no room and too large is one lost."""
        made = self.connected(errno.EAGAIN, errno.EMSGSIZE, errno.ENETUNREACH)
        self.assertEqual([made.send(b"x") for _ in range(3)], [False, False, True])
        self.assertEqual(self.taker.details, [])
        made = self.connected(errno.ENETUNREACH, errno.ENETUNREACH)
        self.assertFalse(made.send(b"x"))

    def test_refused_when_sending(self) -> None:
        """Whoever is told of a refusal may keep the socket, which then sends once more."""
        refused: list[str] = []
        made = self.connected(errno.ECONNREFUSED)
        made.refused = lambda carrier, detail: refused.append(detail)
        self.assertTrue(made.send(b"x"))
        self.assertEqual((refused, self.taker.details), (["Connection refused"], []))
        made = self.connected(errno.ECONNREFUSED)
        made.refused = lambda carrier, detail: made.close()
        self.assertFalse(made.send(b"x"))

    def test_moved(self) -> None:
        """It goes on with another socket: to another peer, and from there."""
        made = self.connected()
        made.send(b"")
        _, client = self.server.recvfrom(10)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            other.settimeout(5)
            address = InetAddress(*other.getsockname())
            sock = datagram_socket(socket.AF_INET)
            sock.connect((address.host, address.port))
            made.move(sock, address)
            self.assertTrue(made.send(b"here"))
            got, sender = other.recvfrom(10)
            self.assertEqual((got, made.address, made.local), (b"here", address, InetAddress(*sender)))
            self.server.sendto(b"old", client)
            other.sendto(b"new", sender)
            made.run()
        self.assertEqual(self.taker.got, [b"new"])
        sock = datagram_socket(socket.AF_INET)
        self.poller.problem = OSError(errno.ENOSPC, "no more")
        self.assertRaises(OSError, made.move, sock, address)
        self.assertEqual(sock.fileno(), -1)
        made.close()

    def test_unix_peer_gone(self) -> None:
        """A unix socket whose peer has closed never reaches another one: the association ends."""
        made = self.connected(errno.ECONNREFUSED)
        made.address = UnixAddress("@gone")
        made.refused = lambda carrier, detail: self.fail("kept")
        self.assertFalse(made.send(b"x"))
        self.assertEqual(self.taker.details, ["Connection refused"])

    def test_not_watched(self) -> None:
        """Where the kernel does not watch it, it is closed."""
        self.poller.problem = OSError(errno.ENOSPC, "no more")
        with self.assertRaises(OSError):
            self.connected()

    def test_failed(self) -> None:
        """An exception of who takes is the end of this association."""
        self.connected().failed(Failure(ValueError("no such thing")))
        self.connected().failed(Failure(ValueError()))
        self.assertEqual(self.taker.details, ["no such thing", "ValueError"])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            ConnectedSocket(sock, None, cast(Any, self.poller)).failed(Failure(ValueError()))
