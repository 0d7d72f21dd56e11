"""Tests of `portfwd.kernel.socket_addresses`."""

from __future__ import annotations

import errno
import socket

from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.trial import unittest

from portfwd.kernel import socket_addresses
from portfwd.values import InetAddress, UnixAddress
from tests.kernel.socket_case import SocketCase
from tests.streams.far_ends import unix_sockets


class AddressTests(SocketCase):
    """Addresses, ours of the socket module's."""

    def test_to_address(self) -> None:
        """IPv4 inside IPv6 comes out as IPv4, abstract names with an at sign, the unknown as None."""
        for family, sockaddr, expected in (
            (socket.AF_INET, ("192.0.2.1", 80), InetAddress("192.0.2.1", 80)),
            (socket.AF_INET6, ("2001:db8::1", 80, 0, 0), InetAddress("2001:db8::1", 80)),
            (socket.AF_INET6, ("::ffff:192.0.2.1", 80, 0, 0), InetAddress("192.0.2.1", 80)),
            (socket.AF_UNIX, "/run/x.sock", UnixAddress("/run/x.sock")),
            (socket.AF_UNIX, b"\0name", UnixAddress("@name")),
            (socket.AF_UNIX, "\0name", UnixAddress("@name")),
            (socket.AF_UNIX, b"\0\xff", UnixAddress("@\udcff")),
            (socket.AF_UNIX, b"", UnixAddress("")),
            (socket.AF_UNIX, "", UnixAddress("")),
            (socket.AF_UNIX, None, None),
            (socket.AF_INET, "?", None),
            (-1, ("192.0.2.1", 80), None),
        ):
            self.assertEqual(socket_addresses.to_address(family, sockaddr), expected)

    def test_family(self) -> None:
        """A literal with a colon is IPv6."""
        self.assertEqual(socket_addresses.inet_family("::1"), socket.AF_INET6)
        self.assertEqual(socket_addresses.inet_family("127.0.0.1"), socket.AF_INET)

    def test_both_ends(self) -> None:
        """A connected socket knows its own address and the other one's; a closed one neither."""
        near, _ = self.pair()
        self.assertEqual(socket_addresses.local_address(near), InetAddress(*near.getsockname()))
        near.close()
        self.assertIsNone(socket_addresses.local_address(near))

    def test_unix_pair(self) -> None:
        """A peer without a name has an empty one."""
        near, far = unix_sockets()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        self.assertEqual(socket_addresses.local_address(near), UnixAddress(""))

    def test_twisted(self) -> None:
        """Twisted's addresses as ours; kinds without a counterpart have none."""
        for theirs, ours in (
            (IPv4Address("TCP", "192.0.2.1", 80), InetAddress("192.0.2.1", 80)),
            (IPv6Address("TCP", "::ffff:192.0.2.1", 80), InetAddress("192.0.2.1", 80)),
            (IPv6Address("TCP", "fe80::1", 80, 0, 1), InetAddress("fe80::1%lo", 80)),
            (UNIXAddress(b"/run/x"), UnixAddress("/run/x")),
            (UNIXAddress(b"\0x"), UnixAddress("@x")),
            (UNIXAddress(None), UnixAddress("")),
            (HostnameAddress(b"x", 1), None),
            (None, None),
        ):
            self.assertEqual(socket_addresses.from_twisted_address(theirs), ours)


class ZoneTests(unittest.SynchronousTestCase):
    """IPv6 zones, which Python's socket module drops from addresses of two elements."""

    def test_to_the_kernel(self) -> None:
        """A zone becomes the number of its interface; an address without one stays two elements."""
        self.assertEqual(
            socket_addresses.sockaddr_of("fe80::1%lo", 80), ("fe80::1", 80, 0, socket.if_nametoindex("lo"))
        )
        self.assertEqual(socket_addresses.sockaddr_of("fe80::1%7", 80), ("fe80::1", 80, 0, 7))
        self.assertEqual(socket_addresses.sockaddr_of("fe80::1", 80), ("fe80::1", 80))
        self.assertEqual(socket_addresses.sockaddr_of("192.0.2.1", 80), ("192.0.2.1", 80))

    def test_no_such_interface(self) -> None:
        """An interface that is not there is named."""
        problem = self.assertRaises(OSError, socket_addresses.sockaddr_of, "fe80::1%nosuch0", 80)
        self.assertEqual((problem.errno, problem.strerror), (errno.ENODEV, "there is no interface 'nosuch0'"))

    def test_from_the_kernel(self) -> None:
        """The name of the interface is shown, or its number where it is gone."""
        lo = socket.if_nametoindex("lo")
        shown = socket_addresses.to_address(socket.AF_INET6, ("fe80::1", 80, 0, lo))
        self.assertEqual(shown, InetAddress("fe80::1%lo", 80))
        self.assertEqual(
            socket_addresses.to_address(socket.AF_INET6, ("::1", 80, 0, 0)), InetAddress("::1", 80)
        )
        self.assertEqual(socket_addresses.literal_of(("fe80::1", 80, 0, 2**31 - 1)), f"fe80::1%{2**31 - 1}")
        self.assertEqual(socket_addresses.literal_of(("fe80::1%lo", 80, 0, lo)), "fe80::1%lo")
        self.assertEqual(socket_addresses.literal_of(("192.0.2.1", 80)), "192.0.2.1")
