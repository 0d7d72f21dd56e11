"""
An upstream for cases with many clients: sends back what it gets, and ends when its client ends.

``python -m tests.integration.echo`` is one in a process of its own: it prints its port, and ends with its
standard input.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import threading
from pathlib import Path

from attrs import define, field


@define
class _Connection:
    """One client: what is still to be sent back, and whether it has ended."""

    waiting: bytearray = field(factory=bytearray)
    ended: bool = False


class EchoServer:
    """
    A thread that echoes on a port of its own.

    :ivar port: where, on 127.0.0.1.
    :ivar accepted: connections so far.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and every connection."""
        self._wake.close()
        self._thread.join(10)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, events in self._selector.select():
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._serve(key.fileobj, key.data, events)  # type: ignore[arg-type]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            self.accepted += 1
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, _Connection())

    def _serve(self, connection: socket.socket, state: _Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_READ and not state.ended:
                data = connection.recv(65536)
                state.waiting += data
                state.ended = not data
            if state.waiting:
                try:
                    del state.waiting[: connection.send(state.waiting)]
                except BlockingIOError:
                    return
        except OSError:
            state.ended = True
            state.waiting.clear()
        finally:
            if state.ended and not state.waiting:
                self._selector.unregister(connection)
                connection.close()
            else:
                wanted = selectors.EVENT_WRITE if state.waiting else 0
                self._selector.modify(
                    connection, wanted | (0 if state.ended else selectors.EVENT_READ), state
                )


class EchoProcess:
    """
    An `EchoServer` that shares no interpreter with the test, so that neither delays the other.

    :ivar port: where, on 127.0.0.1.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.echo"],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)


if __name__ == "__main__":
    server = EchoServer()
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    # The kernel closes thousands of connections faster than the interpreter.
    os._exit(0)
