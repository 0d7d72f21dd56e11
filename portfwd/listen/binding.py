# -*- test-case-name: tests.listen.test_binding -*-
"""
From a rule's LISTEN to bound sockets.

Binding is all this does: the sockets do not listen yet, so a file of which one
port is taken refuses no client on the others.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from typing import Final

from portfwd.kernel.sockets import apply_settings, inet_family, listening_settings
from portfwd.rules.model import Kind, ListenOptions, ListenSpec, Options
from portfwd.values import UnixAddress, is_literal

#: Permission bits of a unix socket's file unless ``mode=`` says otherwise:
#: a forwarder to a database should not be everybody's by accident.
DEFAULT_MODE: Final = 0o600

#: How a machine without IPv6 refuses an IPv6 address.
_NO_IPV6: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


def bind(
    spec: ListenSpec, port: int, options: Options, resolve: Callable[[str], Sequence[str]] | None = None
) -> list[socket.socket]:
    """
    Bind `spec` on `port` (ignored for unix sockets).

    A name is resolved here, at start, and bound on each of its addresses.

    :param resolve: names to literals; None for the system's resolver, which may block.
    :returns: non-blocking sockets, bound and not yet listening.
    :raises OSError: nothing is bound then.
    """
    if spec.kind is Kind.UNIX:
        return [_bind_unix(UnixAddress(spec.path), spec.options)]
    if spec.host == "":
        return [_bind_everywhere(port, spec.options, options)]
    if is_literal(spec.host):
        return [_bind_inet(spec.host, port, spec.options.v6only is not False, options)]
    return _bind_all((resolve or _resolve)(spec.host), port, options)


def _resolve(name: str) -> Sequence[str]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for _, _, _, _, sockaddr in found))


def _bind_all(hosts: Sequence[str], port: int, options: Options) -> list[socket.socket]:
    """
    Bind every one of `hosts`.

    IPv6 addresses are left out on a machine without IPv6, if there is another: hosts files have
    ``::1 localhost`` there too.
    """
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for host in hosts:
            try:
                bound.append(_bind_inet(host, port, True, options))
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


def _bind_everywhere(port: int, listen: ListenOptions, options: Options) -> socket.socket:
    """One dual-stack socket, or IPv4 alone on a machine without IPv6."""
    try:
        return _bind_inet("::", port, bool(listen.v6only), options)
    except OSError as problem:
        if listen.v6only or problem.errno not in _NO_IPV6:
            raise
        return _bind_inet("0.0.0.0", port, False, options)  # noqa: S104 - what the rule asks for


def _bind_inet(host: str, port: int, v6only: bool, options: Options) -> socket.socket:
    sock = socket.socket(inet_family(host), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        apply_settings(sock, listening_settings(options))
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(address: UnixAddress, listen: ListenOptions) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mode = DEFAULT_MODE if listen.mode is None else listen.mode
    # The file is made with its final bits: to bind first and chmod afterwards
    # leaves a moment in which anybody may connect.
    umask = os.umask(0o777 & ~mode)
    try:
        sock.setblocking(False)
        _remove_stale(address)
        sock.bind(address.sockaddr)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(umask)
    return sock


def _remove_stale(address: UnixAddress) -> None:
    """Remove the socket file of a process that is gone; a live one, or another kind of file, stays."""
    if address.path.startswith("@"):
        return
    try:
        if not stat.S_ISSOCK(os.lstat(address.path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.sockaddr)
        except ConnectionRefusedError:
            os.unlink(address.path)
        except OSError:
            return


def remove_socket_file(sock: socket.socket) -> None:
    """Remove the file of a bound unix socket, if it has one; one that is gone already is fine."""
    if sock.family == getattr(socket, "AF_UNIX", None):
        path = sock.getsockname()
        if isinstance(path, str) and path and not path.startswith("\0"):
            try:
                os.unlink(path)
            except OSError:
                return
