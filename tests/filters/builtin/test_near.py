"""Tests of what a near address is. Nothing is dialled: these decide."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.builtin.near import NEAR, forms_of, is_near

NEAR4 = [network for network in NEAR if network.version == 4]
FAR = IPv4Address("8.8.8.8")


def nat64(prefix: str, bits: int) -> Callable[[IPv4Address], IPv6Address]:
    """RFC 6052 section 2.2, with the suffix zero."""

    def translate(address: IPv4Address) -> IPv6Address:
        head = IPv6Address(prefix).packed[: bits // 8]
        rest = list(address.packed)
        packed = bytearray(head)
        while len(packed) < 16:
            packed.append(0 if len(packed) == 8 or not rest else rest.pop(0))
        return IPv6Address(bytes(packed))

    return translate


def after(prefix: str) -> Callable[[IPv4Address], IPv6Address]:
    """The address in the last 32 bits."""
    return lambda address: IPv6Address(int(IPv6Address(prefix)) | int(address))


HIDDEN: dict[str, Callable[[IPv4Address], IPv6Address]] = {
    "mapped": after("::ffff:0:0"),
    "compatible": after("::"),
    "translated": after("::ffff:0:0:0"),
    "nat64": after("64:ff9b::"),
    "local nat64 /48": nat64("64:ff9b:1::", 48),
    "local nat64 /56": nat64("64:ff9b:1:aa00::", 56),
    "local nat64 /64": nat64("64:ff9b:1:aabb::", 64),
    "local nat64 /96": nat64("64:ff9b:1:aabb:0:ccdd::", 96),
    "6to4": lambda address: IPv6Address(int(IPv6Address("2002::1")) | int(address) << 80),
    "teredo client": lambda address: IPv6Address(
        int(IPv6Address("2001::")) | int(FAR) << 64 | int(address) ^ 0xFFFFFFFF
    ),
    "teredo server": lambda address: IPv6Address(
        int(IPv6Address("2001::")) | int(address) << 64 | int(FAR) ^ 0xFFFFFFFF
    ),
    "isatap": after("2001:db8::5efe:0:0"),
    "isatap, universal": after("2001:db8::200:5efe:0:0"),
}


class NearTests(SynchronousTestCase):
    """`is_near`."""

    def test_table(self) -> None:
        """Addresses of this machine and its link, and where clouds hand out credentials."""
        near = (
            "0.0.0.0 0.1.2.3 127.0.0.1 127.255.255.254 169.254.169.254 169.254.170.2 169.254.170.23 "
            "100.100.100.200 168.63.129.16 192.0.0.192 :: ::1 fe80::1 fe80::a9fe:a9fe febf::1 fec0::1 "
            "fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:c1::a9fe:a9fe fd00:42::42 64:ff9b::7f00:1 "
            "64:ff9b::a9fe:a9fe 64:ff9b:1::7f00:1 2002:7f00:1:: 2002:a9fe:a9fe::1 ::ffff:127.0.0.1 "
            "::127.0.0.1 ::ffff:0:127.0.0.1"
        )
        far = (
            "8.8.8.8 10.0.0.1 192.168.1.1 172.16.0.1 100.100.100.201 100.64.0.1 168.63.129.17 128.0.0.1 "
            "2001:db8::1 2606:4700::1111 fd00::1 fd00:ec3::254 fc00::1 64:ff9b::808:808 2002:808:808::1 "
            "::ffff:8.8.8.8"
        )
        for texts, expected in ((near, True), (far, False)):
            for text in texts.split():
                self.assertIs(is_near(ipaddress.ip_address(text)), expected, text)

    @given(st.sampled_from(NEAR4), st.integers(0, 2**32 - 1), st.sampled_from(sorted(HIDDEN)))
    def test_hidden(self, network: ipaddress.IPv4Network, bits: int, way: str) -> None:
        """A near IPv4 address is near in whatever IPv6 address it hides."""
        address = network[bits % network.num_addresses]
        hidden = HIDDEN[way](address)
        self.assertIn(address, forms_of(hidden))
        self.assertTrue(is_near(hidden), str(hidden))

    @given(st.sampled_from(sorted(HIDDEN)))
    def test_not_hidden(self, way: str) -> None:
        """An IPv4 address that is not near does not become so."""
        if not way.startswith("local nat64 /"):  # the other forms of that prefix contain zeros: see below
            self.assertFalse(is_near(HIDDEN[way](FAR)), way)

    def test_local_nat64(self) -> None:
        """
        Nobody knows which form a site has chosen within 64:ff9b:1::/48, so an address is near if it is in
        any.

        What is there is refused more often than it must be; an ``allow`` says otherwise.
        """
        self.assertTrue(is_near(IPv6Address("64:ff9b:1::808:808")))
        self.assertFalse(is_near(IPv6Address("64:ff9b:1:808:8:808:808:808")))

    @given(st.binary(min_size=16, max_size=16))
    def test_any_address(self, packed: bytes) -> None:
        """Each address has itself among its forms, and is near if one of them is."""
        address = IPv6Address(packed)
        forms = forms_of(address)
        self.assertIn(address, forms)
        self.assertIs(is_near(address), any(form in network for form in forms for network in NEAR))
