"""
Connected sockets, and far ends that are scripted on the reactor.

A `FarEnd` reads only when it is asked to, so a reader that has stopped is one
that nobody asks. All waiting is for the reactor's events; `settled` looks again
after a few turns where the kernel offers nothing to wait for.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import termios
from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from portfwd.kernel.sockets import reset_on_close, unsent_bytes

#: Turns of the reactor without a change that show that nobody does anything.
QUIET_TURNS = 12


Pair = tuple[socket.socket, socket.socket]


def tcp_sockets(*, family: int = socket.AF_INET, size: int | None = None) -> Pair:
    """
    Two connected TCP sockets, non-blocking.

    :param size: bytes of each socket buffer, before the kernel doubles it; None for its own choice.
    """
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.socket(family) as listening, socket.socket(family) as connecting:
        if size is not None:
            for sock in (listening, connecting):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        listening.bind((host, 0))
        listening.listen(1)
        connecting.connect(listening.getsockname())
        near, _ = listening.accept()
        near.setblocking(False)
        far = socket.socket(fileno=connecting.detach())
    far.setblocking(False)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def unix_sockets(*, size: int | None = None) -> Pair:
    """Two connected unix sockets, non-blocking."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for sock in (near, far):
        sock.setblocking(False)
        if size is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    return near, far


def unread_bytes(sock: socket.socket) -> int:
    """How many bytes wait to be read from `sock`."""
    answer = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.FIONREAD, answer)
    return answer[0]


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def turn(seconds: float = 0.0) -> Deferred[None]:
    """The reactor's next turn."""
    return deferLater(reactor, seconds, lambda: None)  # type: ignore[arg-type]


async def turns(count: int = QUIET_TURNS) -> None:
    """Some turns, in which everything that is ready is done."""
    for _ in range(count):
        await turn()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what the kernel offers no event for; trial's time limit ends what never comes."""
    while not condition():
        await turn(0.001)


async def settled(look: Callable[[], object]) -> None:
    """
    Wait until `look` has given the same for some turns.

    Turns of 4 ms: the kernel delays what opens a window by up to 40.
    """
    last, same = look(), 0
    while same < QUIET_TURNS:
        await turn(0.004)
        now = look()
        last, same = now, same + 1 if now == last else 0


class FarEnd:
    """
    What a stream is connected to.

    :ivar received: every byte that came.
    :ivar incoming: ``open``, ``end`` or ``reset``.
    :ivar sent: how many bytes the kernel took.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.received = bytearray()
        self.incoming = "open"
        self.sent = 0
        self._limit = 0
        self._reading: Deferred[None] | None = None
        self._to_send = memoryview(b"")
        self._sending: Deferred[None] | None = None

    # What the reactor asks

    def fileno(self) -> int:
        """The descriptor."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return "far end"

    def connectionLost(self, reason: Failure) -> None:
        """A hang-up, as epoll tells it to those who wait for one thing only."""
        self.doRead()

    def doRead(self) -> None:
        """Read up to the limit."""
        while self._reading is not None:
            try:
                data = self.socket.recv(min(65536, self._limit - len(self.received)))
            except BlockingIOError:
                reactor.addReader(self)  # type: ignore[attr-defined]
                return
            except OSError:
                self.incoming = "reset"
            else:
                if not data:
                    self.incoming = "end"
                self.received += data
            if self.incoming != "open" or len(self.received) >= self._limit:
                reactor.removeReader(self)  # type: ignore[attr-defined]
                reading, self._reading = self._reading, None
                reading.callback(None)

    def doWrite(self) -> None:
        """Send what is left."""
        while self._to_send:
            try:
                count = self.socket.send(self._to_send)
            except BlockingIOError:
                return
            except OSError:
                count = len(self._to_send)  # nobody takes it
            else:
                self.sent += count
            self._to_send = self._to_send[count:]
        reactor.removeWriter(self)  # type: ignore[attr-defined]
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.callback(None)

    # What a test asks

    def read(self, count: int) -> Deferred[None]:
        """Read until `count` bytes have come in all, or the connection has ended."""
        self._limit = count
        self._reading = reading = Deferred[None]()
        self.doRead()
        return reading

    def read_to_end(self) -> Deferred[None]:
        """Read until the connection has ended, in one way or the other."""
        return self.read(1 << 40)

    def send(self, data: bytes) -> Deferred[None]:
        """Send `data`; fires when the kernel has all of it."""
        self._to_send = memoryview(data)
        self._sending = sending = Deferred[None]()
        reactor.addWriter(self)  # type: ignore[attr-defined]
        return sending

    async def arrived(self) -> None:
        """Wait until the other kernel has all that was sent."""
        await until(lambda: not self.unsent())

    def unsent(self) -> int:
        """Bytes that the kernel took and the other one has not."""
        return 0 if self.socket.family == socket.AF_UNIX else unsent_bytes(self.socket)

    def end(self) -> None:
        """Send the end."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a reset; a unix socket has one only if there is unread input."""
        if self.socket.family != socket.AF_UNIX:
            reset_on_close(self.socket)
        elif not unread_bytes(self.socket):
            raise AssertionError("a unix socket that has read everything cannot reset")
        self.close()

    def close(self) -> None:
        """Close, whatever goes on."""
        if self.socket.fileno() >= 0:
            reactor.removeReader(self)  # type: ignore[attr-defined]
            reactor.removeWriter(self)  # type: ignore[attr-defined]
            self.socket.close()
