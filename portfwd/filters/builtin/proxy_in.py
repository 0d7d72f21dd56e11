# -*- test-case-name: tests.filters.builtin.test_proxy_in -*-
"""
``filter proxy-in trust=10.0.0.0/8``: reads the client's address from the PROXY header of a load balancer.

A connection begins with a PROXY header of version 1 or 2 (`portfwd.wire.proxy`); the dial waits for it.
Access lists, limits, logs and the filters behind this one then use the client in the header. A header without
usable addresses (``LOCAL``, ``UNKNOWN``, an unknown family) changes nothing.

Only peers in ``trust`` may send a header, and they must. Bytes of other peers are never parsed as a header:
with ``untrusted=close`` they are refused, with ``untrusted=pass`` their bytes pass unchanged. Clients of unix
sockets are trusted, because the permissions of the file decide, as for access lists. This filter must come
before all others. Datagrams each have a header of version 2, or only the first one
(`portfwd.filters.builtin.proxy_datagrams`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from portfwd.filters.api import (
    DONE,
    HOLD_TIMEOUT,
    Announce,
    Close,
    Connection,
    Factory,
    Filter,
    Forward,
    NeedMore,
    Plugin,
    RouteClause,
    Verdict,
)
from portfwd.filters.builtin.proxy_datagrams import DatagramProxyIn
from portfwd.filters.options import Network, between, choice, duration, networks, option
from portfwd.values import TO_UPSTREAM, Direction, InetAddress, unmapped
from portfwd.wire import Need, WireError
from portfwd.wire.proxy import read_header
from portfwd.wire.proxy_header import MAX_HEADER

#: PROXY section 2: receivers should wait for a header "with a minimum timeout of 3 seconds", the time to
#: repeat a lost segment.
MIN_TIMEOUT: Final = 3.0


class ProxyIn(Filter):
    """Reads the header of one connection of a trusted peer."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        try:
            answer = read_header(data)
        except WireError as error:
            return Close(str(error))
        if isinstance(answer, Need):
            return NeedMore(total=answer.total)
        rest = Forward(data[answer.used :])
        header = answer.value
        if header.source is None or header.datagram:
            return [rest, DONE]
        return [Announce(header.source, header.destination, header.tlvs), rest, DONE]

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`: an incomplete header is not passed."""
        return Close("the connection ended before its PROXY header did")


class Refusal(Filter):
    """Refuses one connection."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        return Close(self._reason)


def trusts(trust: Sequence[Network], connection: Connection) -> bool:
    """Whether the peer of `connection` may send a header."""
    peer = connection.client
    if isinstance(peer, InetAddress):
        address = ipaddress.ip_address(unmapped(peer.host.partition("%")[0]))
        return any(address in network for network in trust)
    return connection.network == "unix"


@frozen
class ProxyInOptions:
    """The clause's options."""

    trust: tuple[Network, ...] = option(
        networks, help="The peers that send a header, and must.", example="10.0.0.0/8"
    )
    untrusted: str = option(
        choice("close", "pass"), default="close", help="What becomes of others; pass leaves them untouched."
    )
    timeout: float = option(
        between(duration, MIN_TIMEOUT), default=HOLD_TIMEOUT, help="How long the whole header may take."
    )


def make_factory(options: ProxyInOptions, clauses: Sequence[RouteClause]) -> Factory:
    """Make the factory of one clause."""

    def make(connection: Connection) -> Filter | None:
        if trusts(options.trust, connection):
            return DatagramProxyIn() if connection.network == "udp" else ProxyIn()
        if options.untrusted == "pass":
            return None
        return Refusal("not one of the peers that are trusted to send PROXY headers")

    return Factory(
        make,
        directions=frozenset({TO_UPSTREAM}),
        routes=True,
        max_hold=MAX_HEADER,
        hold_timeout=options.timeout,
        announces=True,
    )


PLUGIN = Plugin("proxy-in", "the client is whom a PROXY header names", ProxyInOptions, make_factory)
