# -*- test-case-name: tests.testing.test_peers -*-
"""Convert addresses to and from those of the socket module, and set buffer sizes."""

from __future__ import annotations

import socket

from portfwd.values import Address, InetAddress, UnixAddress


def family_of(address: Address) -> socket.AddressFamily:
    """Return the socket family of `address`, whose host is an IP address."""
    if isinstance(address, UnixAddress):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def sockaddr_of(address: Address) -> tuple[str, int] | str:
    """Convert `address` to the argument of ``bind`` and ``connect``."""
    return address.sockaddr if isinstance(address, UnixAddress) else (address.host, address.port)


def address_of(sockaddr: object) -> Address | None:
    """Convert the result of ``getsockname``; None for a unix socket without a name."""
    if isinstance(sockaddr, tuple):
        return InetAddress(str(sockaddr[0]), int(sockaddr[1]))
    if isinstance(sockaddr, bytes):
        return UnixAddress("@" + sockaddr[1:].decode()) if sockaddr else None
    return UnixAddress(str(sockaddr)) if sockaddr else None


def set_buffers(connection: socket.socket, receive: int | None, send: int | None) -> None:
    """Set the given buffer sizes, bytes; the kernel doubles and bounds them."""
    if receive is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    if send is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send)
