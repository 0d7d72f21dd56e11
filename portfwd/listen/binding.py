# -*- test-case-name: tests.listen.test_binding -*-
"""
Binds sockets for the LISTEN of a rule.

The sockets do not listen yet. If one port of a file is in use, no client of the other ports has been refused.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from portfwd.kernel.socket_addresses import inet_family, literal_of, sockaddr_of
from portfwd.kernel.socket_options import apply_settings, listening_settings
from portfwd.listen.unix_files import bind_unix
from portfwd.rules.model import UNIX_KINDS, ListenSpec, Options
from portfwd.values import UnixAddress, is_literal

#: Errors of IPv6 addresses on a machine without IPv6.
_NO_IPV6: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


def bind(
    spec: ListenSpec,
    port: int,
    options: Options,
    resolve: Callable[[str], Sequence[str]] | None = None,
    *,
    share: bool = False,
) -> list[socket.socket]:
    """
    Bind `spec` on `port` (ignored for unix sockets).

    A name is resolved here, at start, and bound on each of its addresses.

    :param resolve: resolves a name to literals; None for the system's resolver, which may block.
    :param share: whether to bind beside another socket of this process for which `share_port` was called.
    :returns: non-blocking sockets, bound but not listening.
    :raises OSError: an address cannot be bound; none is bound then.
    """
    if spec.kind in UNIX_KINDS:
        return [bind_unix(UnixAddress(spec.path), spec.options)]
    return bind_hosts(
        spec,
        resolve or resolve_listener,
        lambda host, v6only: _bind_inet(host, port, v6only, options, share),
    )


def bind_first(spec: ListenSpec) -> socket.socket:
    """
    Bind `spec` for operators, whom one socket serves: of a name with several addresses the first one counts.

    :raises OSError: it cannot be bound.
    """
    sock, *others = bind(spec, 0 if spec.ports is None else spec.ports.first, Options())
    for other in others:
        other.close()
    return sock


def share_port(sock: socket.socket, shared: bool) -> None:
    """
    Allow or forbid binding another socket to the port of `sock`.

    Linux checks ``SO_REUSEPORT`` and the user of both sockets when the second one is bound
    (``inet_csk_bind_conflict``). If the option stayed set, other processes of the user could take clients.

    :raises OSError: the system does not have this option.
    """
    option = getattr(socket, "SO_REUSEPORT", None)
    if option is None:  # pragma: no cover - Windows
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    sock.setsockopt(socket.SOL_SOCKET, option, int(shared))


def resolve_listener(name: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> Sequence[str]:
    """
    Resolve a name to listen on with the system's resolver. May block.

    :raises OSError: the name has no address.
    """
    found = socket.getaddrinfo(name, None, type=kind)
    return list(dict.fromkeys(literal_of(sockaddr) for _, _, _, _, sockaddr in found))


def bind_hosts(
    listen: ListenSpec,
    resolve: Callable[[str], Sequence[str]],
    bind_one: Callable[[str, bool], socket.socket],
) -> list[socket.socket]:
    """
    Bind a port on all addresses, on one, or on all addresses of a name.

    On a machine without IPv6, IPv6 addresses are left out if there are others, because hosts files contain
    ``::1 localhost`` there too.

    :param resolve: resolves a name to literals.
    :param bind_one: binds a literal, given whether it is for IPv6 only.
    :raises OSError: an address cannot be bound; none is bound then.
    """
    if listen.host == "":
        return [_bind_everywhere(bool(listen.options.v6only), bind_one)]
    if is_literal(listen.host):
        return [bind_one(listen.host, listen.options.v6only is not False)]
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for host in resolve(listen.host):
            try:
                bound.append(bind_one(host, True))
            except OSError as problem:
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


def _bind_everywhere(v6only: bool, bind_one: Callable[[str, bool], socket.socket]) -> socket.socket:
    """Bind one dual-stack socket, or an IPv4 socket on a machine without IPv6."""
    try:
        return bind_one("::", v6only)
    except OSError as problem:
        if v6only or problem.errno not in _NO_IPV6:
            raise
        return bind_one("0.0.0.0", False)  # noqa: S104 - what the rule asks for


def _bind_inet(host: str, port: int, v6only: bool, options: Options, share: bool) -> socket.socket:
    sock = socket.socket(inet_family(host), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        apply_settings(sock, listening_settings(options))
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
        if share:
            share_port(sock, True)
        sock.bind(sockaddr_of(host, port))
    except OSError:
        sock.close()
        raise
    return sock
