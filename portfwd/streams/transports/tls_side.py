# -*- test-case-name: tests.streams.transports.test_tls -*-
"""
What the TLS layer of a connection asks whoever has the certificates and judges the peer.

It is an interface: what a rule's options mean is said where they are read.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from portfwd.values import Address, TLSInfo
from portfwd.wire.client_hello import ClientHello


def fatal_alert(description: int) -> bytes:
    """A record of TLS 1.2 with a fatal alert (RFC 8446 section 6)."""
    return bytes((21, 3, 3, 0, 2, 2, description))


#: RFC 8446 section 6.2, RFC 6066 section 3, RFC 7301 section 3.2.
HANDSHAKE_FAILURE: Final = fatal_alert(40)
DECODE_ERROR: Final = fatal_alert(50)
UNRECOGNIZED_NAME: Final = fatal_alert(112)
NO_APPLICATION_PROTOCOL: Final = fatal_alert(120)


class HandshakeRefused(Exception):
    """
    A client is refused by what its first message says.

    :ivar alert: what it is told.
    """

    def __init__(self, text: str, alert: bytes) -> None:
        super().__init__(text)
        self.alert = alert


class Before(NamedTuple):
    """
    What stands before TLS.

    :ivar size: of it, in bytes.
    :ivar client: who it says the client is; None: nobody.
    :ivar local: where that client connected to.
    """

    size: int
    client: Address | None = None
    local: Address | None = None


#: Reads what stands before TLS, None: more bytes are needed for that; raises `WireError`.
Preamble = Callable[[bytes], "Before | None"]


class TLSSide(Protocol):
    """
    Makes the TLS of connections, and judges who was met.

    :ivar speaks_first: it is the client of TLS.
    :ivar accepts_eof: an end of the connection without ``close_notify`` is an end as good as any.
    """

    @property
    def speaks_first(self) -> bool:
        """See the class."""

    @property
    def accepts_eof(self) -> bool:
        """See the class."""

    def start(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, hello: ClientHello) -> ssl.SSLObject:
        """
        TLS of a new connection, before its handshake.

        :param hello: what a client said; an empty one for the side that speaks first.
        :raises HandshakeRefused: this client is not served.
        """

    def judge(self, tls: ssl.SSLObject, hello: ClientHello) -> TLSInfo:
        """
        Say what the handshake said.

        :raises NotAdmitted: the peer may not come in; the text says why.
        """

    def leave(self, tls: ssl.SSLObject) -> None:
        """A connection whose handshake was good is over: its session may be kept."""
