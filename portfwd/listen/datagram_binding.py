# -*- test-case-name: tests.listen.test_datagram_binding -*-
"""From a rule's UDP listener to bound sockets."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Final

from portfwd.kernel.datagrams import can_tell_destinations, tell_destinations
from portfwd.kernel.sockets import inet_family
from portfwd.listen.binding import bind_unix
from portfwd.rules.model import Kind, ListenSpec
from portfwd.values import UnixAddress, is_literal

#: Bound to one of these, a socket gets what is sent to any address.
WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised, not bound

#: How a machine without IPv6 refuses an IPv6 address.
_NO_IPV6: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


def bind_datagrams(
    spec: ListenSpec,
    port: int,
    resolve: Callable[[str], Sequence[str]] | None = None,
    *,
    share: bool = False,
) -> list[socket.socket]:
    """
    Bind `spec` on `port`.

    ``SO_REUSEADDR`` is not set: on a datagram socket it lets another process take its datagrams.

    :param resolve: names to literals; None for the system's resolver, which may block.
    :param share: bind beside another socket of ours that has ``SO_REUSEPORT``, too.
    :returns: non-blocking sockets; those bound to every address say where each datagram was sent to.
    :raises OSError: nothing is bound then.
    """
    if spec.kind is Kind.UNIX_DATAGRAM:
        return [bind_unix(UnixAddress(spec.path), spec.options, socket.SOCK_DGRAM)]
    if spec.host == "":
        return [_bind_everywhere(spec, port, share)]
    if is_literal(spec.host):
        return [_bind(spec.host, port, spec.options.v6only is not False, share)]
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for host in (resolve or resolve_datagrams)(spec.host):
            try:
                bound.append(_bind(host, port, True, share))
            except OSError as problem:
                # Hosts files have '::1 localhost' on machines without IPv6, too.
                if ":" not in host or problem.errno not in _NO_IPV6:
                    raise
                missing = problem
        if missing is not None and not bound:
            raise missing
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound


def ready_inherited(sock: socket.socket) -> socket.socket:
    """Have `sock`, which somebody else bound, say where each datagram was sent to if it has every address."""
    if sock.family != socket.AF_UNIX and sock.getsockname()[0] in WILDCARDS and can_tell_destinations():
        tell_destinations(sock)
    return sock


def resolve_datagrams(name: str) -> Sequence[str]:
    """
    The addresses of a name that is to be listened on, from the system's resolver; it may block.

    :raises OSError: it has none.
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys(str(sockaddr[0]) for _, _, _, _, sockaddr in found))


def _bind_everywhere(spec: ListenSpec, port: int, share: bool) -> socket.socket:
    v6only = bool(spec.options.v6only)
    try:
        return _bind("::", port, v6only, share)
    except OSError as problem:
        if v6only or problem.errno not in _NO_IPV6:
            raise
        return _bind("0.0.0.0", port, False, share)  # noqa: S104 - what the rule asks for


def _bind(host: str, port: int, v6only: bool, share: bool) -> socket.socket:
    sock = socket.socket(inet_family(host), socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if host in WILDCARDS and can_tell_destinations():
            tell_destinations(sock)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
