# -*- test-case-name: tests.wire.test_proxy_header -*-
"""
The contents of a PROXY header, which gives the addresses of the original connection.

`proxy_v1` and `proxy_v2` read and build the bytes; `proxy` reads either version. The specification is
HAProxy's ``proxy-protocol.txt``, called PROXY below.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from attrs import frozen

from portfwd.values import Address, InetAddress, UnixAddress

#: Maximum bytes of a header. The protocol allows 65551 bytes; HAProxy has a buffer of 16 KiB, and nginx
#: accepts 4 KiB. The longest headers in practice contain a chain of client certificates as a TLV.
MAX_HEADER: Final = 16 * 1024

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@frozen
class Header:
    """
    A PROXY header.

    :ivar source: address of the client of the sender. None if the sender does not give it or connects for
        itself (``UNKNOWN``, ``LOCAL``); then the addresses of the socket are valid.
    :ivar destination: address to which that client connected; None exactly if `source` is None.
    :ivar tlvs: type and value of each TLV, in order (version 2 only); without checksum and padding.
    :ivar datagram: the sender received a datagram, not a connection (version 2 only).
    :ivar local: the sender connects for itself, for instance for a health check (version 2 only).
    """

    source: Address | None = None
    destination: Address | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()
    datagram: bool = False
    local: bool = False


def inet_pair(source: Address | None, destination: Address | None) -> tuple[IPAddress, IPAddress] | None:
    """
    Convert both addresses to the same family, as a header requires.

    If one is IPv4 and the other IPv6, the IPv4 address becomes ``::ffff:a.b.c.d`` (RFC 4291 section 2.5.5.2).
    Zone ids are removed, because they are valid on one machine only.

    :returns: None if one of them is not an IP address.
    """
    if not (isinstance(source, InetAddress) and isinstance(destination, InetAddress)):
        return None
    try:
        pair = (_literal(source.host), _literal(destination.host))
    except ValueError:
        return None
    if pair[0].version == pair[1].version:
        return pair
    return _as_ipv6(pair[0]), _as_ipv6(pair[1])


def _literal(host: str) -> IPAddress:
    return ipaddress.ip_address(host.partition("%")[0])


def _as_ipv6(address: IPAddress) -> ipaddress.IPv6Address:
    if isinstance(address, ipaddress.IPv6Address):
        return address
    return ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)


def unix_pair(source: Address | None, destination: Address | None) -> tuple[UnixAddress, UnixAddress] | None:
    """Return both addresses if both are unix sockets, else None."""
    if isinstance(source, UnixAddress) and isinstance(destination, UnixAddress):
        return source, destination
    return None
