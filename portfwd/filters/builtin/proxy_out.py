# -*- test-case-name: tests.filters.builtin.test_proxy_out -*-
"""
``filter proxy-out version=2``: sends the client's address to the upstream in a PROXY header.

The header is written first, in one write, as soon as the upstream is connected. For a ``tls:`` target it is
sent before the TLS handshake, as HAProxy and nginx do; with ``inside=on`` it is sent inside of TLS. It has
the address of the client, or the one from `proxy-in`, and the address to which that client has connected. For
a client without an IP address the header has none (``UNKNOWN``, ``LOCAL``).

Version 2 can have TLVs: ``tlv=authority,alpn,unique-id,ssl,crc32c``. TLVs without a value are left out. A
unique id from a received header is sent on.

The upstream must expect the header and trust this host. The filter must come after all filters that route; if
bytes reach it before the upstream is connected, the session ends, because the header would not be first. Each
datagram gets a header of version 2 without TLVs; with ``datagrams=first`` only the first one does
(`portfwd.filters.builtin.proxy_datagrams`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from attrs import frozen

from portfwd.filters.api import (
    DONE,
    Close,
    Connection,
    Factory,
    Filter,
    Forward,
    Plugin,
    RouteClause,
    Verdict,
)
from portfwd.filters.builtin.proxy_datagrams import DatagramProxyOut
from portfwd.filters.builtin.sni import SERVER_NAME
from portfwd.filters.chain.inquiry import PROXY_TLVS
from portfwd.filters.options import OptionError, choice, option, switch, words
from portfwd.values import TO_UPSTREAM, Address, Direction, printable
from portfwd.wire.proxy_header import Header, inet_pair
from portfwd.wire.proxy_tlvs import (
    ALPN,
    AUTHORITY,
    CLIENT_CERT_CONN,
    CLIENT_CERT_SESS,
    CLIENT_SSL,
    MAX_UNIQUE_ID,
    SSL,
    SSL_CN,
    SSL_VERSION,
    UNIQUE_ID,
    ClientTLS,
    build_client_tls,
)
from portfwd.wire.proxy_v1 import build_v1
from portfwd.wire.proxy_v2 import build_v2

#: The values of ``tlv=``.
TLVS: Final = ("authority", "alpn", "unique-id", "ssl", "crc32c")


class ProxyOut(Filter):
    """Sends the header of one connection."""

    def __init__(self, version: int, tlvs: Collection[str] = (), *, inside: bool = False) -> None:
        """
        :param version: 1 or 2.
        :param tlvs: names from `TLVS`.
        :param inside: whether to send the header inside of TLS.
        """
        self._inside = inside
        self._version = version
        self._tlvs = tlvs
        self._connection: Connection | None = None

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        self._connection = connection
        return None

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`: `connected` is called first and does everything."""
        return Close("proxy-out has to stand behind the filters that route", abort=True)

    def connected(self, upstream: Address | None) -> Verdict:
        """See `IFilter`."""
        assert self._connection is not None
        if self._connection.introduced and not self._inside:
            return DONE
        return [Forward(self._header(self._connection)), DONE]

    def introduction(self) -> bytes:
        """See `Introducing`."""
        assert self._connection is not None
        return b"" if self._inside else self._header(self._connection)

    def _header(self, connection: Connection) -> bytes:
        source, destination = connection.source, connection.destination
        if self._version == 1:
            return build_v1(source, destination)
        tlvs = tuple(tlv for name in self._tlvs for tlv in _tlv(name, connection))
        if inet_pair(source, destination) is None:
            # HAProxy sends the same for clients of a unix socket, and refuses any other header for them as a
            # receiver. The upstream then uses the address of this host, as without a header.
            header = Header(tlvs=tlvs, local=True)
        else:
            header = Header(source, destination, tlvs)
        return build_v2(header, checksum="crc32c" in self._tlvs)


def _tlv(name: str, connection: Connection) -> tuple[tuple[int, bytes], ...]:
    """The TLV with the name `name`, or None."""
    kind, value = 0, b""
    tls = connection.tls
    if name == "authority":
        said = connection.tags.get(SERVER_NAME, "")
        kind, value = AUTHORITY, (tls.server_name if tls is not None else str(said)).encode()
    elif name == "alpn" and tls is not None:
        kind, value = ALPN, tls.alpn.encode()
    elif name == "unique-id":
        kind, value = UNIQUE_ID, _unique_id(connection)
    elif name == "ssl" and tls is not None:
        inner = [(SSL_VERSION, tls.version.encode())] if tls.version else []
        client, verify = CLIENT_SSL, 1
        if tls.client_name:
            # PROXY section 2.2.6: zero if "it was successfully verified, and non-zero otherwise"
            # CERT_CONN: a certificate "over the current connection"; CERT_SESS: "at least once".
            client, verify = CLIENT_SSL | CLIENT_CERT_SESS, 0
            if not tls.resumed:
                client |= CLIENT_CERT_CONN
            inner.append((SSL_CN, tls.client_name.encode()))
        kind, value = SSL, build_client_tls(ClientTLS(client, verify, tuple(inner)))
    return ((kind, value),) if value else ()


def _unique_id(connection: Connection) -> bytes:
    """
    The unique id of the received header, else a new one.

    A new one is unique unless a client has the same port for the same session number of two processes.
    """
    announced = connection.tags.get(PROXY_TLVS, ())
    if isinstance(announced, tuple):
        for kind, value in announced:
            if kind == UNIQUE_ID and value:
                return bytes(value)
    return f"{connection.id}/{connection.source}/{connection.rule}".encode()[:MAX_UNIQUE_ID]


@frozen
class ProxyOutOptions:
    """The clause's options."""

    version: str = option(choice("1", "2"), default="2", help="Of the header: 1 is text, 2 binary.")
    tlv: tuple[str, ...] = option(
        words,
        default=(),
        help=f"What version 2 says besides the addresses: some of {', '.join(TLVS)}.",
    )

    datagrams: str = option(
        choice("each", "first"),
        default="each",
        help="Which datagrams of a client get the header, where both sides are UDP.",
    )

    inside: bool = option(
        switch,
        default=False,
        help="To a tls: target, send the header inside of TLS instead of before the handshake.",
    )

    def __attrs_post_init__(self) -> None:
        """Refuse TLVs that are unknown or do not fit the version."""
        for name in self.tlv:
            if name not in TLVS:
                raise OptionError("tlv", f"there is no TLV '{printable(name)}': tlv= takes {', '.join(TLVS)}")
        if self.tlv and self.version == "1":
            raise OptionError(
                "tlv", "version 1 of the PROXY protocol has no TLVs: write version=2, or leave out tlv="
            )


def make_factory(options: ProxyOutOptions, clauses: Sequence[RouteClause]) -> Factory:
    """Make the factory of one clause."""
    version = int(options.version)

    def make(connection: Connection) -> Filter:
        if connection.network == "udp":
            return DatagramProxyOut(version, first_only=options.datagrams == "first")
        return ProxyOut(version, options.tlv, inside=options.inside)

    return Factory(make, directions=frozenset({TO_UPSTREAM}), leads=True)


PLUGIN = Plugin(
    "proxy-out", "tell the upstream by a PROXY header who the client is", ProxyOutOptions, make_factory
)
