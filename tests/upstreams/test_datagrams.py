"""Tests of `portfwd.upstreams.datagrams`."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import ConnectFailed, ConnectRefused, DialError, OutOfResources
from portfwd.rules.model import Options
from portfwd.upstreams.datagrams import DatagramAttempt
from portfwd.values import Address, InetAddress, UnixAddress


class Owner:
    """Keeps the outcome."""

    result: Any = None
    problem: DialError | None = None

    def connected(self, attempt: Any, result: Any) -> None:
        self.result = result

    def failed(self, attempt: Any, problem: DialError) -> None:
        self.problem = problem


class DatagramAttemptTests(SynchronousTestCase):
    """A connected datagram socket, or a reason."""

    def attempt(self, address: Address, **options: Any) -> Owner:
        """One attempt, started and cancelled too late."""
        owner = Owner()
        attempt = DatagramAttempt(address, Options(**options), owner)
        attempt.start()
        attempt.cancel()
        self.assertEqual(repr(attempt), f"<DatagramAttempt {address}>")
        if owner.result is not None:
            self.addCleanup(owner.result.close)
        return owner

    def test_connected(self) -> None:
        """Nobody needs to be there; source address and buffers are as the rule says."""
        sock = self.attempt(InetAddress("127.0.0.1", 9), src="127.0.0.5", rcvbuf=65536).result
        self.assertEqual(sock.getpeername(), ("127.0.0.1", 9))
        self.assertEqual(sock.getsockname()[0], "127.0.0.5")
        self.assertGreaterEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), 65536)

    def test_no_way(self) -> None:
        """Where there is no route, or the source is not ours, it fails at once."""
        self.assertIsInstance(
            self.attempt(InetAddress("127.0.0.1", 9), src="192.0.2.1").problem, OutOfResources
        )
        self.assertIsInstance(self.attempt(InetAddress("255.255.255.255", 9)).problem, ConnectFailed)

    def test_unix(self) -> None:
        """A unix socket gets a name of its own, so that it can be answered."""
        name = f"@portfwd-test-{os.getpid()}-{id(self)}"
        self.assertIsInstance(self.attempt(UnixAddress(name)).problem, ConnectRefused)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(UnixAddress(name).sockaddr)
            sock = self.attempt(UnixAddress(name)).result
            sock.send(b"question")
            _, sender = server.recvfrom(100)
            server.sendto(b"answer", sender)
            self.assertEqual(sock.recv(100), b"answer")
