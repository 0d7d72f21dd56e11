# -*- test-case-name: tests.wire.test_proxy_header -*-
"""
What a PROXY header says, in either version: whose connection this is.

`proxy_v1` and `proxy_v2` read and build the bytes, `proxy` tells the versions
apart. The specification is HAProxy's ``proxy-protocol.txt``, called PROXY below.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from attrs import frozen

from portfwd.values import Address, InetAddress, UnixAddress

#: The longest header that is read. The protocol allows 65551 bytes; HAProxy's own receiver has a buffer of
#: 16 KiB, and nginx takes 4 KiB. A chain of client certificates as TLV is the longest that is seen.
MAX_HEADER: Final = 16 * 1024

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@frozen
class Header:
    """
    A PROXY header.

    :ivar source: who connected to the sender; None: the sender does not say, or speaks for
        itself (``LOCAL``, ``UNKNOWN``), and the socket's own addresses hold.
    :ivar destination: where to; None exactly when `source` is.
    :ivar tlvs: type and value of each TLV, in order (version 2 only); without checksum and padding.
    :ivar datagram: the sender got a datagram, not a connection (version 2 only).
    :ivar local: the sender itself connected, for a health check say (version 2 only).
    """

    source: Address | None = None
    destination: Address | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()
    datagram: bool = False
    local: bool = False


def inet_pair(source: Address | None, destination: Address | None) -> tuple[IPAddress, IPAddress] | None:
    """
    Bring both addresses into one family, as a header has them.

    Where one is IPv4 and the other IPv6, the IPv4 one becomes ``::ffff:a.b.c.d`` (RFC 4291
    section 2.5.5.2). Zone ids are left out: they mean nothing on another machine.

    :returns: None where one of them is no IP address.
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
    """Say that both are unix sockets, or None."""
    if isinstance(source, UnixAddress) and isinstance(destination, UnixAddress):
        return source, destination
    return None
