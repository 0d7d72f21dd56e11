# -*- test-case-name: tests.filters.builtin.test_starttls_postgres -*-
"""
``filter starttls-postgres MODE``: TLS of PostgreSQL's protocol, which begins behind a request in plain bytes.

A client that wants TLS sends ``SSLRequest``, 8 bytes, and waits for one byte: ``S`` (TLS follows) or ``N``
(PostgreSQL's documentation, 55.2.10). What comes behind the request belongs to TLS, also if it comes with the
request, so nobody can put plain bytes before the encrypted ones (CVE-2021-23222). A request for GSSAPI
encryption is declined.

``terminate`` ends TLS with clients here, ``originate`` begins it with the upstream; a rule may have a
clause for each. ``answer`` agrees to TLS and passes it, so that `sni` behind it can choose the upstream,
and ``ask`` behind that asks the upstream for TLS before the client's first message.
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

#: The requests that may come before a startup message: their length and code.
SSL_REQUEST: Final = pack("!II", 8, 80877103)
GSS_REQUEST: Final = pack("!II", 8, 80877104)

#: The code of a request to cancel a query, behind its length: 16, or more since PostgreSQL 18.
CANCEL: Final = pack("!I", 80877102)

#: A record of TLS: the client begins without a request (PostgreSQL 17, ``sslnegotiation=direct``).
_HANDSHAKE: Final = b"\x16"


def refusal(text: str) -> bytes:
    """An ErrorResponse: invalid authorization specification."""
    fields = b"SFATAL\0VFATAL\0C28000\0M" + text.encode() + b"\0\0"
    return b"E" + pack("!I", len(fields) + 4) + fields


class Answering(Filter):
    """Answers a client's requests; TLS ends here, or is passed."""

    def __init__(self, *, terminates: bool, requires: bool) -> None:
        """:param requires: a client without TLS is refused."""
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
            return DONE  # libpq before 17 sends it in plain, and PostgreSQL takes it so where TLS is required
        if request != SSL_REQUEST:
            return Close("no TLS", reply=refusal("this server wants TLS")) if self._requires else DONE
        begin = StartTLS(Side.CLIENT, rest=rest) if self._terminates else Forward(rest)
        return [Reply(b"S"), begin, DONE]


class Asking(AskingUpstream):
    """Asks the upstream for TLS; declines what a client asks for."""

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
