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

from attrs import frozen

from portfwd.kernel.sockets import apply_settings, inet_family, listening_settings, literal_of, sockaddr_of
from portfwd.rules.model import Kind, ListenOptions, ListenSpec, Options
from portfwd.values import UnixAddress, is_literal

#: Permission bits of a unix socket's file unless ``mode=`` says otherwise:
#: a forwarder to a database should not be everybody's by accident.
DEFAULT_MODE: Final = 0o600

#: How a machine without IPv6 refuses an IPv6 address.
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

    :param resolve: names to literals; None for the system's resolver, which may block.
    :param share: bind beside a listening socket of ours for which `share_port` was called, too.
    :returns: non-blocking sockets, bound and not yet listening.
    :raises OSError: nothing is bound then.
    """
    if spec.kind is Kind.UNIX:
        return [bind_unix(UnixAddress(spec.path), spec.options)]
    return bind_hosts(
        spec,
        resolve or resolve_listener,
        lambda host, v6only: _bind_inet(host, port, v6only, options, share),
    )


def share_port(sock: socket.socket, shared: bool) -> None:
    """
    Let another socket of this process be bound to the port of `sock`, or let nobody any more.

    Linux looks at ``SO_REUSEPORT`` of both when the second one is bound, and asks for the same user
    (``inet_csk_bind_conflict``); left on, any process of that user could take clients away.

    :raises OSError: there is no such option here.
    """
    option = getattr(socket, "SO_REUSEPORT", None)
    if option is None:  # pragma: no cover - Windows
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    sock.setsockopt(socket.SOL_SOCKET, option, int(shared))


def resolve_listener(name: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> Sequence[str]:
    """
    The addresses of a name that is to be listened on, from the system's resolver; it may block.

    :raises OSError: it has none.
    """
    found = socket.getaddrinfo(name, None, type=kind)
    return list(dict.fromkeys(literal_of(sockaddr) for _, _, _, _, sockaddr in found))


def bind_hosts(
    listen: ListenSpec,
    resolve: Callable[[str], Sequence[str]],
    bind_one: Callable[[str, bool], socket.socket],
) -> list[socket.socket]:
    """
    Bind what an address with a port says: every address, one, or all that a name has.

    What needs IPv6 is left out on a machine without it, if there is something else: hosts files have
    ``::1 localhost`` there too.

    :param resolve: a name to literals.
    :param bind_one: binds a literal; whether it is to be IPv6 only.
    :raises OSError: nothing is bound then.
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
    """One dual-stack socket, or IPv4 alone on a machine without IPv6."""
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


def bind_unix(
    address: UnixAddress, listen: ListenOptions, kind: socket.SocketKind = socket.SOCK_STREAM
) -> socket.socket:
    """
    Bind a unix socket; the file of one that is gone makes room.

    :raises OSError: it cannot be bound.
    """
    sock = socket.socket(socket.AF_UNIX, kind)
    mode = DEFAULT_MODE if listen.mode is None else listen.mode
    # The file is made with its final bits: to bind first and chmod afterwards
    # leaves a moment in which anybody may connect.
    umask = os.umask(0o777 & ~mode)
    try:
        sock.setblocking(False)
        _remove_stale(address, kind)
        sock.bind(address.sockaddr)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(umask)
    return sock


def _remove_stale(address: UnixAddress, kind: socket.SocketKind) -> None:
    """Remove the socket file of a process that is gone; a live one, or another kind of file, stays."""
    if address.path.startswith("@"):
        return
    try:
        if not stat.S_ISSOCK(os.lstat(address.path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.sockaddr)
        except ConnectionRefusedError:
            os.unlink(address.path)
        except OSError:
            return


@frozen
class SocketFile:
    """
    The file of a unix socket that was bound here, known by more than its name.

    Whoever lets two forwarders take turns on one path removes the file first: the one that ends later
    must not remove the other's. Numbers of files are used again; the time at which it was made is not.
    """

    path: str
    made: tuple[int, int, int]

    def remove(self) -> None:
        """Remove it, if it is still there and this one; others' stay."""
        try:
            if _made(self.path) == self.made:
                os.unlink(self.path)
        except OSError:
            return


def socket_file(sock: socket.socket) -> SocketFile | None:
    """The file of a socket that has just been bound; None where it has none."""
    if sock.family != getattr(socket, "AF_UNIX", None):
        return None
    path = sock.getsockname()
    if not isinstance(path, str) or not path or path.startswith("\0"):
        return None
    try:
        return SocketFile(path, _made(path))
    except OSError:
        return None


def _made(path: str) -> tuple[int, int, int]:
    """Which file a path is; nothing that is done with a socket's file, `chmod` included, changes this."""
    found = os.lstat(path)
    return found.st_dev, found.st_ino, found.st_mtime_ns
