# -*- test-case-name: tests.bench.test_loads -*-
"""
A flood of small datagrams, and where they end: two programs.

``python -m bench.loads.flood server HOST PORT`` receives datagrams and throws them away. ``… client HOST
PORT`` sends datagrams of `SIZE` bytes as fast as it can, until it is ended. Both run until a signal ends
them.
"""

from __future__ import annotations

import socket
import sys
from typing import Final

#: Bytes of each: small ones cost a forwarder most.
SIZE: Final = 64
_RECEIVE_BUFFER: Final = 4 * 1024 * 1024
_LARGEST: Final = 65536


def swallow(sock: socket.socket) -> None:
    """Receive and throw away, for ever."""
    buffer = bytearray(_LARGEST)
    while True:
        sock.recv_into(buffer)


def pour(sock: socket.socket) -> None:
    """Send for ever; a full buffer or a port where nobody is costs that datagram."""
    data = bytes(SIZE)
    while True:
        try:
            sock.send(data)
        except OSError:
            continue


def main(argv: list[str]) -> None:
    """Be one of the two."""
    role, host, port = argv[0], argv[1], int(argv[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if role == "server":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            sock.bind((host, port))
            swallow(sock)
        sock.connect((host, port))
        pour(sock)


if __name__ == "__main__":
    main(sys.argv[1:])
