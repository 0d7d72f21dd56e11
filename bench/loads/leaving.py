# -*- test-case-name: tests.bench.test_loads -*-
"""
Connections whose client has ended and whose server never does: two programs.

``python -m bench.loads.leaving server HOST PORT`` accepts and holds. ``… client HOST PORT`` does what its
input says, a line each: ``open N`` opens N connections and ends each; ``closed`` says how many of them the
other side has closed.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from typing import Final

_TIMEOUT: Final = 20.0


def hold(listening: socket.socket) -> None:
    """Accept and hold, for ever."""
    held = []
    while True:
        held.append(listening.accept()[0])


class Client:
    """The side that ends."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._open: dict[int, socket.socket] = {}
        self._closed = 0

    def command(self, line: str) -> str:
        """See the module."""
        word, _, count = line.partition(" ")
        if word == "open":
            for _ in range(int(count)):
                sock = socket.create_connection(self._address, _TIMEOUT)
                sock.shutdown(socket.SHUT_WR)
                self._open[sock.fileno()] = sock
            return f"open {len(self._open)}"
        if word == "closed":
            self._look()
            return f"closed {self._closed}"
        return f"unknown {line}"

    def _look(self) -> None:
        poll = select.poll()
        for descriptor in self._open:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(0):
            sock = self._open.pop(descriptor)
            with contextlib.suppress(OSError):
                sock.recv(1)
            sock.close()
            self._closed += 1


def main(argv: list[str]) -> None:
    """Be one of the two."""
    role, host, port = argv[0], argv[1], int(argv[2])
    if role == "server":
        with socket.create_server((host, port), backlog=4096) as listening:
            hold(listening)
    client = Client(host, port)
    for line in sys.stdin:
        print(client.command(line.strip()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
