"""A TLS client or server of the standard library's on a blocking socket, whose ends are sent by hand."""

from __future__ import annotations

import select
import socket
import ssl

from tests.integration.forwarder import TIMEOUT
from tests.streams.tls_peers import Peer


class TLSConversation:
    """
    One connection.

    :ivar peer: what TLS has got so far.
    :ivar end: how the connection ended below: ``open``, ``fin`` or ``reset``.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """:param name: what a client asks for; None for a server."""
        self.sock = sock
        self.sock.settimeout(TIMEOUT)
        self.peer = Peer(context, name, session)
        self.end = "open"

    def __enter__(self) -> TLSConversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def step(self) -> None:
        """Send what there is, and read once."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            self.end = "reset"
            return
        if not data:
            self.end = "fin"
            return
        self._send(self.peer.step(data))

    def _send(self, data: bytes) -> None:
        if data:
            self.sock.sendall(data)

    def shake(self) -> None:
        """Do the handshake, or see it fail."""
        self._send(self.peer.step(b""))
        while self.end == "open" and self.peer.problem is None and not self.peer.through:
            self.step()

    def say(self, data: bytes) -> None:
        """Send `data`."""
        self._send(self.peer.say(data))

    def notify(self) -> None:
        """Send a ``close_notify``."""
        self._send(self.peer.notify())

    def read(self, count: int) -> bytes:
        """What came, once it is `count` bytes or over."""
        while len(self.peer.received) < count and self.end == "open" and not self.peer.notified:
            self.step()
        return self.peer.received

    def exchange(self, data: bytes, count: int) -> bytes:
        """
        Send `data` while `count` bytes come, each when the connection below can.

        By one thread: before Python 3.13 a TLS object is not safe between two.
        """
        waiting = memoryview(self.peer.say(data))
        while waiting or (len(self.peer.received) < count and self.end == "open"):
            readable, writable, _ = select.select([self.sock], [self.sock] if waiting else [], [], TIMEOUT)
            if not readable and not writable:
                raise TimeoutError(f"nothing moved: {len(waiting)} to send, {len(self.peer.received)} came")
            if writable:
                waiting = waiting[self.sock.send(waiting[:65536], socket.MSG_DONTWAIT) :]
            if readable:
                self.step()
        return self.peer.received

    def read_to_end(self) -> bytes:
        """What came, once the connection below has ended."""
        while self.end == "open":
            self.step()
        return self.peer.received
