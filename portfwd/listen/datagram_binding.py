# -*- test-case-name: tests.listen.test_datagram_binding -*-
"""Binds sockets for the UDP listener of a rule."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Final

from portfwd.kernel.datagrams import can_tell_destinations, tell_destinations
from portfwd.kernel.socket_addresses import inet_family, sockaddr_of
from portfwd.listen.binding import bind_hosts, resolve_listener, share_port
from portfwd.listen.unix_files import bind_unix
from portfwd.rules.model import Kind, ListenSpec
from portfwd.values import UnixAddress

#: The hosts of all addresses.
WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised, not bound


def bind_datagrams(
    spec: ListenSpec,
    port: int,
    resolve: Callable[[str], Sequence[str]] | None = None,
    *,
    share: bool = False,
) -> list[socket.socket]:
    """
    Bind `spec` on `port`.

    ``SO_REUSEADDR`` is not set: it would allow another process to take datagrams.

    :param resolve: resolves a name to literals; None for the system's resolver, which may block.
    :param share: whether to bind beside another socket of this process that has ``SO_REUSEPORT``.
    :returns: non-blocking sockets. Those bound to all addresses report the destination of each datagram.
    :raises OSError: an address cannot be bound; none is bound then.
    """
    if spec.kind is Kind.UNIX_DATAGRAM:
        return [bind_unix(UnixAddress(spec.path), spec.options, socket.SOCK_DGRAM)]
    return bind_hosts(
        spec, resolve or resolve_datagrams, lambda host, v6only: _bind(host, port, v6only, share)
    )


def ready_inherited(sock: socket.socket) -> socket.socket:
    """Make `sock`, bound by another program, report destinations of datagrams if it has all addresses."""
    if sock.family != socket.AF_UNIX and sock.getsockname()[0] in WILDCARDS and can_tell_destinations():
        tell_destinations(sock)
    return sock


def resolve_datagrams(name: str) -> Sequence[str]:
    """
    Resolve a name to listen on with the system's resolver. May block.

    :raises OSError: the name has no address.
    """
    return resolve_listener(name, socket.SOCK_DGRAM)


def _bind(host: str, port: int, v6only: bool, share: bool) -> socket.socket:
    sock = socket.socket(inet_family(host), socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
        if share:
            share_port(sock, True)
        if host in WILDCARDS and can_tell_destinations():
            tell_destinations(sock)
        sock.bind(sockaddr_of(host, port))
    except OSError:
        sock.close()
        raise
    return sock
