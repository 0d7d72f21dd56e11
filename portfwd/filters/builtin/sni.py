# -*- test-case-name: tests.filters.builtin.test_sni -*-
"""
``filter sni``: chooses the target by the server name in a TLS handshake. TLS passes unchanged.

The keys of the ``route`` lines are the server name, and ``alpn:h2`` for each protocol that the client offers.
If no line matches, the target of the rule is dialled. Connections without TLS, or without a name and without
a protocol that has a line, are closed; with ``otherwise=pass`` they are sent to the target of the rule. A
client that sends nothing is always closed.

At a ``tls:`` listener the handshake is complete before filters are called. The keys are then the requested
name and the negotiated protocol, and no bytes are held.

The name is chosen by the client. It selects a target and is not an authorisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from portfwd.filters.api import (
    HOLD_TIMEOUT,
    Close,
    Connection,
    Factory,
    NeedMore,
    Plugin,
    RouteClause,
    Verdict,
)
from portfwd.filters.options import choice, duration, option
from portfwd.filters.routes import NameRouter, Routes, check_host
from portfwd.values import Direction, printable
from portfwd.wire import Need, WireError
from portfwd.wire.client_hello import MAX_HELLO, ClientHello, read_client_hello

#: Key of the name in `Connection.tags`, for other filters.
SERVER_NAME: Final = "server-name"

_ALPN: Final = "alpn:"
#: A fatal alert ``unrecognized_name`` (RFC 6066 section 3), so clients can report the cause.
UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\x00\x02\x02\x70"


class ServerName(NameRouter):
    """Routes one connection by its ClientHello."""

    _refusal = UNRECOGNIZED_NAME

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`: at a ``tls:`` listener the name is known already."""
        super().opened(connection)
        tls = connection.tls
        if tls is None:
            return None
        # An alert would be data inside of TLS.
        self._refusal = b""
        return self._decide(ClientHello(tls.server_name, (tls.alpn.encode(),) if tls.alpn else ()))

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        try:
            answer = read_client_hello(data)
        except WireError as error:
            return self._otherwise(str(error))
        if isinstance(answer, Need):
            return NeedMore(total=answer.total)
        return self._decide(answer.value)

    def _decide(self, hello: ClientHello) -> Verdict:
        assert self._connection is not None
        keys = [_ALPN + protocol.decode("latin-1").lower() for protocol in hello.alpn]
        if hello.server_name:
            self._connection.tags[SERVER_NAME] = hello.server_name
            keys.insert(0, hello.server_name)
        elif not self._pass and self._routes.find(keys) is None:
            return Close("a ClientHello without a server name", reply=self._refusal)
        return self._routes.decide(keys, self._refusal)

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        return self._otherwise("the connection ended before its ClientHello did")


def check_pattern(pattern: str) -> str:
    """
    Normalise a pattern of a name, or ``alpn:`` with a pattern of a protocol.

    :raises ValueError: nothing can match it.
    """
    if pattern[: len(_ALPN)].lower() != _ALPN:
        return check_host(pattern)
    protocol = pattern[len(_ALPN) :]
    if not (protocol.isascii() and protocol.isprintable() and protocol):
        raise ValueError(f"route pattern '{printable(pattern)}' names no protocol: write alpn:h2")
    return pattern.lower()


@frozen
class SNIOptions:
    """The clause's options."""

    otherwise: str = option(
        choice("close", "pass"),
        default="close",
        help="What is not TLS, or asks for nothing; pass goes to the rule's own target.",
    )
    timeout: float = option(duration, default=HOLD_TIMEOUT, help="How long the whole ClientHello may take.")


def make_factory(options: SNIOptions, clauses: Sequence[RouteClause]) -> Factory:
    """
    Make the factory of one clause.

    :raises ValueError: a route pattern can match nothing.
    """
    routes = Routes(clauses, check_pattern)
    return ServerName.factory(routes, options.otherwise, options.timeout, MAX_HELLO)


PLUGIN = Plugin(
    "sni", "the name in a TLS handshake chooses the target", SNIOptions, make_factory, takes_routes=True
)
