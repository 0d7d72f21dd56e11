# -*- test-case-name: tests.wire.test_proxy_v1 -*-
r"""
PROXY headers of version 1: one line of text, ``PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n``.

The reader accepts exactly what PROXY section 2.1 allows: single blanks, no further fields, no leading zeros,
addresses of the named family, and a line of at most 107 bytes that ends with CRLF. After ``PROXY UNKNOWN``
the rest of the line is ignored. Everything else is refused.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from portfwd.values import Address, InetAddress, unmapped
from portfwd.wire.proxy_header import Header, inet_pair
from portfwd.wire.reading import Need, Read, TooLong, WireError

SIGNATURE: Final = b"PROXY "

#: PROXY section 2.1: "a 108-byte buffer is always enough to store all the line and a trailing zero".
MAX_LINE: Final = 107

_KINDS: Final[dict[bytes, type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]]] = {
    b"TCP4": ipaddress.IPv4Address,
    b"TCP6": ipaddress.IPv6Address,
}
_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")
_UNKNOWN: Final = b"UNKNOWN"


def read_v1(data: bytes) -> Read[Header] | Need:
    """
    Read a header at the start of `data`.

    :raises WireError: the header is missing or malformed.
    """
    if not data.startswith(SIGNATURE) and not SIGNATURE.startswith(data[: len(SIGNATURE)]):
        raise WireError("this does not begin with a PROXY header")
    line = _line(data[:MAX_LINE])
    if line is None:
        return Need(len(data) + 1)
    used = len(line) + 2
    fields = line[len(SIGNATURE) :].split(b" ")
    if fields[0] == _UNKNOWN:
        # "the receiver must ignore anything presented before the CRLF is found"
        return Read(Header(), used)
    if len(fields) != 5 or fields[0] not in _KINDS:
        raise WireError("a PROXY line has TCP4 or TCP6, two addresses and two ports, or UNKNOWN")
    kind = _KINDS[fields[0]]
    source, destination = (_host(kind, text) for text in fields[1:3])
    source_port, destination_port = (_port(text) for text in fields[3:5])
    header = Header(InetAddress(source, source_port), InetAddress(destination, destination_port))
    return Read(header, used)


def _line(data: bytes) -> bytes | None:
    """Return the line without its CRLF; None if the CRLF has not arrived."""
    end = data.find(b"\r")
    if b"\n" in (data if end < 0 else data[:end]):
        raise WireError("a PROXY line ends with CRLF, not with LF alone")
    if end >= 0 and data[end + 1 : end + 2] == b"\n":
        return data[:end]
    if 0 <= end < len(data) - 1:
        raise WireError("a PROXY line has a CR without LF")
    if len(data) >= MAX_LINE:
        raise TooLong(f"a PROXY line has at most {MAX_LINE} bytes")
    return None


def _host(kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], text: bytes) -> str:
    """
    Read an address of the family of `kind`.

    `ipaddress` refuses leading zeros in IPv4 and addresses of the other family. It accepts zone ids
    (``%eth0``), which PROXY does not allow.
    """
    try:
        if b"%" in text:
            raise ValueError
        return unmapped(str(kind(text.decode("ascii"))))
    except ValueError:
        raise WireError("a PROXY line has an address that is none of its family") from None


def _port(text: bytes) -> int:
    if _PORT.fullmatch(text) is None or int(text) > 0xFFFF:
        raise WireError("a port of a PROXY line is a number from 0 to 65535 without leading zeros")
    return int(text)


def build_v1(source: Address | None, destination: Address | None) -> bytes:
    """
    Build a header.

    :returns: ``PROXY UNKNOWN`` unless both addresses are IP addresses. Version 1 has no other form for unix
        sockets and for an unknown client.
    """
    pair = inet_pair(source, destination)
    if pair is None:
        return b"PROXY UNKNOWN\r\n"
    assert isinstance(source, InetAddress)
    assert isinstance(destination, InetAddress)
    line = f"PROXY TCP{pair[0].version} {pair[0]} {pair[1]} {source.port} {destination.port}\r\n"
    return line.encode("ascii")
