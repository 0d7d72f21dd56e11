# -*- test-case-name: tests.kernel.test_sockets -*-
"""
Sockets as the rules want them: made, set up, asked and reset.

Plain functions over plain sockets. They refuse to retry and to log: an
`OSError` goes to the caller, who knows whose socket it is.
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

from portfwd.rules.model import Options
from portfwd.values import Address, InetAddress, UnixAddress, unmapped

#: Errors that say the peer, or the way to it, is gone. `EPIPE` is not among
#: them: it also comes after an orderly end (Linux gives it to a socket that is
#: reset in CLOSE_WAIT).
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

#: Errors that say this process or this machine has run out of something.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# linux/in.h; in the socket module from Python 3.12 on.
_IP_BIND_ADDRESS_NO_PORT: Final = 24
# tcp(7): for a connect whose first words follow at once, the acknowledgement that would end
# the handshake is saved: they carry it. The kernel goes back to its usual ways after the handshake.
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_CORK: Final[int | None] = getattr(socket, "TCP_CORK", None)
_SENT: Final[int] = 0 if fcntl is None else termios.TIOCOUTQ
_RECEIVED: Final[int] = 0 if fcntl is None else termios.FIONREAD
_NUMBER: Final = bytes(4)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


#: Linux gives an accepted socket the options of the listening one (`sk_clone_lock`), so
#: they are set once and cost nothing for each client.
CLIENTS_INHERIT: Final = sys.platform == "linux"

_INET4: Final = int(socket.AF_INET)
_INET6: Final = int(socket.AF_INET6)
_INET: Final = (_INET4, _INET6)

# Plain numbers: the enums of the socket module cost more than the calls they go to.
_STREAM: Final = int(socket.SOCK_STREAM)
# Made so, a socket needs no second call to be non-blocking; 0 where there is no such type.
_NONBLOCK: Final = int(socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)) * hasattr(
    socket, "SOCK_NONBLOCK"
)

#: Options of a socket: level, name and value of each ``setsockopt``.
Settings = tuple[tuple[int, int, int], ...]

#: Urgent bytes are read in their place. Without it they are dropped, because nobody asks for them.
KEEP_URGENT: Final = (int(socket.SOL_SOCKET), int(socket.SO_OOBINLINE), 1)

#: What is set besides on a socket that will send as soon as it is connected: one packet less.
WILL_SEND: Final[Settings] = () if _QUICKACK is None else ((int(socket.IPPROTO_TCP), _QUICKACK, 0),)


def bare_socket(family: int, descriptor: int | None = None) -> socket.socket:
    """
    A stream socket without the layer that Python's ``socket`` class puts on top of it.

    That layer turns families and types into enums at every look, which costs
    more than the system calls of a connection. What is missing is nothing
    that a relay needs: ``makefile``, ``dup`` and ``with``.

    :param descriptor: of a socket that is there already; None to make one.
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


#: The text of a host that was seen lately, as it was then: many clients come from few hosts. Not
#: `sys.intern`, which in Python 3.12 keeps what it was given for ever.
_known: Final = lru_cache(maxsize=1024)(str)


def inet_family(host: str) -> int:
    """The family of a literal."""
    return _INET6 if ":" in host else _INET4


def scope_of(zone: str) -> int:
    """
    The number of the interface that the zone of an IPv6 literal (``fe80::1%eth0``) names (RFC 4007 section
    11).

    :raises OSError: there is no such interface now.
    """
    if zone.isdecimal():
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except OSError:
        raise OSError(errno.ENODEV, f"there is no interface {zone!r}") from None


def sockaddr_of(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """
    A literal and a port, as ``bind``, ``connect`` and ``sendto`` take them.

    Python's socket module drops the zone of a text in an address of two elements.

    :raises OSError: the zone names no interface.
    """
    if "%" not in host:
        return host, port
    literal, _, zone = host.partition("%")
    return literal, port, 0, scope_of(zone)


def is_own_address(host: str) -> bool:
    """Whether this machine has the address `host`, a literal: only such an address can be bound."""
    try:
        with socket.socket(inet_family(host), socket.SOCK_DGRAM) as probe:
            probe.bind(sockaddr_of(host, 0))
    except OSError:
        return False
    return True


def literal_of(sockaddr: Sequence[Any]) -> str:
    """The literal of a socket module's address; with its zone, where it has one."""
    host = str(sockaddr[0])
    if len(sockaddr) < 4 or not sockaddr[3] or "%" in host:
        return host
    try:
        return f"{host}%{socket.if_indextoname(sockaddr[3])}"
    except OSError:  # the interface is gone
        return f"{host}%{sockaddr[3]}"


def to_address(family: int, sockaddr: object) -> Address | None:
    """
    A socket module's address as ours.

    :returns: None for families that have no address we know; IPv4-mapped
        addresses come out as IPv4.
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
    """The address `sock` is bound to, or None if it has none any more."""
    try:
        return to_address(sock.family, sock.getsockname())
    except OSError:
        return None


def fixed_address(listening: socket.socket) -> Address | None:
    """The address that every client of `listening` came to; None if it is bound to all of them."""
    address = local_address(listening)
    wildcard = isinstance(address, InetAddress) and address.host in ("0.0.0.0", "::")  # noqa: S104 - recognised
    return None if wildcard else address


def buffer_settings(options: Options) -> Settings:
    """
    A rule's ``sndbuf=`` and ``rcvbuf=``.

    To be applied before `listen` or `connect`: the window scale is agreed on in
    the handshake (RFC 7323 section 2.2).
    """
    wanted = ((socket.SO_SNDBUF, options.sndbuf), (socket.SO_RCVBUF, options.rcvbuf))
    return tuple((socket.SOL_SOCKET, name, value) for name, value in wanted if value is not None)


def stream_settings(options: Options) -> Settings:
    """
    What a rule says of a TCP connection; what the platform has no option for is left to it.

    Urgent bytes (RFC 9293 section 3.8.5) stay in their place among the others, as RFC 6093 section 5 says.
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


def upstream_settings(options: Options) -> Settings:
    """What is set on a socket before it connects."""
    return buffer_settings(options) + stream_settings(options)


def client_settings(options: Options) -> Settings:
    """What is set on each accepted socket: nothing where it comes with the listening one's options."""
    return () if CLIENTS_INHERIT else stream_settings(options)


def listening_settings(options: Options) -> Settings:
    """What is set on a listening socket, for itself and for the clients that inherit it."""
    return buffer_settings(options) + (stream_settings(options) if CLIENTS_INHERIT else ())


def apply_settings(sock: socket.socket, settings: Settings) -> None:
    """Set options of a TCP socket; unix sockets have none of them."""
    if sock.family in _INET:
        for level, name, value in settings:
            sock.setsockopt(level, name, value)


def keep_urgent(sock: socket.socket) -> None:
    """
    Read urgent bytes of `sock` in their place, as `stream_settings` does for TCP connections of ours.

    For unix sockets, which inherit no options and have urgent bytes since Linux 5.15, and for sockets of
    Twisted's. One that refuses has none.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(*KEEP_URGENT)


def change_settings(sock: socket.socket, before: Settings, after: Settings) -> bool:
    """
    Set options of a TCP socket that had others; what is not set any more gets the system's value.

    :returns: False where that cannot be had: a buffer that was given a size keeps one.
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

    With `IP_BIND_ADDRESS_NO_PORT` a port is taken for the whole four-tuple, so
    one source address is not limited to one ephemeral port a connection.
    """
    if sys.platform == "linux":  # the number means something else on other systems
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind(sockaddr_of(source, 0))


def unsent_bytes(sock: socket.socket) -> int | None:
    """
    How much of `sock`'s send queue the peer has not acknowledged (``SIOCOUTQ``).

    For TCP bytes, our own unacknowledged end counting as one. For unix sockets the memory of
    what the peer has not read. None where the platform cannot tell.
    """
    return _queued(sock, _SENT)


def waiting_bytes(sock: socket.socket) -> int:
    """How many bytes of `sock` wait to be read (``FIONREAD``); 0 where the platform cannot tell."""
    return _queued(sock, _RECEIVED) or 0


def _queued(sock: socket.socket, request: int) -> int | None:
    if not request:  # pragma: no cover - Windows
        return None
    try:
        # The bytes that are handed in say how many come back; they themselves stay as they are.
        return int.from_bytes(fcntl.ioctl(sock.fileno(), request, _NUMBER), sys.byteorder, signed=True)
    except OSError:
        return None


def push(sock: socket.socket) -> None:
    """
    Send what ``MSG_MORE`` has held back; a socket that holds nothing back is left alone.

    :raises OSError: the socket is no more.
    """
    if sock.family in _INET and _CORK is not None:
        # Taking the cork out sends, whether it was in or not (tcp(7): "pending output … is transmitted").
        sock.setsockopt(socket.IPPROTO_TCP, _CORK, 0)


def has_hung_up(sock: socket.socket) -> bool:
    """
    Whether the kernel says now that `sock` is broken, or closed in both directions.

    True where it cannot be asked.

    A reactor may tell of a hang-up that was another socket's: of several events that it fetched at once,
    one may close a descriptor and open another with its number, for which a later event is then taken.
    """
    if not hasattr(select, "poll"):  # pragma: no cover - Windows
        return True
    probe = select.poll()
    probe.register(sock, 0)  # hang-ups and errors are told in any case
    return bool(probe.poll(0))


def reset_on_close(sock: socket.socket) -> None:
    """Make the coming `close` send a reset (``SO_LINGER`` 1,0), dropping what is unsent."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def close_by_reset(sock: socket.socket) -> None:
    """Close a connection with a reset; one that was closed elsewhere is fine."""
    with contextlib.suppress(OSError):
        reset_on_close(sock)
    sock.close()


class Limits(Protocol):
    """What is needed of the ``resource`` module."""

    RLIMIT_NOFILE: int
    RLIM_INFINITY: int

    def getrlimit(self, resource: int, /) -> tuple[int, int]:
        """The soft and the hard limit."""

    def setrlimit(self, resource: int, limits: tuple[int, int], /) -> None:
        """Set both."""


def raise_descriptor_limit(limits: Limits | None = None) -> int:
    """
    Raise the soft limit of descriptors to the hard one.

    :param limits: None for this process's own.
    :returns: the limit that now holds; 0 where there is no such limit.
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
            # macOS names no hard limit and takes no soft one that high.
            pass
    return 0 if soft == limits.RLIM_INFINITY else soft
