"""Tests of `portfwd.wire.proxy_header`: addresses as a header has them."""

from __future__ import annotations

import ipaddress

from twisted.trial.unittest import SynchronousTestCase

from portfwd.values import InetAddress, UnixAddress
from portfwd.wire.proxy_header import inet_pair, unix_pair

V4 = InetAddress("192.0.2.1", 1)
V6 = InetAddress("2001:db8::1", 2)
NAME = InetAddress("example.com", 3)
UNIX = UnixAddress("/run/x")


class PairTests(SynchronousTestCase):
    """Two addresses, of one family."""

    def test_same_family(self) -> None:
        """Addresses of one family stay as they are."""
        self.assertEqual(inet_pair(V4, V4), (ipaddress.ip_address(V4.host),) * 2)
        self.assertEqual(inet_pair(V6, V6), (ipaddress.ip_address(V6.host),) * 2)

    def test_mixed_families(self) -> None:
        """Of two families, the IPv4 address is written as an IPv6 one."""
        mapped, other = ipaddress.ip_address("::ffff:192.0.2.1"), ipaddress.ip_address("2001:db8::1")
        self.assertEqual(inet_pair(V4, V6), (mapped, other))
        self.assertEqual(inet_pair(V6, V4), (other, mapped))

    def test_zone(self) -> None:
        """A zone id is left out."""
        pair = inet_pair(InetAddress("fe80::1%eth0", 1), V6)
        self.assertEqual(pair, (ipaddress.ip_address("fe80::1"), ipaddress.ip_address("2001:db8::1")))

    def test_others(self) -> None:
        """What is not two IP addresses is None."""
        for source, destination in ((None, V4), (V4, None), (NAME, V4), (V4, NAME), (UNIX, V4), (UNIX, UNIX)):
            self.assertIsNone(inet_pair(source, destination))

    def test_unix(self) -> None:
        """Two unix sockets are a pair, one is not."""
        self.assertEqual(unix_pair(UNIX, UNIX), (UNIX, UNIX))
        self.assertIsNone(unix_pair(UNIX, V4))
        self.assertIsNone(unix_pair(None, UNIX))
