# -*- test-case-name: tests.listen.test_systemd -*-
"""
Sockets that systemd has opened (``sd_listen_fds(3)``).

Twisted reads and deletes ``LISTEN_FDS`` and related variables when its endpoint plug-ins are imported, before
any code of portfwd runs. The kernel still has the initial environment of the process.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: The first descriptor that systemd passes (``SD_LISTEN_FDS_START``).
FIRST: Final = 3


def initial_environment() -> dict[str, str]:
    """The initial environment of this process, or the present one if the kernel does not provide it."""
    try:
        raw = Path("/proc/self/environ").read_bytes()
    except OSError:
        return dict(os.environ)
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry)
    return {os.fsdecode(key): os.fsdecode(value) for key, _, value in pairs}


def inherited(environment: Mapping[str, str], pid: int) -> dict[str, list[int]]:
    """
    A mapping from the names of inherited sockets to their descriptors.

    Sockets without a name are called ``unknown``, as in systemd. It is empty if ``LISTEN_PID`` is another
    process.
    """
    try:
        if int(environment.get("LISTEN_PID", "")) != pid:
            return {}
        count = int(environment.get("LISTEN_FDS", ""))
    except ValueError:
        return {}
    names = environment.get("LISTEN_FDNAMES", "").split(":") if environment.get("LISTEN_FDNAMES") else []
    found: dict[str, list[int]] = {}
    for index in range(count):
        name = names[index] if index < len(names) else "unknown"
        found.setdefault(name, []).append(FIRST + index)
    return found


def adopt(descriptor: int, *, datagrams: bool = False) -> socket.socket:
    """
    The socket of `descriptor`, non-blocking and not inheritable.

    :param datagrams: whether it must be a bound datagram socket. If not, it must be a listening stream
        socket.
    :raises OSError: it is not such a socket.
    """
    duplicate = os.dup(descriptor)
    try:
        sock = socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        raise
    try:
        if datagrams and sock.type != socket.SOCK_DGRAM:
            raise OSError(f"descriptor {descriptor} takes no datagrams: write systemd:NAME for ListenStream=")
        if not datagrams and sock.type != socket.SOCK_STREAM:
            raise OSError(
                f"descriptor {descriptor} is no stream socket: write systemd-dgram:NAME for ListenDatagram="
            )
        if not datagrams and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OSError(f"descriptor {descriptor} does not listen")
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
