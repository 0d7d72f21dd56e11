# -*- test-case-name: tests.kernel.test_socket_addresses -*-
"""
Addresses of the socket module and of Twisted, and those of portfwd: families, zones of IPv6, unix sockets.

Hosts are literals; nothing here resolves a name.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.address import UNIXAddress as TwistedUnixAddress
from twisted.internet.interfaces import IAddress

from portfwd.values import Address, InetAddress, UnixAddress, unmapped

# Plain numbers: the enums of the socket module cost more than the system calls that use them.
_INET4: Final = int(socket.AF_INET)
_INET6: Final = int(socket.AF_INET6)
_INET: Final = (_INET4, _INET6)

#: Cache of host texts, because many clients come from few hosts. `sys.intern` of Python 3.12 never frees a
#: text.
_known: Final = lru_cache(maxsize=1024)(str)


def inet_family(host: str) -> int:
    """The address family of a literal."""
    return _INET6 if ":" in host else _INET4


def scope_of(zone: str) -> int:
    """
    The number of the interface in the zone of an IPv6 literal, as in ``fe80::1%eth0`` (RFC 4007 section 11).

    :raises OSError: the interface does not exist.
    """
    if zone.isdecimal():
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except OSError:
        raise OSError(errno.ENODEV, f"there is no interface {zone!r}") from None


def sockaddr_of(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """
    Convert a literal and a port to the argument of ``bind``, ``connect`` and ``sendto``.

    An IPv6 address has four elements, because Python ignores a zone in an address of two.

    :raises OSError: the interface of the zone does not exist.
    """
    if "%" not in host:
        return host, port
    literal, _, zone = host.partition("%")
    return literal, port, 0, scope_of(zone)


def is_own_address(host: str) -> bool:
    """Whether the literal `host` is an address of this machine. Only such an address can be bound."""
    try:
        with socket.socket(inet_family(host), socket.SOCK_DGRAM) as probe:
            probe.bind(sockaddr_of(host, 0))
    except OSError:
        return False
    return True


def literal_of(sockaddr: Sequence[Any]) -> str:
    """The literal of an address of the socket module, with its zone if it has one."""
    host = str(sockaddr[0])
    if len(sockaddr) < 4 or not sockaddr[3] or "%" in host:
        return host
    try:
        return f"{host}%{socket.if_indextoname(sockaddr[3])}"
    except OSError:  # the interface is gone
        return f"{host}%{sockaddr[3]}"


def to_address(family: int, sockaddr: object) -> Address | None:
    """
    Convert an address of the socket module. IPv4-mapped addresses become IPv4 ones.

    :returns: None for an unknown family.
    """
    if isinstance(sockaddr, tuple) and family in _INET:
        host = _known(sockaddr[0])
        if ":" in host:
            host = literal_of(sockaddr) if len(sockaddr) > 3 and sockaddr[3] else unmapped(host)
        return InetAddress(host, sockaddr[1])
    if family == getattr(socket, "AF_UNIX", None):
        if isinstance(sockaddr, bytes):  # Linux' abstract names
            return UnixAddress("@" + sockaddr[1:].decode("utf-8", "surrogateescape") if sockaddr else "")
        if isinstance(sockaddr, str):
            return UnixAddress("@" + sockaddr[1:] if sockaddr.startswith("\0") else sockaddr)
    return None


def local_address(sock: socket.socket) -> Address | None:
    """The address to which `sock` is bound; None if it has none any more."""
    try:
        return to_address(sock.family, sock.getsockname())
    except OSError:
        return None


def fixed_address(listening: socket.socket) -> Address | None:
    """The local address of all clients of `listening`; None if it is bound to all addresses."""
    address = local_address(listening)
    wildcard = isinstance(address, InetAddress) and address.host in ("0.0.0.0", "::")  # noqa: S104 - recognised
    return None if wildcard else address


def from_twisted_address(address: IAddress | None) -> Address | None:
    """Convert a Twisted address; None for kinds that have no equivalent."""
    if isinstance(address, IPv6Address) and address.scopeID:
        return InetAddress(literal_of((address.host, 0, 0, address.scopeID)), address.port)
    if isinstance(address, (IPv4Address, IPv6Address)):
        return InetAddress(unmapped(address.host), address.port)
    if isinstance(address, TwistedUnixAddress):
        name = os.fsdecode(address.name or b"")
        return UnixAddress("@" + name[1:] if name.startswith("\0") else name)
    return None
