# -*- test-case-name: tests.bench.test_crowd -*-
"""
Many quiet connections: the two programs that hold them, one at the server, one at the client.

``python -m bench.loads.crowd server HOST PORT SIZE`` greets each connection
with eight bytes of its own, sends SIZE bytes that follow from them, ends if
SIZE is not 0, and holds on until the client ends. ``… client HOST PORT`` does
what its input says, a line each: ``open N`` waits for N greetings, ``read``
reads all to their ends and checks every byte. Each answers with one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final

GREETING: Final = struct.Struct("!Q")
_BLOCK_SIZE: Final = 1 << 20
#: Connections being opened at once: below every backlog.
_AT_ONCE: Final = 100
_TIMEOUT: Final = 20.0
#: The sender counts as stopped when nothing moved for so long.
_QUIET: Final = 0.5


class Pattern:
    """Bytes that follow from a connection's number, so that one's bytes in another's place are noticed."""

    def __init__(self) -> None:
        # Not a secret: the same bytes on both sides.
        self._block = random.Random(1).randbytes(_BLOCK_SIZE) * 2

    def piece(self, number: int, offset: int, size: int) -> memoryview:
        """Bytes `offset` to ``offset + size`` of connection `number`; `size` is at most 1 MiB."""
        at = (number * 7919 + offset) % _BLOCK_SIZE
        return memoryview(self._block)[at : at + size]


class Server:
    """
    The sending side.

    :ivar sent: bytes that the kernel has taken, all connections together.
    """

    def __init__(self, size: int) -> None:
        self.sent = 0
        self._size = size
        self._number = 0
        self._pattern = Pattern()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, listening: socket.socket) -> None:
        """Accept for ever."""
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(listening)
            accepted.setblocking(False)
            self._number += 1
            task = asyncio.create_task(self._one(accepted, self._number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, sock: socket.socket, number: int) -> None:
        loop = asyncio.get_running_loop()
        with sock, contextlib.suppress(ConnectionError):
            await loop.sock_sendall(sock, GREETING.pack(number))
            offset = 0
            while offset < self._size:
                piece = self._pattern.piece(number, offset, min(65536, self._size - offset))
                await loop.sock_sendall(sock, piece)
                offset += len(piece)
                self.sent += len(piece)
            if self._size:
                sock.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(sock, 65536):
                pass

    async def command(self, line: str) -> str:
        """``sent``: wait until nothing moves, then say how many bytes the kernel has taken."""
        if line != "sent":
            return f"unknown {line}"
        while True:
            before = self.sent
            await asyncio.sleep(_QUIET)
            if self.sent == before:
                return f"sent {self.sent}"


class Client:
    """The receiving side."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._open: list[tuple[socket.socket, int]] = []
        self._pattern = Pattern()

    async def _greeted(self, slots: asyncio.Semaphore) -> bool:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        async with slots:
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await loop.sock_connect(sock, self._address)
                    greeting = b""
                    while len(greeting) < GREETING.size:
                        piece = await loop.sock_recv(sock, GREETING.size - len(greeting))
                        if not piece:
                            raise ConnectionError
                        greeting += piece
            except (OSError, TimeoutError):
                sock.close()
                return False
        self._open.append((sock, GREETING.unpack(greeting)[0]))
        return True

    async def _read(self, sock: socket.socket, number: int) -> tuple[int, bool]:
        """Bytes until the end, and whether all were right and the end was one."""
        loop = asyncio.get_running_loop()
        offset = 0
        right = True
        with sock:
            try:
                while piece := await loop.sock_recv(sock, 65536):
                    right = right and self._pattern.piece(number, offset, len(piece)) == piece
                    offset += len(piece)
            except ConnectionError:
                right = False
        return offset, right

    async def command(self, line: str) -> str:
        """``open N``: answer ``open GOOD FAILED``. ``read``: answer ``read BYTES WRONG_CONNECTIONS``."""
        word, _, argument = line.partition(" ")
        if word == "open":
            slots = asyncio.Semaphore(_AT_ONCE)
            results = await asyncio.gather(*(self._greeted(slots) for _ in range(int(argument))))
            return f"open {sum(results)} {len(results) - sum(results)}"
        if word == "read":
            ends = await asyncio.gather(*(self._read(*one) for one in self._open))
            self._open.clear()
            return f"read {sum(size for size, _ in ends)} {sum(not right for _, right in ends)}"
        return f"unknown {line}"


async def _converse(command: Callable[[str], Coroutine[Any, Any, str]]) -> None:
    """Answer each line of standard input; return at its end."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line.strip())
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    while line := await lines.get():
        print(await command(line), flush=True)


async def _serve(host: str, port: int, size: int) -> None:
    server = Server(size)
    with socket.create_server((host, port), backlog=4096) as listening:
        listening.setblocking(False)
        accepting = asyncio.create_task(server.serve(listening))
        await _converse(server.command)
        accepting.cancel()


def main(argv: list[str]) -> None:
    """Be one of the two."""
    role, host, port = argv[0], argv[1], int(argv[2])
    if role == "server":
        asyncio.run(_serve(host, port, int(argv[3])))
    else:
        asyncio.run(_converse(Client(host, port).command))


if __name__ == "__main__":
    main(sys.argv[1:])
