"""
A hand-driven workbench for socket streams: real sockets, a poller that is turned by the test.

Nothing runs by itself: `Workbench.turn` delivers what the kernel has, so a test
says when events are seen, and may inject faults into single system calls.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from portfwd.kernel.pipes import KernelPipe, PipePool
from portfwd.kernel.poller import Poller
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.streams.sockets.flow_setup import FlowSetup
from portfwd.streams.sockets.socket_end import SocketEnd
from portfwd.streams.sockets.socket_flow import SocketFlow
from portfwd.streams.sockets.socket_stream import SocketStream
from portfwd.streams.stream import Loss
from portfwd.values import Side

BUFFER = 4096
PIPE = 65536


class TurnedReactor(Clock):
    """A clock that takes readers and leaves them alone."""

    def addReader(self, reader: object) -> None:
        """Nobody is called."""

    def removeReader(self, reader: object) -> None:
        """Nobody was."""


class Faults:
    """
    System calls that go wrong on demand.

    `plan` holds what the next calls do: None as usual, an errno to fail with,
    or a number of bytes below zero for a short count.
    """

    def __init__(self) -> None:
        self.plan: dict[str, deque[int | None]] = {}

    def next(self, call: str) -> int | None:
        """What becomes of the coming `call`."""
        planned = self.plan.get(call)
        return planned.popleft() if planned else None

    def raise_if(self, fault: int | None) -> None:
        """Raise the planned error."""
        if fault is not None and fault > 0:
            raise OSError(fault, os.strerror(fault))


class FaultySocket:
    """A socket whose calls may go wrong."""

    def __init__(self, sock: socket.socket, faults: Faults) -> None:
        self._sock = sock
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv_into(self, buffer: memoryview) -> int:
        """Read, or fail, or read little."""
        fault = self._faults.next("recv")
        self._faults.raise_if(fault)
        return self._sock.recv_into(buffer if fault is None else buffer[:-fault])

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read, or fail, or read little; to look without reading has faults of its own."""
        fault = self._faults.next("peek" if flags & socket.MSG_PEEK else "recv")
        self._faults.raise_if(fault)
        return self._sock.recv(size if fault is None else -fault, flags)

    def send(self, data: bytes, flags: int = 0) -> int:
        """Write, or fail, or write little."""
        fault = self._faults.next("send")
        self._faults.raise_if(fault)
        return self._sock.send(data if fault is None else data[:-fault], flags)

    def setsockopt(self, level: int, name: int, value: Any) -> None:
        """Set; to take the cork out may fail."""
        if (level, name) == (socket.IPPROTO_TCP, socket.TCP_CORK):
            self._faults.raise_if(self._faults.next("push"))
        self._sock.setsockopt(level, name, value)

    def shutdown(self, how: int) -> None:
        """End, or fail."""
        self._faults.raise_if(self._faults.next("shutdown"))
        self._sock.shutdown(how)


class Owner:
    """Writes down what it is told, and lets ends travel as a session does."""

    def __init__(self, *, pass_ends: bool = True) -> None:
        self.told: list[tuple[str, Side]] = []
        self.losses: dict[Side, Loss] = {}
        self.pass_ends = pass_ends
        self.peers: dict[SocketStream, SocketStream] = {}

    def began(self, stream: SocketStream) -> None:
        """Not told of sockets."""

    def opened(self, stream: SocketStream) -> None:
        """Not told of sockets."""

    def ended(self, stream: SocketStream) -> None:
        """Pass it on."""
        self.told.append(("ended", stream.side))
        if self.pass_ends:
            self.peers[stream].end()

    def end_sent(self, stream: SocketStream) -> None:
        """Note it."""
        self.told.append(("end sent", stream.side))

    def writing_failed(self, stream: SocketStream, detail: str) -> None:
        """Throw away what comes for it."""
        self.told.append(("writing failed", stream.side))
        self.peers[stream].discard()

    def thrown_away(self, stream: SocketStream, count: int) -> None:
        """Nobody counts them."""

    def lost(self, stream: SocketStream, how: Loss, detail: str) -> None:
        """Note it."""
        self.told.append(("lost", stream.side))
        assert stream.side not in self.losses, "lost twice"
        self.losses[stream.side] = how


class NothingIdle(PipePool):
    """A pool that keeps no pipe for the next flow, so that a leak shows at once."""

    def give_back(self, pipe: KernelPipe) -> None:
        self.discard(pipe)


class Workbench:
    """
    Two joined streams over real connections, and the far ends of these.

    :ivar left: the test's end of the connection whose other end is the client stream.
    :ivar right: the test's end of the upstream's.
    """

    kind = "splice"
    paced = False

    def __init__(
        self,
        pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair,
        *,
        splicing: bool = True,
        splice_first: bool = False,
        pass_ends: bool = True,
        allowance: int = 64 * PIPE,
        owned: bool = True,
    ) -> None:
        """
        :param allowance: bytes of all pipes.
        :param owned: whether the client's stream has an owner.
        """
        self.reactor = TurnedReactor()
        self.poller = Poller(self.reactor)  # type: ignore[arg-type]
        self.poller.start()
        self.faults = Faults()
        self.pool = PipePool(allowance, DescriptorBudget(0, 0), self.reactor) if splicing else None
        self.owner = Owner(pass_ends=pass_ends)
        self.setup = FlowSetup(
            self.poller,
            memoryview(bytearray(BUFFER)),
            self.pool,
            PIPE,
            splice_first=splice_first,
            splice=self._splice,
        )
        self.left, near = pair()
        far, self.right = pair()
        for sock in (self.left, near, far, self.right):
            sock.setblocking(False)
        self.client = self._stream(near, Side.CLIENT)
        self.upstream = self._stream(far, Side.UPSTREAM)
        for stream in (self.client, self.upstream) if owned else (self.upstream,):
            stream.own(self.owner)  # type: ignore[arg-type]
        self.owner.peers = {self.client: self.upstream, self.upstream: self.client}
        self.join_streams()

    def join_streams(self) -> None:
        """Make the flows."""
        self.client.join(self.upstream)
        self.upstream.join(self.client)

    def _stream(self, sock: socket.socket, side: Side) -> SocketStream:
        faulty: Any = FaultySocket(sock, self.faults)
        stream = SocketStream(faulty, None, self)
        stream.side = side
        return stream

    def join(self, source: SocketEnd, destination: SocketEnd) -> SocketFlow:
        """Make a flow."""
        return SocketFlow(source, destination, self.setup)

    def _splice(self, source: int, destination: int, count: int, *, flags: int) -> int:
        fault = self.faults.next("splice")
        self.faults.raise_if(fault)
        return os.splice(source, destination, count if fault is None else min(count, -fault), flags=flags)

    def start(self) -> None:
        """Both streams are read from here on."""
        self.client.start()
        self.upstream.start()

    def turn(self, times: int = 3) -> None:
        """Deliver what the kernel has, and run what waits for its turn."""
        for _ in range(times):
            self.poller.doRead()
            self.reactor.advance(0)

    def nudge(self) -> None:
        """Say to both streams that they are ready, as an edge does that follows a true ``EAGAIN``."""
        for stream in (self.client, self.upstream):
            if not stream.lost:
                stream.ready(0x5)
        self.turn()

    def close(self) -> None:
        """Close everything that is open."""
        for stream in (self.client, self.upstream):
            stream.abort()
        for sock in (self.left, self.right):
            sock.close()
        self.poller.stop()
        if self.pool is not None:
            self.pool.close()


def drain(sock: socket.socket) -> tuple[bytes, str]:
    """All that waits in `sock`, and how it goes on: ``open``, ``end`` or ``reset``."""
    parts = []
    while True:
        try:
            part = sock.recv(1 << 20)
        except BlockingIOError:
            return b"".join(parts), "open"
        except OSError as problem:
            assert problem.errno in (errno.ECONNRESET, errno.EPIPE), problem
            return b"".join(parts), "reset"
        if not part:
            return b"".join(parts), "end"
        parts.append(part)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        dialled = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    return dialled, accepted
