# -*- test-case-name: tests.kernel.test_socket_options -*-
"""
Options of TCP sockets, as rules set them: before a connect, on a listening socket, and on one in use.

They do not retry and do not log; they raise `OSError`.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Final, Protocol

from portfwd.kernel.socket_addresses import sockaddr_of
from portfwd.kernel.sockets import bare_socket

_INET: Final = (int(socket.AF_INET), int(socket.AF_INET6))

# linux/in.h; in the socket module from Python 3.12 on.
_IP_BIND_ADDRESS_NO_PORT: Final = 24
# tcp(7), TCP_QUICKACK: off for a connect whose first bytes follow at once. They carry the acknowledgement
# that ends the handshake, which saves one packet. The kernel resets the option after the handshake.
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
#: Linux copies the options of a listening socket to accepted ones (`sk_clone_lock`), so they are set only
#: once.
CLIENTS_INHERIT: Final = sys.platform == "linux"

#: Options of a socket: level, name and value for ``setsockopt``.
Settings = tuple[tuple[int, int, int], ...]

#: Urgent bytes stay in the stream. Without this option they are lost, because portfwd does not read them
#: apart.
KEEP_URGENT: Final = (int(socket.SOL_SOCKET), int(socket.SO_OOBINLINE), 1)

#: Additional options of a socket that sends as soon as it is connected. They save one packet.
WILL_SEND: Final[Settings] = () if _QUICKACK is None else ((int(socket.IPPROTO_TCP), _QUICKACK, 0),)


class KeepaliveOptions(Protocol):
    """
    Keepalive of a TCP connection.

    :ivar idle: seconds without traffic before the first probe; None for the system's value.
    :ivar interval: seconds between probes; None for the system's value.
    :ivar count: unanswered probes after which the connection is reset; None for the system's value.
    """

    @property
    def enabled(self) -> bool:
        """Whether probes are sent."""

    @property
    def idle(self) -> int | None:
        """See the class."""

    @property
    def interval(self) -> int | None:
        """See the class."""

    @property
    def count(self) -> int | None:
        """See the class."""


class SocketOptions(Protocol):
    """
    What a rule sets on its sockets; the options of a rule implement it.

    :ivar user_timeout: seconds that written bytes may stay unacknowledged (RFC 5482); None for the system's.
    :ivar sndbuf: bytes of the send buffer; None for the system's.
    :ivar rcvbuf: bytes of the receive buffer; None for the system's.
    """

    @property
    def nodelay(self) -> bool:
        """Whether small writes are sent at once (``TCP_NODELAY``)."""

    @property
    def keepalive(self) -> KeepaliveOptions:
        """Keepalive of a TCP connection."""

    @property
    def user_timeout(self) -> float | None:
        """See the class."""

    @property
    def sndbuf(self) -> int | None:
        """See the class."""

    @property
    def rcvbuf(self) -> int | None:
        """See the class."""


def buffer_settings(options: SocketOptions) -> Settings:
    """
    The settings for ``sndbuf=`` and ``rcvbuf=``.

    Apply them before `listen` or `connect`: the handshake negotiates the window scale (RFC 7323 section 2.2).
    """
    wanted = ((socket.SO_SNDBUF, options.sndbuf), (socket.SO_RCVBUF, options.rcvbuf))
    return tuple((socket.SOL_SOCKET, name, value) for name, value in wanted if value is not None)


def stream_settings(options: SocketOptions) -> Settings:
    """
    The settings of a TCP connection. Options that the platform does not have are left out.

    Urgent bytes (RFC 9293 section 3.8.5) stay in the stream, as RFC 6093 section 5 recommends.
    """
    settings = [KEEP_URGENT]
    if options.nodelay:
        settings.append((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1))
    keepalive = options.keepalive
    named: list[tuple[str, int | None]] = []
    if keepalive.enabled:
        settings.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
        named += [
            ("TCP_KEEPIDLE", keepalive.idle),
            ("TCP_KEEPINTVL", keepalive.interval),
            ("TCP_KEEPCNT", keepalive.count),
        ]
    if options.user_timeout is not None:
        # RFC 5482; Linux takes milliseconds.
        named.append(("TCP_USER_TIMEOUT", int(options.user_timeout * 1000)))
    for name, value in named:
        option = getattr(socket, name, None)
        if value is not None and option is not None:
            settings.append((socket.IPPROTO_TCP, option, value))
    return tuple(settings)


def upstream_settings(options: SocketOptions) -> Settings:
    """The settings of a socket before it connects."""
    return buffer_settings(options) + stream_settings(options)


def client_settings(options: SocketOptions) -> Settings:
    """The settings of an accepted socket. Empty if it inherits the options of the listening one."""
    return () if CLIENTS_INHERIT else stream_settings(options)


def listening_settings(options: SocketOptions) -> Settings:
    """The settings of a listening socket, including those that accepted sockets inherit."""
    return buffer_settings(options) + (stream_settings(options) if CLIENTS_INHERIT else ())


def apply_settings(sock: socket.socket, settings: Settings) -> None:
    """Set options of a TCP socket. Unix sockets do not have these options."""
    if sock.family in _INET:
        for level, name, value in settings:
            sock.setsockopt(level, name, value)


def keep_urgent(sock: socket.socket) -> None:
    """
    Keep urgent bytes of `sock` in the stream, as `stream_settings` does for TCP sockets of portfwd.

    For sockets of Twisted, and for unix sockets, which inherit no options and have urgent bytes since Linux
    5.15. A socket that refuses the option has no urgent bytes.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(*KEEP_URGENT)


def change_settings(sock: socket.socket, before: Settings, after: Settings) -> bool:
    """
    Change the options of a TCP socket. Options that are not set any more get the system's value.

    :returns: False if a buffer keeps its size, because the system cannot reset it.
    """
    if sock.family not in _INET or sock.type != socket.SOCK_STREAM or before == after:
        return True
    set_now = {(level, name) for level, name, _ in after}
    whole = True
    fresh: socket.socket | None = None
    for level, name, _ in before:
        if (level, name) in set_now:
            continue
        if level == socket.SOL_SOCKET and name in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            whole = False
            continue
        if fresh is None:
            fresh = bare_socket(sock.family)
        sock.setsockopt(level, name, fresh.getsockopt(level, name))
    if fresh is not None:
        fresh.close()
    apply_settings(sock, after)
    return whole


def bind_source(sock: socket.socket, source: str) -> None:
    """
    Bind the address of ``src=`` and let `connect` choose the port.

    With `IP_BIND_ADDRESS_NO_PORT` the kernel chooses a port that is unique for the four-tuple. Connections to
    different targets can then share a port, so one source address does not run out of ports.
    """
    if sys.platform == "linux":  # the number means something else on other systems
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind(sockaddr_of(source, 0))
