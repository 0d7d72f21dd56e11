# -*- test-case-name: tests.kernel.test_datagrams -*-
"""
Datagram sockets: creation, destination addresses, answers from the address a client has used.

Each datagram costs one system call by Python's own socket methods. ``recvmmsg`` and ``sendmmsg`` through
ctypes were measured and are not used: their structures cost as much as the saved calls. The number of
datagrams that the kernel dropped is read from ``SO_MEMINFO`` on demand, not received with each datagram
(``SO_RXQ_OVFL``).

These functions do not retry and do not log; they raise `OSError`.
"""

from __future__ import annotations

import _socket
import errno
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any, Final

from portfwd.kernel.socket_addresses import literal_of
from portfwd.values import Address, InetAddress, unmapped

#: More bytes than any datagram has: 65 507 over IPv4, 65 527 over IPv6 without jumbograms.
LARGEST: Final = 65536

#: Bytes of the largest forwarded datagram of a unix socket. The default send buffer holds less
#: (``net.core.wmem_default`` is 212 992).
LARGEST_UNIX: Final = 256 * 1024

#: Bytes for one control message: a header of 16 bytes and an ``in6_pktinfo`` of 20.
CONTROL_ROOM: Final = 64

#: Bytes of the receive buffer of a listening socket without ``rcvbuf=``. Bursts of all clients wait in this
#: one queue. It holds about 1 700 datagrams of 1 200 bytes, as Linux counts.
RECEIVE_BUFFER: Final = 4 * 1024 * 1024

#: Errors of a connected socket caused by ICMP or by a missing route. Each of them loses one datagram.
UNREACHABLE: Final = frozenset(
    {
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
        errno.EACCES,
        errno.EPROTO,
        errno.ENOPROTOOPT,
    }
)

#: Errors of a unix socket whose peer has closed.
GONE: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN})

# asm-generic/socket.h and linux/sock_diag.h; Python's socket module does not have them.
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO_DROPS: Final = 8

# linux/in.h and linux/in6.h.
_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50

_INET6: Final = int(socket.AF_INET6)
_MAPPED: Final = bytes(10) + b"\xff\xff"

#: Control messages as ``sendmsg`` takes them.
Ancillary = Sequence[tuple[int, int, bytes]]


def datagram_socket(family: int) -> socket.socket:
    """A non-blocking datagram socket, without the layer of Python's ``socket`` class (see `bare_socket`)."""
    bare: Any = _socket.socket(family, int(socket.SOCK_DGRAM))
    bare.setblocking(False)
    return bare  # type: ignore[no-any-return]


def can_tell_destinations() -> bool:
    """Whether this module can read on this system to which local address a datagram was sent."""
    return sys.platform == "linux"


def tell_destinations(sock: socket.socket) -> None:
    """
    Make the kernel report the local destination address of each datagram.

    :raises OSError: the socket does not support it.
    """
    if sock.family == _INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def destination_in(ancillary: Ancillary) -> bytes:
    """
    The local address to which a datagram was sent.

    For a broadcast over IPv4 it is the address of the interface.

    :returns: 4 or 16 bytes; empty if `ancillary` does not contain it.
    """
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
            return data[:16]
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return data[4:8]
    return b""


def from_destination(packed: bytes) -> Ancillary:
    """
    The control message that sets the source address of an answer to `packed`.

    The kernel chooses the interface by its routes.

    :returns: empty if `packed` cannot be a source address.
    """
    if len(packed) == 4:
        return ((socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4s", 0, packed, bytes(4))),)
    if len(packed) != 16 or packed[0] == 0xFF or (packed[:12] == _MAPPED and packed[12] >= 224):
        # RFC 4291 section 2.7: "Multicast addresses must not be used as source addresses". 255.255.255.255
        # too.
        return ()
    return ((socket.IPPROTO_IPV6, _IPV6_PKTINFO, struct.pack("=16si", packed, 0)),)


def packed_host(host: str) -> bytes:
    """The 4 or 16 bytes of an address literal, without its zone."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.inet_pton(family, host.partition("%")[0])


def mapped(sockaddr: Any, destination: bytes) -> tuple[Any, bytes]:
    """
    Convert an IPv4 address and destination to the form of an IPv6 socket; IPv6 ones stay unchanged.

    :param sockaddr: address of the socket module.
    """
    if len(destination) != 4:
        return sockaddr, destination
    host, port = sockaddr
    return (f"::ffff:{host}", port, 0, 0), _MAPPED + destination


def loopback_of(sock: socket.socket) -> Any:
    """An address of the socket module at which a bound socket can send to itself."""
    name = sock.getsockname()
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name[0])  # noqa: S104 - recognised, not bound
    return name if loopback is None else (loopback, *name[1:])


def to_destination(packed: bytes, port: int, sender: object = None) -> Address | None:
    """
    Convert the result of `destination_in` to an address.

    :param sender: the sender's address of the socket module; a link-local destination is in the same zone.
    """
    if not packed:
        return None
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    host = unmapped(socket.inet_ntop(family, packed))
    # RFC 4291 section 2.5.6: fe80::/10.
    if isinstance(sender, tuple) and len(sender) == 4 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80:
        host = literal_of((host, port, 0, sender[3]))
    return InetAddress(host, port)


def enlarge_receive_buffer(sock: socket.socket, wanted: int) -> int:
    """
    Set the receive buffer to `wanted` bytes, above the system's limit if privileges allow it.

    :returns: the size in effect. Linux doubles the requested size and counts its own structures in it.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    size = receive_buffer(sock)
    if size < wanted and sys.platform == "linux":
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
        except PermissionError:
            return size
        size = receive_buffer(sock)
    return size


def receive_buffer(sock: socket.socket) -> int:
    """The size of the receive buffer in bytes, in the unit in which it is requested."""
    size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return size // 2 if sys.platform == "linux" else size


def count_drops(sock: socket.socket) -> int:
    """Number of datagrams dropped because the buffer of `sock` was full; 0 if the system cannot tell."""
    if sys.platform != "linux":  # pragma: no cover - the numbers mean something else elsewhere
        return 0
    try:
        told = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64)
    except OSError:
        return 0
    words = struct.unpack(f"={len(told) // 4}I", told)
    return words[_MEMINFO_DROPS] if len(words) > _MEMINFO_DROPS else 0
