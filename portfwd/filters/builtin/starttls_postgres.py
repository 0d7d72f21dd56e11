# -*- test-case-name: tests.filters.builtin.test_starttls_postgres -*-
"""
``filter starttls-postgres MODE``: TLS of PostgreSQL's protocol, which begins after a request in plain text.

A client that wants TLS sends the 8 bytes of ``SSLRequest`` and waits for one byte: ``S`` (TLS follows) or
``N`` (PostgreSQL's documentation, 55.2.10). Bytes after the request belong to TLS, also if they arrive
together with it, so an attacker cannot insert plain bytes before the encrypted ones (CVE-2021-23222). A
request for GSSAPI encryption is declined.

``terminate`` terminates TLS of clients, ``originate`` begins it with the upstream; a rule may have a clause
for each. ``answer`` accepts TLS and passes it on, so `sni` behind it can choose the upstream, and ``ask``
behind that requests TLS from the upstream before the client's first message.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import Final

from portfwd.filters.api import (
    DONE,
    NEED_MORE,
    Again,
    Close,
    Factory,
    Filter,
    Forward,
    Plugin,
    Reply,
    RouteClause,
    StartTLS,
    Verdict,
)
from portfwd.filters.builtin.starttls_options import StartTLSOptions
from portfwd.filters.builtin.starttls_upstream import AskingUpstream
from portfwd.values import TO_CLIENT, Direction, Side

#: The requests before a startup message: their lengths and codes.
SSL_REQUEST: Final = pack("!II", 8, 80877103)
GSS_REQUEST: Final = pack("!II", 8, 80877104)

#: The code of a request to cancel a query, after its length, which is 16, or more since PostgreSQL 18.
CANCEL: Final = pack("!I", 80877102)

#: The first byte of a TLS record, from a client that sends no request (PostgreSQL 17,
#: ``sslnegotiation=direct``).
_HANDSHAKE: Final = b"\x16"


def refusal(text: str) -> bytes:
    """An ErrorResponse: invalid authorization specification."""
    fields = b"SFATAL\0VFATAL\0C28000\0M" + text.encode() + b"\0\0"
    return b"E" + pack("!I", len(fields) + 4) + fields


class Answering(Filter):
    """Answers the requests of a client. Terminates TLS, or passes it on."""

    def __init__(self, *, terminates: bool, requires: bool) -> None:
        """:param requires: whether to refuse clients without TLS."""
        self._terminates = terminates
        self._requires = requires

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        if direction is TO_CLIENT:
            return DONE
        if data[:1] == _HANDSHAKE:
            return [StartTLS(Side.CLIENT, rest=data), DONE] if self._terminates else DONE
        if len(data) < len(SSL_REQUEST):
            return NEED_MORE
        request, rest = data[:8], data[8:]
        if request == GSS_REQUEST:
            return [Reply(b"N"), Again(rest)]
        if self._terminates and request[4:] == CANCEL:
            return DONE  # libpq before 17 sends it without TLS, which PostgreSQL always accepts
        if request != SSL_REQUEST:
            return Close("no TLS", reply=refusal("this server wants TLS")) if self._requires else DONE
        begin = StartTLS(Side.CLIENT, rest=rest) if self._terminates else Forward(rest)
        return [Reply(b"S"), begin, DONE]


class Asking(AskingUpstream):
    """Requests TLS from the upstream, and declines requests of the client."""

    request = SSL_REQUEST
    refusal = refusal("the server behind this one has no TLS")

    def wait(self, data: bytes) -> Verdict:
        """See `AskingUpstream`."""
        if self._originates and not self._waiting:
            if len(data) < len(SSL_REQUEST):
                return NEED_MORE
            if data[:8] in (SSL_REQUEST, GSS_REQUEST):
                return [Reply(b"N"), Again(data[8:])]
        return super().wait(data)

    def answered(self, data: bytes) -> Verdict:
        """See `AskingUpstream`."""
        return self.agree(data[1:]) if data[:1] == b"S" else self.refuse()


def make_factory(options: StartTLSOptions, clauses: Sequence[RouteClause]) -> Factory:
    """A factory for one clause."""
    if options.mode in ("originate", "ask"):
        return options.factory(lambda: Asking(originates=options.mode == "originate"))
    terminates = options.mode == "terminate"
    return options.factory(
        lambda: Answering(terminates=terminates, requires=options.require or not terminates)
    )


PLUGIN = Plugin(
    "starttls-postgres", "TLS that begins with PostgreSQL's SSLRequest", StartTLSOptions, make_factory
)
