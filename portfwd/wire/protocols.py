# -*- test-case-name: tests.wire.test_protocols -*-
"""
Which protocol a client speaks, from its first bytes.

A protocol is recognised by what every client of it sends first, and by as few
bytes as leave no doubt among the ones known here; most are told by the first byte. Nothing is parsed
beyond that, and what is recognised may still be wrong further on. It refuses to know protocols
in which the server speaks first: there is nothing to see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from portfwd.wire.reading import Need

#: What a test says of bytes: they are it, they are not, or so many are needed in all.
Finding = bool | Need

#: Methods in use: RFC 9110 section 9, PATCH, WebDAV's, and PRI of HTTP/2's preface. Not any word, because
#: ``EHLO mail`` and ``NICK /me`` are words too.
_METHODS: Final = (
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI",
    b"PROPFIND", b"PROPPATCH", b"MKCOL", b"COPY", b"MOVE", b"LOCK", b"UNLOCK", b"REPORT", b"SEARCH",
)  # fmt: skip
#: What a target of a request begins with; behind CONNECT anything may stand.
_TARGETS: Final = (b"/", b"*", b"http")

#: What stands behind the remaining length of MQTT's CONNECT, versions 3.1.1 and 5, and 3.1.
_MQTT_NAMES: Final = (b"\0\x04MQTT", b"\0\x06MQIsdp")

#: PostgreSQL's ``MAX_STARTUP_PACKET_LENGTH``.
_MAX_STARTUP: Final = 10000
#: The numbers that stand where a start-up message has its version (PostgreSQL documentation, section 54.7).
_SSL_REQUEST: Final = 80877103
_GSSENC_REQUEST: Final = 80877104
_CANCEL_REQUEST: Final = 80877102
_PROTOCOL_3: Final = 3


def _starts(data: bytes, *prefixes: bytes, at: int = 0) -> Finding:
    """Whether one of `prefixes` stands in `data` at the position `at`."""
    rest = data[at:]
    if rest.startswith(prefixes):
        return True
    needs = [len(prefix) for prefix in prefixes if prefix.startswith(rest)]
    return Need(at + min(needs)) if needs else False


def _ssh(data: bytes) -> Finding:
    """RFC 4253 section 4.2: the identification string."""
    return _starts(data, b"SSH-")


def _tls(data: bytes) -> Finding:
    """RFC 8446 section 5.1: a handshake record of any version, with a ClientHello in front."""
    head = _starts(data, b"\x16\x03")
    if head is not True:
        return head
    if len(data) < 6:
        return Need(6)
    return data[2] <= 4 and data[5] == 1


def _http(data: bytes) -> Finding:
    """RFC 9112 section 3: a method, a blank and a target."""
    finding = _starts(data, *(method + b" " for method in _METHODS))
    if finding is not True or data.startswith(b"CONNECT"):
        return finding
    return _starts(data, *_TARGETS, at=data.index(b" ") + 1)


def _socks4(data: bytes) -> Finding:
    """SOCKS 4 and 4A: version, CONNECT or BIND, port, address, and at least the NUL behind a user's name."""
    finding = _starts(data, b"\x04\x01", b"\x04\x02")
    return Need(9) if finding is not False and len(data) < 9 else finding


def _socks5(data: bytes) -> Finding:
    """RFC 1928 section 3: version, and as many methods as are announced."""
    if data[:1] not in (b"", b"\x05") or data[1:2] == b"\0":
        return False
    total = 2 + (data[1] if len(data) > 1 else 1)
    return True if len(data) >= total else Need(total)


def _rdp(data: bytes) -> Finding:
    """As RDP begins: in a TPKT header (RFC 1006 section 6) a connection request (X.224 section 13.3)."""
    finding = _starts(data, b"\x03\x00")
    if finding is False:
        return False
    if len(data) < 8:
        return Need(8)
    length = int.from_bytes(data[2:4], "big")
    # The indicator counts the bytes behind it; the code has four bits; the destination is not known yet.
    return length >= 11 and data[4] == length - 5 and data[5] >> 4 == 0xE and data[6:8] == b"\0\0"


def _postgresql(data: bytes) -> Finding:
    """A start-up message, or one of the requests that take its place."""
    if _starts(data, b"\0\0") is False:
        return False
    if len(data) < 8:
        return Need(8)
    length, code = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    if code in (_SSL_REQUEST, _GSSENC_REQUEST):
        return length == 8
    # With version 3.2 the key of a CancelRequest is longer than four bytes.
    if code == _CANCEL_REQUEST:
        return 16 <= length <= _MAX_STARTUP
    return code >> 16 == _PROTOCOL_3 and 8 < length <= _MAX_STARTUP


def _mqtt(data: bytes) -> Finding:
    """CONNECT of MQTT: its type, the remaining length and the protocol's name (version 5 section 3.1)."""
    finding = _starts(data, b"\x10")
    if finding is not True:
        return finding
    # Section 1.5.5: a length of one to four bytes; all but the last have their high bit set.
    for position in range(1, 5):
        if len(data) <= position or data[position] < 0x80:
            return _starts(data, *_MQTT_NAMES, at=position + 1)
    return False


_TESTS: Final[dict[str, Callable[[bytes], Finding]]] = {
    "ssh": _ssh,
    "tls": _tls,
    "http": _http,
    "socks4": _socks4,
    "socks5": _socks5,
    "rdp": _rdp,
    "postgresql": _postgresql,
    "mqtt": _mqtt,
}

#: Every protocol that is known.
NAMES: Final = tuple(_TESTS)


def recognise(data: bytes, names: Iterable[str] = NAMES) -> str | Need | None:
    """
    Say what a client speaks.

    :param data: all that it sent so far.
    :param names: the protocols to think of, of `NAMES`; fewer are decided sooner.
    :returns: a name; `Need`, where it may still be one of several or one; None, where it is none of `names`.
    """
    needs = []
    for name in names:
        finding = _TESTS[name](data)
        if finding is True:
            return name
        if isinstance(finding, Need):
            needs.append(finding.total)
    return Need(min(needs)) if needs else None
