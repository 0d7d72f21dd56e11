# -*- test-case-name: tests.bench.test_ticking -*-
"""
How long traffic stands still: two programs that exchange a byte again and again.

``python -m bench.loads.ticking server HOST PORT`` sends back what it gets. ``… client HOST PORT``
does what its input says, a line each: ``begin`` lets one connection exchange a byte every
millisecond, and beside it opens new ones, one after the other; ``worst`` ends both and answers
``worst MILLISECONDS CONNECTIONS FAILURES``: the longest that any of them had to wait.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

#: Between two bytes, and between two connections: short beside the stalls that are looked for.
TICK: Final = 0.001
_TIMEOUT: Final = 20.0


def serve(listening: socket.socket) -> None:
    """Send back what comes, for ever, a thread for each connection."""
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(4096):
            connection.sendall(data)


class Client:
    """
    The side that asks.

    :ivar worst: seconds of the longest wait.
    :ivar connections: how many were opened.
    :ivar failures: how many of them, or bytes, came to nothing.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self.enough = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self.worst = 0.0
        self.connections = 0
        self.failures = 0

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(self._address, _TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    @staticmethod
    def _exchange(sock: socket.socket) -> None:
        sock.sendall(b"?")
        if sock.recv(1) != b"?":
            raise ConnectionError("no answer")

    def again_and_again(self, once: Callable[[], None]) -> None:
        """Do `once` at each tick, until it is enough."""
        while True:
            begun = time.monotonic()
            try:
                once()
            except OSError:
                with self._lock:
                    self.failures += 1
            with self._lock:
                self.worst = max(self.worst, time.monotonic() - begun)
            if self.enough.wait(TICK):
                return

    def _one_connection(self) -> None:
        with self._connect() as sock:
            self._exchange(sock)
            self.again_and_again(lambda: self._exchange(sock))

    def newcomer(self) -> None:
        """One exchange over a connection of its own."""
        with self._connect() as sock:
            self._exchange(sock)
        self.connections += 1

    def _begin(self) -> None:
        self._forget()
        self.enough.clear()
        self._threads = [
            threading.Thread(target=self._one_connection, daemon=True),
            threading.Thread(target=self.again_and_again, args=(self.newcomer,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _end(self) -> None:
        self.enough.set()
        for thread in self._threads:
            thread.join(_TIMEOUT)

    def command(self, line: str) -> str:
        """See the module."""
        if line == "begin":
            self._begin()
            return "begun"
        if line == "worst":
            self._end()
            return f"worst {self.worst * 1000:.3f} {self.connections} {self.failures}"
        return f"unknown {line}"


def main(argv: list[str]) -> None:
    """Be one of the two."""
    role, host, port = argv[0], argv[1], int(argv[2])
    if role == "server":
        with socket.create_server((host, port), backlog=4096) as listening:
            serve(listening)
    client = Client(host, port)
    for line in sys.stdin:
        print(client.command(line.strip()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
