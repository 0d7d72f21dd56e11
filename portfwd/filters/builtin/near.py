# -*- test-case-name: tests.filters.builtin.test_near -*-
"""
Near addresses, which clients must not reach through a proxy unless a rule allows it.

These are addresses of this machine and its link, where services often trust every client, and the addresses
at which clouds provide credentials. IPv6 addresses can embed IPv4 ones in several ways: translators (NAT64),
tunnels (6to4, Teredo, ISATAP) and old notations. Such an address is near if the embedded one is.

Pure: it decides about texts and neither dials nor resolves.
"""

from __future__ import annotations

import ipaddress
from typing import Final

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NEAR: Final[tuple[Network, ...]] = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # RFC 1122 section 3.2.1.3: this host; Linux takes 0.0.0.0 for the loopback
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local; most clouds' metadata: 169.254.169.254, 169.254.170.2
            "100.100.100.200/32",  # Alibaba Cloud's metadata
            "168.63.129.16/32",  # Azure's WireServer
            "192.0.0.192/32",  # Oracle Cloud's metadata, before it moved to 169.254.169.254
            "::/127",  # unspecified, and loopback
            "fe80::/10",  # link-local
            "fec0::/10",  # RFC 3879: site-local, deprecated, and still routed by some
            "fd00:ec2::/32",  # Amazon: metadata is fd00:ec2::254, credentials of pods fd00:ec2::23
            "fd20:ce::/32",  # Google Cloud: fd20:ce::254
            "fd00:c1::/32",  # Oracle Cloud: fd00:c1::a9fe:a9fe
            "fd00:42::42/128",  # Scaleway
        ),
    )
)

#: An IPv4 address in the last 32 bits.
_LAST: Final = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "::/96",  # RFC 4291 section 2.5.5.1: IPv4-compatible
            "::ffff:0:0/96",  # RFC 4291 section 2.5.5.2: IPv4-mapped
            "::ffff:0:0:0/96",  # RFC 2765 section 2.1: IPv4-translated
            "64:ff9b::/96",  # RFC 6052 section 2.1: NAT64
        ),
    )
)

#: RFC 8215: NAT64 of a site, which chooses one of the forms of RFC 6052 section 2.2 within it.
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")

#: The bytes of the IPv4 address after prefixes of 48, 56, 64 and 96 bits, by RFC 6052 section 2.2. Byte 8 is
#: always zero and is skipped.
_NAT64_BYTES: Final = ((6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15))

_SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")  # RFC 3056
_TEREDO: Final = ipaddress.IPv6Network("2001::/32")  # RFC 4380 section 4

#: RFC 5214 section 6.1: the interface identifiers of ISATAP, with and without the universal bit.
_ISATAP: Final = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")


def forms_of(address: IPAddress) -> tuple[IPAddress, ...]:
    """`address`, and all IPv4 addresses that it may embed."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    packed = address.packed
    hidden: list[bytes] = []
    if any(address in network for network in _LAST):
        hidden.append(packed[12:])
    elif address in _LOCAL_NAT64:
        hidden += [bytes(packed[index] for index in indices) for indices in _NAT64_BYTES]
    elif address in _SIX_TO_FOUR:
        hidden.append(packed[2:6])
    elif address in _TEREDO:
        # The address of the server, and that of the client with inverted bits.
        hidden += [packed[4:8], bytes(byte ^ 0xFF for byte in packed[12:])]
    if packed[8:12] in _ISATAP:
        hidden.append(packed[12:])
    return (address, *dict.fromkeys(map(ipaddress.IPv4Address, hidden)))


def is_near(address: IPAddress) -> bool:
    """Whether `address`, or an IPv4 address embedded in it, is near."""
    return any(form in network for form in forms_of(address) for network in NEAR)
