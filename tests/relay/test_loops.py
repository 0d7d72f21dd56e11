"""Tests of what is known of connections of this process to its own listeners."""

from __future__ import annotations

import socket
from typing import Any

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.loops import HOST_HOLDS, MAX_HOSTS, MAX_PASSES, Loops, PassedSession, is_loop
from portfwd.values import Address, CloseReason, InetAddress, UnixAddress


@define(eq=False)
class Traveller:
    """A session."""

    passages: Any = field(factory=tuple)

    def kill(self, reason: CloseReason) -> None:
        """Not asked for here."""


def inet(host: str, port: int) -> InetAddress:
    """An address."""
    return InetAddress(host, port)


class MayReachTests(SynchronousTestCase):
    """Which addresses may be listeners of this process."""

    def setUp(self) -> None:
        self.now = 0.0
        self.own = {"192.0.2.1", "2001:db8::1"}
        self.asked: list[str] = []
        self.loops = Loops(lambda: self.now, self.is_own)

    def is_own(self, host: str) -> bool:
        """Whether this machine has an address."""
        self.asked.append(host)
        return host in self.own

    def check(self, *listening: Address, reached: tuple[Address, ...], others: tuple[Address, ...]) -> None:
        """Listen, and ask for all."""
        for address in listening:
            self.loops.listens(address)
        for address in reached:
            self.assertTrue(self.loops.may_reach(address), address)
        for address in others:
            self.assertFalse(self.loops.may_reach(address), address)

    def test_one_address(self) -> None:
        """A listener on one address is reached there, in every notation, and by the unspecified address."""
        self.check(
            inet("127.0.0.1", 80),
            inet("2001:db8::1", 81),
            reached=(
                inet("127.0.0.1", 80),
                inet("::ffff:127.0.0.1", 80),
                inet("0.0.0.0", 80),
                inet("2001:0db8:0::1", 81),
            ),
            others=(inet("127.0.0.1", 81), inet("127.0.0.2", 80), inet("192.0.2.1", 80), inet("name", 80)),
        )
        self.assertEqual(self.asked, [])

    def test_every_address(self) -> None:
        """A listener on every address is reached at each address of this machine, and at no other."""
        self.check(
            inet("::", 80),
            reached=(inet("127.0.0.5", 80), inet("::1", 80), inet("192.0.2.1", 80), inet("2001:db8::1", 80)),
            others=(inet("192.0.2.9", 80), inet("192.0.2.1", 81)),
        )

    def test_remembered(self) -> None:
        """Whose an address is, is asked for once in a while; the memory is bounded."""
        self.loops.listens(inet("0.0.0.0", 80))
        for _ in range(3):
            self.loops.may_reach(inet("192.0.2.9", 80))
        self.assertEqual(self.asked, ["192.0.2.9"])
        self.now = HOST_HOLDS
        self.own.add("192.0.2.9")
        self.assertTrue(self.loops.may_reach(inet("192.0.2.9", 80)))
        for index in range(2 * MAX_HOSTS):
            self.loops.may_reach(inet(f"10.0.{index // 256}.{index % 256}", 80))
        self.assertLessEqual(len(self.loops.hosts), MAX_HOSTS)

    def test_unix(self) -> None:
        """A unix socket is its path, however it is written and whatever links lead there."""
        real = {"/run/./a": "/run/a", "/var/run/a": "/run/a"}
        self.loops = Loops(lambda: self.now, self.is_own, lambda path: real.get(path, path))
        self.check(
            UnixAddress("/var/run/a"),
            UnixAddress("@a"),
            reached=(
                UnixAddress("/run/a"),
                UnixAddress("/run/./a"),
                UnixAddress("/var/run/a"),
                UnixAddress("@a"),
            ),
            others=(UnixAddress("/run/b"), UnixAddress("@b")),
        )

    def test_system(self) -> None:
        """The kernel is asked whose an address is."""
        loops = Loops(lambda: 0.0)
        loops.listens(inet("0.0.0.0", 80))
        self.assertTrue(loops.may_reach(inet("127.0.0.1", 80)))
        self.assertFalse(loops.may_reach(inet("192.0.2.1", 80)))


class PassageTests(SynchronousTestCase):
    """Which sessions a connection has come through."""

    def setUp(self) -> None:
        self.loops = Loops(lambda: 0.0)

    def test_chain(self) -> None:
        """A client that a session's connection is has come through it, and what that came through."""
        first, second = Traveller(), Traveller()
        self.assertFalse(self.loops.open)
        one = PassedSession(first, "a", False)
        self.loops.connected(one, inet("127.0.0.1", 90), inet("127.0.0.1", 40000))
        self.assertTrue(self.loops.open)
        came = self.loops.passages_of(inet("127.0.0.1", 40000), inet("127.0.0.1", 90))
        self.assertEqual(came, (one,))
        second.passages = came
        two = PassedSession(second, "b", False)
        self.loops.connected(two, inet("0.0.0.0", 91), inet("127.0.0.1", 40001))
        self.assertEqual(self.loops.passages_of(inet("127.0.0.1", 40001), inet("127.0.0.1", 91)), (one, two))

    def test_others(self) -> None:
        """Clients from elsewhere, at another listener, or without an address have come through nothing."""
        self.loops.connected(
            PassedSession(Traveller(), "a", False), inet("127.0.0.1", 90), inet("127.0.0.1", 40000)
        )
        for client, local in (
            (inet("127.0.0.1", 40001), inet("127.0.0.1", 90)),
            (inet("127.0.0.1", 40000), inet("127.0.0.1", 91)),
            (None, inet("127.0.0.1", 90)),
            (inet("127.0.0.1", 40000), None),
        ):
            self.assertEqual(self.loops.passages_of(client, local), ())

    def test_left(self) -> None:
        """A session that is over is forgotten, but not one that has its port now."""
        first, second = Traveller(), Traveller()
        address, local = inet("127.0.0.1", 90), inet("127.0.0.1", 40000)
        self.loops.connected(PassedSession(first, "a", False), address, local)
        self.loops.connected(PassedSession(second, "a", False), address, local)
        self.loops.left(first)
        self.loops.left(first)
        self.assertEqual(len(self.loops.passages_of(local, address)), 1)
        self.loops.left(second)
        self.assertEqual(repr(self.loops), "<Loops 0 connections to ourselves>")
        self.assertEqual(self.loops.keys, {})

    def test_socket(self) -> None:
        """A socket's own address is known as soon as it connects; one that has none is not remembered."""
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
            client.connect(server.getsockname())
            address = inet(*server.getsockname())
            self.loops.begun(PassedSession(Traveller(), "a", False), address, client)
            self.assertEqual(len(self.loops.passages_of(inet(*client.getsockname()), address)), 1)
        self.loops.begun(PassedSession(Traveller(), "a", False), address, client)

    def test_is_loop(self) -> None:
        """The same rule again is a loop; if a client chose where it went, only after a number of times."""
        plain, chosen = PassedSession(Traveller(), "a", False), PassedSession(Traveller(), "a", True)
        copy = PassedSession(Traveller(), "a", False, is_copy=True)
        self.assertTrue(is_loop([chosen, copy], "a"))
        self.assertFalse(is_loop([chosen, copy], "b"))
        self.assertFalse(is_loop((), "a"))
        self.assertFalse(is_loop((plain,), "b"))
        self.assertTrue(is_loop((plain,), "a"))
        self.assertFalse(is_loop((chosen,) * (MAX_PASSES - 1), "a"))
        self.assertTrue(is_loop((chosen,) * MAX_PASSES, "a"))
