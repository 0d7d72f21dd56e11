# -*- test-case-name: tests.kernel.test_sockets -*-
"""
Functions over stream sockets: creation, options, addresses, queues and resets.

They do not retry and do not log; they raise `OSError`.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import select
import socket
import struct
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

try:
    import fcntl
    import termios
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

from portfwd.values import Address, InetAddress, UnixAddress, unmapped

#: Errors of a connection whose peer or route is gone. `EPIPE` is not one of them: it also occurs after an
#: orderly end (Linux returns it for a socket that is reset in CLOSE_WAIT).
GONE: Final = frozenset(
    {
        errno.ECONNRESET,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.ECONNABORTED,
    }
)

#: Errors of a process or machine that has run out of a resource.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# linux/in.h; in the socket module from Python 3.12 on.
_IP_BIND_ADDRESS_NO_PORT: Final = 24
# tcp(7), TCP_QUICKACK: off for a connect whose first bytes follow at once. They carry the acknowledgement
# that ends the handshake, which saves one packet. The kernel resets the option after the handshake.
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_CORK: Final[int | None] = getattr(socket, "TCP_CORK", None)
_TCP: Final = int(socket.IPPROTO_TCP)
_TCP_INFO: Final = int(getattr(socket, "TCP_INFO", 0))
#: Linux 6.18 has 280 bytes; what is read of them ends at 216.
_TCP_INFO_SIZE: Final = 216
_SENT: Final[int] = 0 if fcntl is None else termios.TIOCOUTQ
_RECEIVED: Final[int] = 0 if fcntl is None else termios.FIONREAD
_NUMBER: Final = bytes(4)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


#: Linux copies the options of a listening socket to accepted ones (`sk_clone_lock`), so they are set only
#: once.
CLIENTS_INHERIT: Final = sys.platform == "linux"

_INET4: Final = int(socket.AF_INET)
_INET6: Final = int(socket.AF_INET6)
_INET: Final = (_INET4, _INET6)

# Plain numbers: the enums of the socket module cost more than the system calls that use them.
_STREAM: Final = int(socket.SOCK_STREAM)
# A socket of this type is non-blocking without a second system call. 0 if the system does not have it.
_NONBLOCK: Final = int(socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)) * hasattr(
    socket, "SOCK_NONBLOCK"
)

#: Options of a socket: level, name and value for ``setsockopt``.
Settings = tuple[tuple[int, int, int], ...]

#: Urgent bytes stay in the stream. Without this option they are lost, because portfwd does not read them
#: apart.
KEEP_URGENT: Final = (int(socket.SOL_SOCKET), int(socket.SO_OOBINLINE), 1)

#: Additional options of a socket that sends as soon as it is connected. They save one packet.
WILL_SEND: Final[Settings] = () if _QUICKACK is None else ((int(socket.IPPROTO_TCP), _QUICKACK, 0),)


def bare_socket(family: int, descriptor: int | None = None) -> socket.socket:
    """
    A stream socket of the ``_socket`` module, without Python's ``socket`` class.

    That class converts families and types to enums at each access, which costs more than the system calls of
    a connection. ``makefile``, ``dup`` and ``with`` are missing; a relay does not use them.

    :param descriptor: descriptor of an existing socket; None to make a new one.
    """
    bare: Any  # to everybody else it is a socket
    if descriptor is None and _NONBLOCK:
        bare = _socket.socket(family, _NONBLOCK)
    else:
        bare = _socket.socket(family, _STREAM, 0, descriptor)
        bare.setblocking(False)
    return bare  # type: ignore[no-any-return]


def accept(listening: socket.socket, family: int) -> tuple[socket.socket, object]:
    """
    The next client of `listening`, as a bare, non-blocking socket, and its address.

    :raises OSError: as ``accept``.
    """
    descriptor, sockaddr = listening._accept()  # type: ignore[attr-defined]
    bare: Any = _socket.socket(family, _STREAM, 0, descriptor)
    bare.setblocking(False)
    return bare, sockaddr


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
    if sock.family not in _INET or sock.type != _STREAM or before == after:
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


def unsent_bytes(sock: socket.socket) -> int | None:
    """
    The amount in the send queue of `sock` that the peer has not acknowledged (``SIOCOUTQ``).

    For TCP it is bytes; an unacknowledged FIN counts as one. For unix sockets it is the memory of data that
    the peer has not read. None if the platform cannot tell.
    """
    return _queued(sock, _SENT)


def waiting_bytes(sock: socket.socket) -> int:
    """Number of bytes that can be read from `sock` (``FIONREAD``); 0 if the platform cannot tell."""
    return _queued(sock, _RECEIVED) or 0


def _queued(sock: socket.socket, request: int) -> int | None:
    if not request:  # pragma: no cover - Windows
        return None
    try:
        # The argument only gives the length of the result; it is not modified.
        return int.from_bytes(fcntl.ioctl(sock.fileno(), request, _NUMBER), sys.byteorder, signed=True)
    except OSError:
        return None


def tcp_info(sock: socket.socket) -> bytes:
    """
    What Linux tells of the connection, for `portfwd.wire.tcp_info`.

    Empty for what is no TCP, where the platform has another structure, and once the socket is closed.
    """
    if sock.family not in _INET or sys.platform != "linux":
        return b""
    try:
        return sock.getsockopt(_TCP, _TCP_INFO, _TCP_INFO_SIZE)
    except OSError:  # datagrams, or no socket any more
        return b""


def push(sock: socket.socket) -> None:
    """
    Send the data that ``MSG_MORE`` has held back, if there is any.

    :raises OSError: the connection is dead.
    """
    if sock.family in _INET and _CORK is not None:
        # Clearing TCP_CORK sends, even if it was not set (tcp(7): "pending output … is transmitted").
        sock.setsockopt(socket.IPPROTO_TCP, _CORK, 0)


def has_hung_up(sock: socket.socket) -> bool:
    """
    Whether the kernel reports now that `sock` is broken, or closed in both directions. True if unknown.

    A reactor may report a hang-up that belonged to another socket: the handler of an earlier event of the
    same batch may have closed a descriptor and opened another one with the same number.
    """
    if not hasattr(select, "poll"):  # pragma: no cover - Windows
        return True
    probe = select.poll()
    probe.register(sock, 0)  # hang-ups and errors are told in any case
    return bool(probe.poll(0))


def reset_on_close(sock: socket.socket) -> None:
    """Make the next `close` send a reset and drop unsent data (``SO_LINGER`` 1,0)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def close_by_reset(sock: socket.socket) -> None:
    """Close a connection with a reset. It may be closed already."""
    with contextlib.suppress(OSError):
        reset_on_close(sock)
    sock.close()


class Limits(Protocol):
    """The used part of the ``resource`` module."""

    RLIMIT_NOFILE: int
    RLIM_INFINITY: int

    def getrlimit(self, resource: int, /) -> tuple[int, int]:
        """Return the soft and the hard limit."""

    def setrlimit(self, resource: int, limits: tuple[int, int], /) -> None:
        """Set the soft and the hard limit."""


def raise_descriptor_limit(limits: Limits | None = None) -> int:
    """
    Raise the soft limit of descriptors to the hard one.

    :param limits: None for the limits of this process.
    :returns: the limit in effect; 0 if the system does not have one.
    """
    if limits is None:
        try:
            import resource
        except ImportError:  # pragma: no cover - Windows
            return 0
        limits = resource
    soft, hard = limits.getrlimit(limits.RLIMIT_NOFILE)
    if soft != hard:
        try:
            limits.setrlimit(limits.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            # macOS reports no hard limit, but does not accept a soft limit that high.
            pass
    return 0 if soft == limits.RLIM_INFINITY else soft
