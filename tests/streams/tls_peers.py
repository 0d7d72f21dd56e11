"""TLS in memory: a peer of the standard library's, and a transport that keeps what it is given."""

from __future__ import annotations

import ssl
from typing import Any

import trustme
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python.failure import Failure

from portfwd.streams.transports.tls import TLSLayer
from portfwd.values import Address

CA = trustme.CA()
LEAF = CA.issue_cert("upstream.test", "127.0.0.1")


def server_context(leaf: trustme.LeafCert = LEAF) -> ssl.SSLContext:
    """A server's context with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def client_context(*, trusts: trustme.CA = CA) -> ssl.SSLContext:
    """A client's context that trusts one authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusts.configure_trust(context)
    return context


class Wire:
    """
    A transport in memory, as far as a layer uses one.

    :ivar sent: what was written and not taken.
    :ivar calls: what else was asked, in order.
    """

    def __init__(self) -> None:
        self.sent = b""
        self.calls: list[str] = []

    def write(self, data: bytes) -> None:
        self.sent += data

    def take(self) -> bytes:
        """What was written since."""
        data, self.sent = self.sent, b""
        return data

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_: self.calls.append(name)


class Peer:
    """
    The other end of TLS.

    :ivar received: what it was sent.
    :ivar notified: it got a ``close_notify``.
    :ivar through: its handshake is.
    :ivar problem: why it failed.
    """

    def __init__(
        self, context: ssl.SSLContext, name: str | None = None, session: ssl.SSLSession | None = None
    ) -> None:
        """:param name: what a client asks for; None for a server."""
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_side=name is None, server_hostname=name, session=session
        )
        self.received = b""
        self.notified = False
        self.through = False
        self.problem: ssl.SSLError | None = None

    def step(self, data: bytes) -> bytes:
        """Take what the wire has; give what there is for it."""
        self.incoming.write(data)
        try:
            self.tls.do_handshake()
            self.through = True
            while not self.notified:
                piece = self.tls.read(65536)
                self.received += piece
                self.notified = not piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.notified = True
        except ssl.SSLError as problem:
            self.problem = problem
        return self.outgoing.read()

    def say(self, data: bytes) -> bytes:
        """Encrypt."""
        self.tls.write(data)
        return self.outgoing.read()

    def notify(self) -> bytes:
        """A ``close_notify``."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass  # it waits for the other one's
        return self.outgoing.read()


class Heard:
    """
    A stream that keeps what it is told, as far as a layer tells.

    :ivar told: what happened, in order.
    :ivar refuses: a client that is announced may not shake hands.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self.refuses = False
        self.data = b""
        self.tls: Any = None
        self.reason: Failure | None = None

    def makeConnection(self, transport: Any) -> None:
        self.told.append("made")

    def announced(self, client: Address, local: Address | None) -> bool:
        self.told.append(f"announced {client}")
        return not self.refuses

    def handshake_began(self) -> None:
        self.told.append("began")

    def handshakeCompleted(self) -> None:
        self.told.append("opened")

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def readConnectionLost(self) -> None:
        self.told.append("ended")

    def writeConnectionLost(self) -> None:
        self.told.append("end sent")

    def writing_failed(self) -> None:
        self.told.append("writing failed")

    def wrote(self) -> None:
        self.told.append("wrote")

    def connectionLost(self, reason: Failure) -> None:
        self.reason = reason
        self.told.append("lost")


def exchange(layer: TLSLayer, wire: Wire, peer: Peer, data: bytes = b"") -> None:
    """Carry bytes to and fro until there are none; `data` goes to the layer first."""
    for _ in range(20):
        if data:
            layer.dataReceived(data)
        said = wire.take()
        data = peer.step(said)
        if not said and not data:
            break
    lose(layer, wire)


def lose(layer: TLSLayer, wire: Wire) -> None:
    """Do what the transport was asked last: be lost."""
    if wire.calls and wire.calls[-1] == "abortConnection":
        layer.connectionLost(Failure(ConnectionAborted()))
    elif wire.calls and wire.calls[-1] == "loseConnection":
        layer.connectionLost(Failure(ConnectionDone()))
