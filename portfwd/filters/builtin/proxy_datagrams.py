# -*- test-case-name: tests.filters.builtin.test_proxy_datagrams -*-
"""
`proxy-in` and `proxy-out` for datagrams, with a header of version 2 in each datagram or in the first one.

Section 2.2 of the PROXY specification has a transport for datagrams (``DGRAM``), but does not say which
datagrams have a header. nginx and portfwd send it in each, so a lost datagram does not matter; frp and others
send it only in the first. `proxy-in` accepts both: the first datagram must have a header, later ones may. A
later datagram that does not begin with the signature is passed unchanged. Answers have no header. A first
datagram without a header, or one with an invalid header, is dropped; the association continues, because such
a datagram may be forged. Version 1 is only for connections and is refused.
"""

from __future__ import annotations

from portfwd.filters.api import DONE, DROP, Announce, Close, Connection, Filter, Forward, Route, Verdict
from portfwd.values import TO_UPSTREAM, Direction
from portfwd.wire import Need, WireError
from portfwd.wire.proxy_header import Header, inet_pair
from portfwd.wire.proxy_v2 import SIGNATURE, build_v2, read_v2


class DatagramProxyIn(Filter):
    """
    Removes the header from each datagram of a trusted peer.

    The first valid header announces the client. The dial waits for it.
    """

    def __init__(self) -> None:
        self._known = False
        self._told = False
        self._connection: Connection | None = None

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        self._connection = connection
        return None

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        if direction is not TO_UPSTREAM:
            return DONE
        if self._known and not data.startswith(SIGNATURE):
            return None
        try:
            answer = read_v2(data)
        except WireError as error:
            return self._drop(str(error))
        if isinstance(answer, Need):
            return self._drop("no whole PROXY header of version 2")
        header, rest = answer.value, Forward(data[answer.used :])
        if self._known:
            return rest
        self._known = True
        if header.source is None or not header.datagram:
            return (Route(), rest)
        return (Announce(header.source, header.destination, header.tlvs), Route(), rest)

    def _drop(self, why: str) -> Verdict:
        """Drop a datagram. Log the first one of an association."""
        if not self._told and self._connection is not None:
            self._told = True
            self._connection.log.warn(
                "proxy-in dropped a datagram of {peer}: {why}; the closing line counts all of them",
                peer=str(self._connection.client),
                why=why,
            )
        return DROP


class DatagramProxyOut(Filter):
    """Adds a header to each datagram of a client, or to the first one."""

    def __init__(self, version: int, *, first_only: bool = False) -> None:
        """
        :param version: version of the header; it must be 2.
        :param first_only: whether only the first datagram gets a header.
        """
        self._version = version
        self._first_only = first_only
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
        if self._first_only:
            return (Forward(self._header + data), DONE)
        return self._header + data


def _header(connection: Connection) -> bytes:
    """The header for datagrams of `connection`."""
    source, destination = connection.source, connection.destination
    if inet_pair(source, destination) is None:
        return build_v2(Header(local=True))
    return build_v2(Header(source, destination, datagram=True))
