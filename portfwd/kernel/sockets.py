# -*- test-case-name: tests.kernel.test_sockets -*-
"""
Functions over stream sockets: creation, queues, ends and resets.

They do not retry and do not log; they raise `OSError`. Addresses are in `portfwd.kernel.socket_addresses`,
options in `portfwd.kernel.socket_options`.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import select
import socket
import struct
import sys
from typing import Any, Final, Protocol

try:
    import fcntl
    import termios
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]


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

_CORK: Final[int | None] = getattr(socket, "TCP_CORK", None)
_TCP: Final = int(socket.IPPROTO_TCP)
_TCP_INFO: Final = int(getattr(socket, "TCP_INFO", 0))
#: Linux 6.18 has 280 bytes; what is read of them ends at 216.
_TCP_INFO_SIZE: Final = 216
_SENT: Final[int] = 0 if fcntl is None else termios.TIOCOUTQ
_RECEIVED: Final[int] = 0 if fcntl is None else termios.FIONREAD
_NUMBER: Final = bytes(4)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

_INET: Final = (int(socket.AF_INET), int(socket.AF_INET6))

# Plain numbers: the enums of the socket module cost more than the system calls that use them.
_STREAM: Final = int(socket.SOCK_STREAM)
# A socket of this type is non-blocking without a second system call. 0 if the system does not have it.
_NONBLOCK: Final = int(socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)) * hasattr(
    socket, "SOCK_NONBLOCK"
)


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
