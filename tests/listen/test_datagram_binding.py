"""Tests of `portfwd.listen.datagram_binding`."""

from __future__ import annotations

import errno
import socket
from unittest import mock

from twisted.trial import unittest

from portfwd.listen.datagram_binding import bind_datagrams
from portfwd.rules import parse


class BindTests(unittest.SynchronousTestCase):
    """Sockets for the listener of a rule."""

    def bind(self, listen: str, *hosts: str, share: bool = False) -> list[socket.socket]:
        """The sockets, which are closed after the test; names resolve to `hosts`."""
        (rule,) = parse(f"rule: {listen} -> h:1/udp", "f").rules
        assert rule.listen.ports is not None
        bound = bind_datagrams(rule.listen, rule.listen.ports.first, lambda _: hosts, share=share)
        for sock in bound:
            self.addCleanup(sock.close)
        return bound

    def test_literal(self) -> None:
        """One address: one socket, of which the port cannot be had twice."""
        (sock,) = self.bind("127.0.0.1:0/udp")
        self.assertEqual(sock.getsockname()[0], "127.0.0.1")
        self.assertFalse(sock.getblocking())
        with self.assertRaises(OSError):
            self.bind(f"127.0.0.1:{sock.getsockname()[1]}/udp")

    def test_shared(self) -> None:
        """But for a moment it can, when both are told."""
        (sock,) = self.bind("127.0.0.1:0/udp", share=True)
        (other,) = self.bind(f"127.0.0.1:{sock.getsockname()[1]}/udp", share=True)
        self.assertEqual(sock.getsockname(), other.getsockname())

    def test_everywhere(self) -> None:
        """No host is both families, on one socket."""
        (sock,) = self.bind(":0/udp")
        if sock.family == socket.AF_INET6:
            self.assertEqual(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), 0)

    def test_without_ipv6(self) -> None:
        """A machine without IPv6 has IPv4 alone."""

        class WithoutIPv6(socket.socket):
            """Sockets of such a machine."""

            def __init__(self, family: int, *arguments: int) -> None:
                if family == socket.AF_INET6:
                    raise OSError(errno.EAFNOSUPPORT, "no such family")
                super().__init__(family, *arguments)

        with mock.patch("socket.socket", WithoutIPv6):
            (sock,) = self.bind(":0/udp")
            self.assertEqual(sock.family, socket.AF_INET)
            (sock,) = self.bind("name:0/udp", "::1", "127.0.0.1")
            self.assertEqual(sock.family, socket.AF_INET)
            with self.assertRaises(OSError):
                self.bind("name:0/udp", "::1")
            with self.assertRaises(OSError):
                self.bind(":0/udp v6only=on")

    def test_name(self) -> None:
        """A name is bound on each of its addresses; if one cannot be had, on none."""
        self.assertEqual(len(self.bind("name:0/udp", "127.0.0.1", "127.0.0.2")), 2)
        with self.assertRaises(OSError):
            self.bind("name:0/udp", "127.0.0.1", "192.0.2.1")

    def test_system_resolver(self) -> None:
        """Without another resolver the system's is asked."""
        (rule,) = parse("localhost:0/udp -> h:1/udp", "f").rules
        bound = bind_datagrams(rule.listen, 0)
        for sock in bound:
            self.addCleanup(sock.close)
        self.assertTrue(bound)
