"""Tests of `portfwd.kernel.datagrams`, on sockets of the loopback."""

from __future__ import annotations

import socket
from unittest import mock

from twisted.trial import unittest

from portfwd.kernel import datagrams
from portfwd.kernel.datagrams import (
    CONTROL_ROOM,
    count_drops,
    datagram_socket,
    destination_in,
    enlarge_receive_buffer,
    from_destination,
    receive_buffer,
    tell_destinations,
    to_destination,
)
from portfwd.values import InetAddress


class Case(unittest.SynchronousTestCase):
    """Sockets that are closed after the test."""

    def bound(self, host: str) -> socket.socket:
        """A socket that waits at most a second."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        try:
            sock.bind((host, 0))
        except OSError as problem:
            raise unittest.SkipTest(f"needs {host}: {problem}") from problem
        sock.settimeout(1)
        return sock


class DestinationTests(Case):
    """Where a datagram was sent to, and answering from there."""

    def answered_from(self, wildcard: str, host: str) -> tuple[str, str]:
        """Where a datagram to `host` is said to have been sent, and where the answer comes from."""
        sock, client = self.bound(wildcard), self.bound(host)
        tell_destinations(sock)
        port = sock.getsockname()[1]
        client.sendto(b"question", (host, port))
        _, ancillary, _, sender = sock.recvmsg(100, CONTROL_ROOM)
        packed = destination_in(ancillary)
        sock.sendmsg([b"answer"], from_destination(packed), 0, sender)
        _, answerer = client.recvfrom(100)
        return str(to_destination(packed, port)).rpartition(":")[0], answerer[0]

    def test_ipv4(self) -> None:
        """A socket on every address answers from the one that was asked."""
        for host in ("127.0.0.1", "127.0.0.9"):
            self.assertEqual(self.answered_from("0.0.0.0", host), (host, host))

    def test_ipv6(self) -> None:
        """So over IPv6."""
        self.assertEqual(self.answered_from("::", "::1"), ("[::1]", "::1"))

    def test_dual_stack(self) -> None:
        """And for an IPv4 client of a dual-stack socket."""
        self.assertEqual(self.answered_from("::", "127.0.0.9"), ("127.0.0.9", "127.0.0.9"))

    def test_none(self) -> None:
        """Without a control message nothing is known, and the kernel chooses."""
        self.assertEqual(destination_in([(0, 99, b"x")]), b"")
        self.assertIsNone(to_destination(b"", 53))
        self.assertEqual(from_destination(b""), ())

    def test_nobody_answers_from_a_group(self) -> None:
        """Multicast addresses and the broadcast are left to the kernel."""
        for host in ("ff02::1", "::ffff:224.0.0.1", "::ffff:255.255.255.255"):
            self.assertEqual(from_destination(socket.inet_pton(socket.AF_INET6, host)), ())

    def test_mapped(self) -> None:
        """A mapped address is shown as IPv4."""
        packed = socket.inet_pton(socket.AF_INET6, "::ffff:10.0.0.1")
        self.assertEqual(to_destination(packed, 5), InetAddress("10.0.0.1", 5))


class SocketTests(Case):
    """What is asked of the kernel."""

    def test_not_blocking(self) -> None:
        """A new socket does not block."""
        sock = datagram_socket(socket.AF_INET)
        self.addCleanup(sock.close)
        with self.assertRaises(BlockingIOError):
            sock.recv(1)

    def test_buffer(self) -> None:
        """What was asked for is there, where the system gives it."""
        sock = self.bound("127.0.0.1")
        self.assertEqual(enlarge_receive_buffer(sock, 100_000), receive_buffer(sock))
        self.assertGreaterEqual(receive_buffer(sock), 100_000)

    def test_buffer_beyond_the_cap(self) -> None:
        """Where we may not go beyond the system's cap, what there is is told."""

        class Capped:
            """A socket of an ordinary user."""

            def setsockopt(self, level: int, name: int, value: int) -> None:
                if name != socket.SO_RCVBUF:
                    raise PermissionError

            def getsockopt(self, level: int, name: int) -> int:
                return 2 * 212_992

        self.assertEqual(enlarge_receive_buffer(Capped(), 1 << 22), 212_992)  # type: ignore[arg-type]

    def test_drops(self) -> None:
        """Datagrams that did not fit are counted."""
        sock, client = self.bound("127.0.0.1"), self.bound("127.0.0.1")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.assertEqual(count_drops(sock), 0)
        for _ in range(50):
            client.sendto(bytes(1000), sock.getsockname())
        self.assertGreater(count_drops(sock), 0)

    def test_drops_unknown(self) -> None:
        """A kernel that does not tell has told of none."""

        class Mute:
            """A socket of an old kernel."""

            def getsockopt(self, *arguments: int) -> bytes:
                raise OSError

        self.assertEqual(count_drops(Mute()), 0)  # type: ignore[arg-type]

    def test_platform(self) -> None:
        """Only Linux' way of telling is known."""
        with mock.patch.object(datagrams.sys, "platform", "freebsd14"):
            self.assertFalse(datagrams.can_tell_destinations())
            sock = self.bound("127.0.0.1")
            size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self.assertEqual(receive_buffer(sock), size)
