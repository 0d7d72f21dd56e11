"""Tests of `portfwd.filters.builtin.destinations`."""

from __future__ import annotations

import ipaddress

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import InetAddress, UnixAddress
from portfwd.filters.builtin.destinations import Destinations, Permission
from portfwd.filters.options import Network


def nets(*texts: str) -> tuple[Network, ...]:
    """Read networks."""
    return tuple(map(ipaddress.ip_network, texts))


class DestinationsTests(SynchronousTestCase):
    """Which addresses may be dialled."""

    def check(self, destinations: Destinations, good: str, bad: str) -> None:
        """Ask for every address in the two texts."""
        for texts, expected in ((good, True), (bad, False)):
            for host in texts.split():
                self.assertIs(destinations.permits(InetAddress(host, 80)), expected, host)

    def test_default(self) -> None:
        """Where nothing is said, loopback and link-local addresses are refused."""
        self.check(
            Destinations(),
            "192.0.2.1 10.0.0.1 2001:db8::1 128.0.0.1",
            "127.0.0.1 127.1.2.3 0.0.0.0 169.254.169.254 ::1 :: fe80::1 fe80::1%eth0 ::ffff:127.0.0.1 "
            "::ffff:7f00:1",
        )

    def test_allow(self) -> None:
        """With an allow, everything else is refused, and the loopback may be meant."""
        self.check(
            Destinations(allow=nets("127.0.0.0/8", "2001:db8::/32")),
            "127.0.0.1 2001:db8::1 ::ffff:127.0.0.1",
            "192.0.2.1 ::1",
        )

    def test_deny(self) -> None:
        """A deny refuses what it names besides what is refused anyway, and beats an allow."""
        self.check(
            Destinations(deny=nets("10.0.0.0/8")), "192.0.2.1", "10.1.2.3 127.0.0.1 0.0.0.0 ::1 fe80::1"
        )
        self.check(
            Destinations(allow=nets("10.0.0.0/8"), deny=nets("10.0.0.1")), "10.0.0.2", "10.0.0.1 192.0.2.1"
        )

    def test_hidden(self) -> None:
        """An IPv4 network that is denied is denied in every IPv6 form; an allow means what it says."""
        self.check(
            Destinations(deny=nets("10.0.0.0/8")),
            "64:ff9b::192.0.2.1 2002:c000:201::1",
            "64:ff9b::10.0.0.1 2002:a00:1::1 ::10.0.0.1 64:ff9b:1::127.0.0.1 fd00:ec2::254 168.63.129.16",
        )
        self.check(
            Destinations(allow=nets("10.0.0.0/8", "64:ff9b::/96"), deny=nets("10.0.0.1")),
            "10.0.0.2 64:ff9b::10.0.0.2",
            "64:ff9b::10.0.0.1 2002:a00:2::1",
        )

    def test_unspecified(self) -> None:
        """The unspecified address is the loopback's other name: it is never permitted."""
        self.check(
            Destinations(allow=nets("0.0.0.0/0", "::/0"), deny=nets("127.0.0.0/8", "::1")),
            "192.0.2.1 2001:db8::1",
            "0.0.0.0 :: ::ffff:0.0.0.0 127.0.0.1 ::1",
        )

    def test_others(self) -> None:
        """What is no IP address is never permitted."""
        everything = Destinations(allow=nets("0.0.0.0/0", "::/0"))
        self.assertFalse(everything.permits(UnixAddress("/run/x")))
        self.assertFalse(everything.permits(InetAddress("localhost", 80)))


class PermissionTests(SynchronousTestCase):
    """What is remembered of one dial."""

    def test_refused(self) -> None:
        """It was refused if something was asked and nothing permitted."""
        permission = Permission(Destinations())
        self.assertFalse(permission.refused)
        self.assertFalse(permission.permits(InetAddress("127.0.0.1", 1)))
        self.assertTrue(permission.refused)
        self.assertTrue(permission.permits(InetAddress("192.0.2.1", 1)))
        self.assertFalse(permission.refused)
        self.assertFalse(permission.permits(InetAddress("::1", 1)))
        self.assertFalse(permission.refused)
