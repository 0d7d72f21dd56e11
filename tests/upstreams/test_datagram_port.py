"""Tests of `portfwd.upstreams.datagram_port`, as far as those of its listener do not go there."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import ConnectFailed, DialError, OutOfResources
from portfwd.rules.model import Options
from portfwd.upstreams.datagram_port import ConnectedPort, PortAttempt
from portfwd.values import Address, InetAddress, UnixAddress


class Port:
    """A port that the test decides about."""

    def __init__(self, problem: OSError | None = None) -> None:
        self.problem = problem
        self.stopped = 0

    def connect(self, host: str, port: int) -> None:
        if self.problem is not None:
            raise self.problem

    def stopListening(self) -> None:
        self.stopped += 1

    def write(self, data: bytes) -> None:
        raise MessageLengthError


class Reactor:
    """Gives that port, or none."""

    def __init__(self, port: Port | None) -> None:
        self.port = port

    def listenUDP(self, number: int, protocol: Any, interface: str, maxPacketSize: int) -> Any:
        if self.port is None:
            raise CannotListenError(interface, number, OSError(99, "not ours"))
        return self.port


class Owner:
    """Keeps the outcome."""

    problem: DialError | None = None

    def connected(self, attempt: Any, result: Any) -> None:
        raise AssertionError(result)

    def failed(self, attempt: Any, problem: DialError) -> None:
        self.problem = problem


class PortAttemptTests(SynchronousTestCase):
    """What can go wrong."""

    def attempt(self, port: Port | None, address: Address) -> DialError | None:
        """What is wrong with it."""
        owner = Owner()
        attempt = PortAttempt(Reactor(port), address, Options(), owner, cast(Any, None))
        attempt.start()
        attempt.cancel()
        self.assertEqual(repr(attempt), f"<PortAttempt {address}>")
        return owner.problem

    def test_not_bound(self) -> None:
        """No port, or a source address that is not ours."""
        self.assertIsInstance(self.attempt(None, InetAddress("127.0.0.1", 9)), OutOfResources)

    def test_no_way(self) -> None:
        """A port that cannot be connected is closed again."""
        port = Port(OSError(101, "no way"))
        self.assertIsInstance(self.attempt(port, InetAddress("::1", 9)), ConnectFailed)
        self.assertEqual(port.stopped, 1)

    def test_unix(self) -> None:
        """Twisted's ports know no datagrams to unix sockets that are connected."""
        self.assertIsInstance(self.attempt(None, UnixAddress("/run/x")), ConnectFailed)


class ConnectedPortTests(SynchronousTestCase):
    """A carrier that is over."""

    def test_nobody_takes(self) -> None:
        """What comes before somebody takes it, or after it is closed, is dropped."""
        port, carrier = Port(), ConnectedPort(InetAddress("127.0.0.1", 9))
        carrier.transport = cast(Any, port)
        carrier.startProtocol()
        carrier.datagramReceived(b"x", None)
        carrier.connectionRefused()
        self.assertFalse(carrier.send(b"x"))
        self.assertIn(" open>", repr(carrier))
        carrier.close()
        carrier.close()
        self.assertEqual(port.stopped, 1)
        self.assertIn(" closed>", repr(carrier))
