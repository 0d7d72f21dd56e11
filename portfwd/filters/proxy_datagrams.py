# -*- test-case-name: tests.filters.test_proxy_datagrams -*-
"""
`proxy-in` and `proxy-out` for datagrams: a header of version 2 in each of them.

Section 2.2 of the PROXY specification has a kind of transport for datagrams (``DGRAM``), but does not say
which of them have a header. Here each of a client's has one, so that nothing hangs on the first one arriving;
answers have none. A header that is missing or wrong costs the datagram: it may be forged or cut, and the
association is not to suffer for it. Version 1 is text for connections, and is refused.
"""

from __future__ import annotations

from portfwd.filters.api import DONE, DROP, Announce, Close, Connection, Filter, Forward, Route, Verdict
from portfwd.values import TO_UPSTREAM, Direction
from portfwd.wire import Need, WireError
from portfwd.wire.proxy_header import Header, inet_pair
from portfwd.wire.proxy_v2 import build_v2, read_v2


class DatagramProxyIn(Filter):
    """
    Takes the header off each datagram of a client that is trusted.

    The first good one says who the client is; the dial waits for it.
    """

    def __init__(self) -> None:
        self._known = False

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        if direction is not TO_UPSTREAM:
            return DONE
        try:
            answer = read_v2(data)
        except WireError:
            return DROP
        if isinstance(answer, Need):
            return DROP
        header, rest = answer.value, Forward(data[answer.used :])
        if self._known:
            return rest
        self._known = True
        if header.source is None or not header.datagram:
            return (Route(), rest)
        return (Announce(header.source, header.destination, header.tlvs), Route(), rest)


class DatagramProxyOut(Filter):
    """Puts a header before each datagram of a client."""

    def __init__(self, version: int) -> None:
        """:param version: of the header; only 2 has one for datagrams."""
        self._version = version
        self._connection: Connection | None = None
        self._header: bytes | None = None

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        self._connection = connection
        if self._version == 1:
            return Close("version 1 of the PROXY protocol has no datagrams: write proxy-out version=2")
        return None

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        if direction is not TO_UPSTREAM:
            return DONE
        if self._header is None:
            assert self._connection is not None
            self._header = _header(self._connection)
        return self._header + data


def _header(connection: Connection) -> bytes:
    """That of every datagram of `connection`."""
    source, destination = connection.source, connection.destination
    if inet_pair(source, destination) is None:
        return build_v2(Header(local=True))
    return build_v2(Header(source, destination, datagram=True))
