# -*- test-case-name: tests.kernel.test_datagrams -*-
"""
Datagram sockets: made, asked where a datagram was sent to, answering from there.

One system call a datagram, from Python's own socket methods. ``recvmmsg`` and ``sendmmsg`` through
ctypes were measured and are not used: filling and reading their structures costs what the
saved calls gave. How many datagrams the kernel dropped is asked of ``SO_MEMINFO`` when
somebody wants to know, rather than told with each datagram (``SO_RXQ_OVFL``).

It refuses to retry and to log; an `OSError` goes to the caller.
"""

from __future__ import annotations

import _socket
import errno
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any, Final

from portfwd.kernel.sockets import literal_of
from portfwd.values import Address, InetAddress, unmapped

#: More than any datagram has: 65 507 bytes over IPv4, 65 527 over IPv6 without jumbograms.
LARGEST: Final = 65536

#: Bytes of the largest datagram of a unix socket that is passed on: more than a sender has room for unless a
#: privileged one asked for it (``net.core.wmem_default`` is 212 992).
LARGEST_UNIX: Final = 256 * 1024

#: Room for the one control message that is asked for: its header of 16 bytes and an ``in6_pktinfo`` of 20.
CONTROL_ROOM: Final = 64

#: Bytes of receive buffer that a listening socket asks for unless ``rcvbuf=`` says otherwise: a burst from
#: many clients waits in this one queue. Some 1 700 datagrams of 1 200 bytes, as Linux counts.
RECEIVE_BUFFER: Final = 4 * 1024 * 1024

#: Errors that a connected socket has from ICMP, or from a route that is gone for a moment: each costs one
#: datagram.
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
    """Whether this system says which of its addresses a datagram was sent to, in the way known here."""
    return sys.platform == "linux"


def tell_destinations(sock: socket.socket) -> None:
    """
    Make the kernel say with each datagram which of our addresses it was sent to.

    :raises OSError: it cannot.
    """
    if sock.family == _INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def destination_in(ancillary: Ancillary) -> bytes:
    """
    The address of ours that a datagram was sent to, packed: 4 or 16 bytes, or none if nothing says it.

    For a broadcast over IPv4 it is the address of the interface.
    """
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
            return data[:16]
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return data[4:8]
    return b""


def from_destination(packed: bytes) -> Ancillary:
    """
    The control message that makes an answer leave from `packed`; none where an answer cannot.

    The interface is left to the kernel's routes.
    """
    if len(packed) == 4:
        return ((socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4s", 0, packed, bytes(4))),)
    if len(packed) != 16 or packed[0] == 0xFF or (packed[:12] == _MAPPED and packed[12] >= 224):
        # Nobody answers from a multicast address (RFC 4291 section 2.7), nor from 255.255.255.255.
        return ()
    return ((socket.IPPROTO_IPV6, _IPV6_PKTINFO, struct.pack("=16si", packed, 0)),)


def packed_host(host: str) -> bytes:
    """A literal, packed: 4 bytes or 16; its zone is left out."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.inet_pton(family, host.partition("%")[0])


def mapped(sockaddr: Any, destination: bytes) -> tuple[Any, bytes]:
    """
    An address and a destination of IPv4 as an IPv6 socket tells them; those of IPv6 as they are.

    :param sockaddr: the socket module's.
    """
    if len(destination) != 4:
        return sockaddr, destination
    host, port = sockaddr
    return (f"::ffff:{host}", port, 0, 0), _MAPPED + destination


def loopback_of(sock: socket.socket) -> Any:
    """Where a bound socket reaches itself, as the socket module has it."""
    name = sock.getsockname()
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name[0])  # noqa: S104 - recognised, not bound
    return name if loopback is None else (loopback, *name[1:])


def to_destination(packed: bytes, port: int, sender: object = None) -> Address | None:
    """
    The address of ours that `destination_in` gave, as ours.

    :param sender: the socket module's address of whoever sent there: a link-local address of ours is in its
        zone.
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
    Ask for a receive buffer of `wanted` bytes, beyond the system's cap where we may.

    :returns: what there is now; Linux counts its own structures too, and doubles what is asked for.
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
    """The size of the receive buffer, in bytes as they are asked for."""
    size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return size // 2 if sys.platform == "linux" else size


def count_drops(sock: socket.socket) -> int:
    """How many datagrams the kernel had no room for in the buffer of `sock`; 0 where it does not tell."""
    if sys.platform != "linux":  # pragma: no cover - the numbers mean something else elsewhere
        return 0
    try:
        told = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64)
    except OSError:
        return 0
    words = struct.unpack(f"={len(told) // 4}I", told)
    return words[_MEMINFO_DROPS] if len(words) > _MEMINFO_DROPS else 0
