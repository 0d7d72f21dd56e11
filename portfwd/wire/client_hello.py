# -*- test-case-name: tests.wire.test_client_hello -*-
"""
The first message of a TLS client: server name, protocols, and kind of key exchange.

A ClientHello (RFC 8446 section 4.1.2, unchanged since TLS 1.0) may be split into several records, and these
into any number of segments. All lengths are checked, and the server name must be a valid DNS name.

With Encrypted Client Hello (ECH) the name is the public name of the outer message; the inner one cannot be
read. SSL 2 and messages of more than `MAX_HELLO` bytes are refused.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from portfwd.wire.reading import Need, Read, Span, TooLong, WireError

#: Maximum bytes of records of one ClientHello. Real ones have 200 to 2000 bytes; with post-quantum keys and
#: session tickets that contain certificates, about ten thousand. OpenSSL refuses more than 131396.
MAX_HELLO: Final = 64 * 1024

#: Maximum records of one message. 64 KiB need four. The largest message of a browser has 2 KiB (it contains a
#: post-quantum key share), which is 64 records of 32 bytes. Tools that hide the name from filters send about
#: ten records. Every call begins at the first record, so this also bounds the work.
MAX_RECORDS: Final = 64

#: RFC 8446 section 5.1: "The length MUST NOT exceed 2^14 bytes."
MAX_RECORD: Final = 2**14

_RECORD_HEAD: Final = 5
_MESSAGE_HEAD: Final = 4
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0
_ALPN: Final = 16
_SUPPORTED_GROUPS: Final = 10
_KEY_SHARE: Final = 51

#: RFC 8446 section 4.2.7: the groups of finite fields (RFC 7919), and the numbers reserved for them.
_FINITE_FIELDS: Final = range(0x0100, 0x0200)

#: P-256, P-384, P-521, X25519, X448: every TLS 1.3 server supports some of them.
_CURVES: Final = frozenset({23, 24, 25, 29, 30})

#: RFC 6066 section 3: a DNS name in ASCII without a trailing dot. One trailing dot and underscores are
#: accepted, because clients send both. DNS names have at most 253 characters (RFC 1035 section 2.3.4).
_NAME: Final = re.compile(rb"(?=.{1,253}\.?\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", re.DOTALL)


@frozen
class ClientHello:
    """
    A ClientHello.

    :ivar server_name: in lower case and without a trailing dot; empty if the client sent none.
    :ivar alpn: the protocols that the client offers, in its order (RFC 7301): ``h2``, ``http/1.1``.
    :ivar finite_field: with TLS 1.3, the server may choose a key exchange in a finite field. This is so if
        the first usable key share of the client is of such a group, or if the client sent no usable key
        share and offers such a group but no curve.
    """

    server_name: str = ""
    alpn: tuple[bytes, ...] = ()
    finite_field: bool = False


def read_client_hello(data: bytes) -> Read[ClientHello] | Need:
    """
    Read a ClientHello at the start of `data`.

    :returns: `used` includes the whole record in which the message ends.
    :raises WireError: the data is not TLS or is malformed.
    :raises TooLong: the message has more than `MAX_HELLO` bytes or `MAX_RECORDS` records.
    """
    message = b""
    wanted = _MESSAGE_HEAD
    position = records = 0
    while len(message) < wanted:
        if records == MAX_RECORDS:
            raise TooLong(f"a ClientHello has at most {MAX_RECORDS} records here")
        end = _record_end(data, position)
        if end is None:
            return Need(position + _RECORD_HEAD)
        if end > MAX_HELLO:
            raise TooLong(f"a ClientHello has at most {MAX_HELLO} bytes here")
        part = data[position + _RECORD_HEAD : end]
        message += part
        if message and message[0] != _CLIENT_HELLO:
            raise WireError("TLS does not begin with a ClientHello")
        if len(message) >= _MESSAGE_HEAD:
            wanted = _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD], "big")
            if wanted > MAX_HELLO:
                raise TooLong(f"a ClientHello has at most {MAX_HELLO} bytes here")
        if len(data) < end:
            return Need(end)
        position, records = end, records + 1
    return Read(_hello(message[_MESSAGE_HEAD:wanted]), position)


def _record_end(data: bytes, start: int) -> int | None:
    """Return the end of the record that begins at `start`; None if its header is incomplete."""
    head = data[start : start + _RECORD_HEAD]
    if head[:1] not in (b"", bytes([_HANDSHAKE])):
        raise WireError("this is not TLS: no handshake record" if not start else "a ClientHello is cut short")
    if head[1:2] not in (b"", b"\x03"):
        raise WireError("this is not TLS: no version of it")
    if len(head) < _RECORD_HEAD:
        return None
    length = int.from_bytes(head[3:], "big")
    # RFC 8446 section 5.1: "Implementations MUST NOT send zero-length fragments of Handshake types"
    if not 0 < length <= MAX_RECORD:
        raise WireError(f"a TLS record has 1 to {MAX_RECORD} bytes")
    return start + _RECORD_HEAD + length


def _hello(body: bytes) -> ClientHello:
    """Read the body of a complete message."""
    span = Span(body, "a ClientHello")
    if span.number(2) >> 8 != 3:
        raise WireError("a ClientHello has a version that is not of TLS")
    span.take(32)  # random
    if len(span.span(1).rest()) > 32:
        raise WireError("a ClientHello has a session id of more than 32 bytes")
    suites = span.span(2).rest()
    if not suites or len(suites) % 2:
        raise WireError("a ClientHello has a list of cipher suites that is empty or cut")
    if not span.span(1).rest():
        raise WireError("a ClientHello has no compression method")
    if not span:
        # RFC 5246 section 7.4.1.2: "presence of extensions can be detected" by bytes after the methods.
        return ClientHello()
    extensions = span.span(2)
    span.finish()
    seen = set()
    name = ""
    alpn: tuple[bytes, ...] = ()
    groups: tuple[int, ...] = ()
    keys: tuple[int, ...] | None = None
    while extensions:
        kind, content = extensions.number(2), extensions.span(2)
        if kind in seen:
            # RFC 8446 section 4.2: "There MUST NOT be more than one extension of the same type"
            raise WireError("a ClientHello has an extension twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _server_name(content)
        elif kind == _ALPN:
            alpn = _protocols(content)
        elif kind == _SUPPORTED_GROUPS:
            groups = _groups(content)
        elif kind == _KEY_SHARE:
            keys = _keys(content)
    return ClientHello(name, alpn, _takes_finite_field(groups, keys))


def _takes_finite_field(groups: tuple[int, ...], keys: tuple[int, ...] | None) -> bool:
    """
    Whether a server may choose a finite field. A server uses the first key share that it supports.

    Groups that are neither finite fields nor `_CURVES` are ignored, because the server may not support them.
    """
    if keys is None:  # the client does not offer TLS 1.3
        return False
    known = [group for group in keys if group in _FINITE_FIELDS or group in _CURVES]
    if known:
        return known[0] in _FINITE_FIELDS
    return any(group in _FINITE_FIELDS for group in groups) and _CURVES.isdisjoint(groups)


def _groups(content: Span) -> tuple[int, ...]:
    """RFC 8446 section 4.2.7: the groups that the client supports, in its order."""
    names = content.span(2)
    content.finish()
    found = []
    while names:
        found.append(names.number(2))
    return tuple(found)


def _keys(content: Span) -> tuple[int, ...]:
    """RFC 8446 section 4.2.8: the groups of the key shares, in the client's order."""
    keys = content.span(2)
    content.finish()
    found = []
    while keys:
        found.append(keys.number(2))
        keys.span(2)
    return tuple(found)


def _server_name(content: Span) -> str:
    """RFC 6066 section 3: a list with at most one name of each type; host names are the only type defined."""
    names = content.span(2)
    content.finish()
    kind, name = names.number(1), names.span(2).rest()
    names.finish()
    if kind != _HOST_NAME or _NAME.fullmatch(name) is None:
        raise WireError("a ClientHello has a server name that is no host name")
    return name.decode("ascii").lower().removesuffix(".")


def _protocols(content: Span) -> tuple[bytes, ...]:
    """RFC 7301 section 3.1: "Empty strings MUST NOT be included"."""
    names = content.span(2)
    content.finish()
    found = []
    while names:
        found.append(names.span(1).rest())
        if not found[-1]:
            raise WireError("a ClientHello has an empty protocol name")
    if not found:
        raise WireError("a ClientHello has an empty list of protocols")
    return tuple(found)
