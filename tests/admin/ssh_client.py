"""An SSH client for tests of the manhole. It sends given bytes and stores received ones."""

from __future__ import annotations

import struct
from typing import Any

from twisted.conch.ssh import channel, common, connection, session, transport, userauth
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ClientFactory, connectionDone
from twisted.python.failure import Failure


class Shell(channel.SSHChannel):
    """
    A channel, of the kind ``session`` mostly.

    :ivar heard: what came by it.
    :ivar state: ``asked``, ``open``, ``refused`` or ``closed``.
    :ivar exit_code: what the server said at the end.
    """

    name = b"session"

    def __init__(self, kind: bytes = b"session", data: bytes = b"") -> None:
        super().__init__()
        self.name = kind
        self.extra = data
        self.heard = b""
        self.state = "asked"
        self.exit_code: int | None = None

    def request_exit_status(self, data: bytes) -> None:
        """What is over has a result."""
        self.exit_code = int.from_bytes(data)

    def channelOpen(self, specificData: bytes) -> None:
        self.state = "open"

    def openFailed(self, reason: object) -> None:
        self.state = "refused"

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def closed(self) -> None:
        self.state = "closed"

    def ask(self, request: bytes, data: bytes = b"") -> Deferred[Any]:
        """A request; fails if it is refused."""
        return self.conn.sendRequest(self, request, data, wantReply=1)

    def prompt(self, *, terminal: bool = True) -> None:
        """Ask for a prompt."""
        if terminal:
            self.ask(b"pty-req", session.packRequest_pty_req(b"xterm", (30, 100, 0, 0), b""))
        self.ask(b"shell")

    def type(self, text: str) -> None:
        """Type a line."""
        self.write(text.encode() + b"\r")


class _Connection(connection.SSHConnection):
    def __init__(self, client: SSHClient) -> None:
        super().__init__()
        self._client = client

    def serviceStarted(self) -> None:
        self._client.connection = self


class _Authentication(userauth.SSHUserAuthClient):
    def __init__(self, client: SSHClient, connection: _Connection) -> None:
        super().__init__(client.user, connection)
        self._client = client
        self._offered = False

    def tryAuth(self, kind: bytes) -> Any:
        self._client.methods.append(kind.decode())
        return super().tryAuth(kind)

    def getPublicKey(self) -> Key | None:
        if self._offered or self._client.key is None:
            return None
        self._offered = True
        return self._client.key.public()

    def getPrivateKey(self) -> Deferred[Key]:
        assert self._client.key is not None
        return succeed(self._client.key)

    def getPassword(self, prompt: bytes | None = None) -> Deferred[bytes]:
        return succeed(b"secret")

    def serviceStopped(self) -> None: ...


class ClientTransport(transport.SSHClientTransport):
    """The client's transport, which trusts every host key."""

    client: SSHClient

    def verifyHostKey(self, pubKey: bytes, fingerprint: bytes) -> Deferred[bool]:
        self.client.host_key = Key.fromString(pubKey)
        return succeed(True)

    def connectionSecure(self) -> None:
        if self.client.logs_in:
            self.requestService(_Authentication(self.client, _Connection(self.client)))

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        self.client.last_words = description.decode()

    def connectionLost(self, reason: Failure | None = connectionDone) -> None:
        self.client.lost = True
        super().connectionLost(reason)


class SSHClient(ClientFactory):
    """
    One client.

    :ivar connection: once it is logged in.
    :ivar methods: of logging in, that were tried.
    :ivar host_key: the server's.
    :ivar farewell: the server's last words.
    :ivar lost: the connection is gone.
    """

    noisy = False

    def __init__(self, key: Key | None = None, *, user: bytes = b"me", logs_in: bool = True) -> None:
        self.key = key
        self.user = user
        self.logs_in = logs_in
        self.connection: _Connection | None = None
        self.methods: list[str] = []
        self.host_key: Key | None = None
        self.last_words = ""
        self.lost = False
        self.transport: ClientTransport | None = None

    def buildProtocol(self, address: object) -> ClientTransport:
        self.transport = ClientTransport()
        self.transport.client = self
        return self.transport

    def open(self, kind: bytes = b"session", data: bytes = b"") -> Shell:
        """Open a channel."""
        assert self.connection is not None
        shell = Shell(kind, data)
        self.connection.openChannel(shell, data)
        return shell

    def forward(self) -> Shell:
        """Ask for a connection from the server's side: ``ssh -L``."""
        where = common.NS(b"127.0.0.1") + struct.pack(">L", 22)
        return self.open(b"direct-tcpip", where + where)

    def listen(self) -> Deferred[Any]:
        """Ask for a port on the server's side: ``ssh -R``."""
        assert self.connection is not None
        where = common.NS(b"127.0.0.1") + struct.pack(">L", 0)
        answer: Deferred[Any] = self.connection.sendGlobalRequest(b"tcpip-forward", where, wantReply=1)
        return answer
