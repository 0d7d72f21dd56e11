# -*- test-case-name: tests.wire.test_proxy_tlvs -*-
"""
The TLVs of PROXY headers of version 2: a sequence of type, length and value (PROXY section 2.2).

Unknown types are kept unchanged. The value of a known type is checked only if the specification defines its
form. A vector must end exactly at the end of its last TLV.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import frozen

from portfwd.wire.reading import Span, WireError

ALPN: Final = 0x01
AUTHORITY: Final = 0x02
CRC32C: Final = 0x03
NOOP: Final = 0x04
UNIQUE_ID: Final = 0x05
SSL: Final = 0x20
SSL_VERSION: Final = 0x21
SSL_CN: Final = 0x22
SSL_CIPHER: Final = 0x23
SSL_SIG_ALG: Final = 0x24
SSL_KEY_ALG: Final = 0x25
SSL_GROUP: Final = 0x26
SSL_SIG_SCHEME: Final = 0x27
SSL_CLIENT_CERT: Final = 0x28
NETNS: Final = 0x30

#: PROXY section 2.2.5: "an opaque byte sequence of up to 128 bytes".
MAX_UNIQUE_ID: Final = 128

#: Bits of the first byte of the SSL TLV (PROXY section 2.2.6): the client used TLS; it presented a
#: certificate on this connection; it presented one at least once in the TLS session.
CLIENT_SSL: Final = 0x01
CLIENT_CERT_CONN: Final = 0x02
CLIENT_CERT_SESS: Final = 0x04

_MAX_VALUE: Final = 0xFFFF

Tlvs = tuple[tuple[int, bytes], ...]


def read_tlvs(data: bytes) -> Tlvs:
    """
    Read a vector of TLVs.

    :param data: the whole vector.
    :raises WireError: the last TLV does not end with `data`, or a value is invalid for its type.
    """
    tlvs = []
    span = Span(data, "the TLVs of a PROXY header")
    while span:
        kind = span.number(1)
        value = span.span(2).rest()
        if kind == CRC32C and len(value) != 4:
            raise WireError("the checksum of a PROXY header has four bytes")
        if kind == UNIQUE_ID and len(value) > MAX_UNIQUE_ID:
            raise WireError(f"the unique id of a PROXY header has at most {MAX_UNIQUE_ID} bytes")
        tlvs.append((kind, value))
    return tuple(tlvs)


def build_tlvs(tlvs: Iterable[tuple[int, bytes]]) -> bytes:
    """
    Build a vector of TLVs.

    :raises ValueError: a value is too long for the length field or for its type.
    """
    parts = []
    for kind, value in tlvs:
        limit = MAX_UNIQUE_ID if kind == UNIQUE_ID else _MAX_VALUE
        if len(value) > limit:
            raise ValueError(f"a TLV of type {kind:#04x} has at most {limit} bytes")
        parts.append(kind.to_bytes(1, "big") + len(value).to_bytes(2, "big") + value)
    return b"".join(parts)


@frozen
class ClientTLS:
    """
    The value of an SSL TLV (PROXY section 2.2.6), which describes the TLS connection of the client.

    :ivar client: a combination of `CLIENT_SSL`, `CLIENT_CERT_CONN` and `CLIENT_CERT_SESS`.
    :ivar verify: 0 unless the verification of a certificate failed. HAProxy sends 0 also without a
        certificate.
    :ivar tlvs: `SSL_VERSION`, `SSL_CN` and the other types from `SSL_VERSION` on.
    """

    client: int = CLIENT_SSL
    verify: int = 1
    tlvs: Tlvs = ()

    @property
    def verified(self) -> bool:
        """Whether the client presented a valid certificate."""
        return not self.verify and bool(self.client & (CLIENT_CERT_CONN | CLIENT_CERT_SESS))


def read_client_tls(value: bytes) -> ClientTLS:
    """
    Read the value of an SSL TLV.

    :raises WireError: `value` is too short, or its TLVs do not end with it.
    """
    span = Span(value, "the SSL TLV of a PROXY header")
    client = span.number(1)
    verify = span.number(4)
    return ClientTLS(client, verify, read_tlvs(span.rest()))


def build_client_tls(tls: ClientTLS) -> bytes:
    """Build the value of an SSL TLV."""
    return bytes([tls.client]) + tls.verify.to_bytes(4, "big") + build_tlvs(tls.tlvs)
