# -*- test-case-name: tests.wire.test_protocols -*-
"""
Recognise the protocol of a client by its first bytes.

Each test uses as few bytes as are needed to distinguish the protocols below; for most of them the first byte
is enough. The rest of the message is not parsed and may be malformed. Protocols in which the server sends
first cannot be recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from portfwd.wire.reading import Need

#: Result of a test: whether the bytes are of the protocol, or how many bytes the test requires.
Finding = bool | Need

#: Methods in use: RFC 9110 section 9, PATCH, WebDAV, and PRI of the HTTP/2 preface. Other words are not
#: accepted, because ``EHLO mail`` and ``NICK /me`` begin with words too.
_METHODS: Final = (
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI",
    b"PROPFIND", b"PROPPATCH", b"MKCOL", b"COPY", b"MOVE", b"LOCK", b"UNLOCK", b"REPORT", b"SEARCH",
)  # fmt: skip
#: Possible starts of a request target. After CONNECT any target is accepted.
_TARGETS: Final = (b"/", b"*", b"http")

#: The protocol name, which follows the remaining length in MQTT's CONNECT: versions 3.1.1 and 5, and 3.1.
_MQTT_NAMES: Final = (b"\0\x04MQTT", b"\0\x06MQIsdp")

#: PostgreSQL's ``MAX_STARTUP_PACKET_LENGTH``.
_MAX_STARTUP: Final = 10000
#: Numbers in the version field of a start-up message (PostgreSQL documentation, section 54.7).
_SSL_REQUEST: Final = 80877103
_GSSENC_REQUEST: Final = 80877104
_CANCEL_REQUEST: Final = 80877102
_PROTOCOL_3: Final = 3


def _starts(data: bytes, *prefixes: bytes, at: int = 0) -> Finding:
    """Whether `data` has one of `prefixes` at the position `at`."""
    rest = data[at:]
    if rest.startswith(prefixes):
        return True
    needs = [len(prefix) for prefix in prefixes if prefix.startswith(rest)]
    return Need(at + min(needs)) if needs else False


def _ssh(data: bytes) -> Finding:
    """RFC 4253 section 4.2: the identification string."""
    return _starts(data, b"SSH-")


def _tls(data: bytes) -> Finding:
    """RFC 8446 section 5.1: a handshake record of any version that begins with a ClientHello."""
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
    """SOCKS 4 and 4A: version, CONNECT or BIND, port, address, and at least the NUL after the user name."""
    finding = _starts(data, b"\x04\x01", b"\x04\x02")
    return Need(9) if finding is not False and len(data) < 9 else finding


def _socks5(data: bytes) -> Finding:
    """RFC 1928 section 3: version, number of methods, and the methods."""
    if data[:1] not in (b"", b"\x05") or data[1:2] == b"\0":
        return False
    total = 2 + (data[1] if len(data) > 1 else 1)
    return True if len(data) >= total else Need(total)


def _rdp(data: bytes) -> Finding:
    """The start of RDP: a TPKT header (RFC 1006 section 6) and a connection request (X.224 section 13.3)."""
    finding = _starts(data, b"\x03\x00")
    if finding is False:
        return False
    if len(data) < 8:
        return Need(8)
    length = int.from_bytes(data[2:4], "big")
    # The length indicator counts the bytes after it; the code has four bits; the destination reference is 0.
    return length >= 11 and data[4] == length - 5 and data[5] >> 4 == 0xE and data[6:8] == b"\0\0"


def _postgresql(data: bytes) -> Finding:
    """A start-up message, or a request for TLS, GSS encryption or cancellation."""
    if _starts(data, b"\0\0") is False:
        return False
    if len(data) < 8:
        return Need(8)
    length, code = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    if code in (_SSL_REQUEST, _GSSENC_REQUEST):
        return length == 8
    # Since version 3.2 the key of a CancelRequest may be longer than four bytes.
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

#: All protocols that can be recognised.
NAMES: Final = tuple(_TESTS)


def recognise(data: bytes, names: Iterable[str] = NAMES) -> str | Need | None:
    """
    Recognise the protocol of a client.

    :param data: all bytes received so far.
    :param names: the protocols to consider, from `NAMES`. With fewer names, fewer bytes are needed.
    :returns: a name; `Need` if it is not decided yet; None if it is none of `names`.
    """
    needs = []
    for name in names:
        finding = _TESTS[name](data)
        if finding is True:
            return name
        if isinstance(finding, Need):
            needs.append(finding.total)
    return Need(min(needs)) if needs else None
