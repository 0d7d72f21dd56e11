# -*- test-case-name: tests.streams.transports.test_tls -*-
"""
The interface between the TLS layer of a connection and the configuration of TLS.

Implementations have the certificates and judge the peer.
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
    A client is refused because of its first message.

    :ivar alert: the alert for the client.
    """

    def __init__(self, text: str, alert: bytes) -> None:
        super().__init__(text)
        self.alert = alert


class Before(NamedTuple):
    """
    A header before TLS.

    :ivar size: its size in bytes.
    :ivar client: the announced client; None for none.
    :ivar local: the address to which that client has connected.
    """

    size: int
    client: Address | None = None
    local: Address | None = None


#: Parses the bytes before TLS. None if more bytes are needed; raises `WireError`.
Preamble = Callable[[bytes], "Before | None"]


class TLSSide(Protocol):
    """
    Makes the TLS objects of connections, and judges peers.

    :ivar speaks_first: whether it is the TLS client.
    :ivar accepts_eof: whether an end without ``close_notify`` is accepted as an end.
    """

    @property
    def speaks_first(self) -> bool:
        """See the class."""

    @property
    def accepts_eof(self) -> bool:
        """See the class."""

    def start(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, hello: ClientHello) -> ssl.SSLObject:
        """
        Make the TLS object of a new connection.

        :param hello: the ClientHello of a client; an empty one for the TLS client.
        :raises HandshakeRefused: the client is refused.
        """

    def judge(self, tls: ssl.SSLObject, hello: ClientHello) -> TLSInfo:
        """
        The result of a handshake.

        :raises NotAdmitted: the peer is not admitted; the text says why.
        """

    def leave(self, tls: ssl.SSLObject) -> None:
        """A connection after a successful handshake has ended. Its session may be stored for resumption."""
