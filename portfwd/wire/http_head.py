# -*- test-case-name: tests.wire.test_http_head -*-
r"""
The head of an HTTP/1.x request: request line, fields, and the requested host (RFC 9112).

The head is parsed as strictly as the RFC allows, because the upstream parses the same bytes and must see the
same host. Lines end with CRLF; folded lines and blanks before a colon are refused; HTTP/1.1 requires exactly
one ``Host``. With an absolute form or CONNECT, the request target names the host. ``Host`` must agree with
an absolute form.

The preface of HTTP/2 (RFC 9113 section 3.4) is recognised; the bytes after it are not read. Bodies and
further requests are not read either.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from attrs import frozen

from portfwd.wire.reading import Need, Read, TooLong, WireError

#: Maximum bytes of a request line: Apache's ``LimitRequestLine`` (8190); RFC 9112 section 3 recommends 8000.
MAX_LINE: Final = 8190
#: Maximum bytes of the whole head: HAProxy's buffer size, and twice nginx's limit for one field.
MAX_HEAD: Final = 16 * 1024
#: Maximum number of fields: Apache's ``LimitRequestFields``.
MAX_FIELDS: Final = 100
#: Maximum bytes of a method; the longest registered one, ``UPDATEREDIRECTREF``, has 17.
MAX_METHOD: Final = 32

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_END: Final = b"\r\n\r\n"
_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET: Final = re.compile(rb"[\x21-\x7e]+")
_VERSION: Final = re.compile(rb"HTTP/1\.([0-9])")
# A value may contain bytes above ASCII (obs-text) and tabs, but no other control characters.
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
# RFC 3986 section 3.2.2, restricted to the characters of DNS names, and without user information.
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]*)(?::([0-9]{0,5}))?")


@frozen
class RequestHead:
    """
    A request head, or the preface of HTTP/2.

    :ivar method: as written; ``PRI`` for the preface.
    :ivar target: as written.
    :ivar version: ``1.0``, ``1.1`` or ``2.0``.
    :ivar host: the requested host in lower case, without brackets and without a trailing dot; empty if the
        request names none (HTTP/1.0, HTTP/2, an empty ``Host``).
    :ivar port: 0 if the request names none.
    :ivar fields: names in lower case, and values without surrounding blanks.
    """

    method: str
    target: str
    version: str
    host: str = ""
    port: int = 0
    fields: tuple[tuple[str, bytes], ...] = ()

    def field(self, name: str) -> tuple[bytes, ...]:
        """Return all values of the field `name` (in lower case)."""
        return tuple(value for known, value in self.fields if known == name)


def read_head(data: bytes) -> Read[RequestHead] | Need:
    """
    Read a request head at the start of `data`.

    One empty line before it is skipped (RFC 9112 section 2.2).

    :returns: `used` includes the empty line after the fields.
    :raises WireError: the data is not HTTP or is malformed.
    :raises TooLong: one of the limits above is exceeded.
    """
    if data[: len(PREFACE)] == PREFACE[: len(data)] and len(data) > 3:
        if len(data) < len(PREFACE):
            return Need(len(PREFACE))
        return Read(RequestHead("PRI", "*", "2.0"), len(PREFACE))
    start = 2 if data.startswith(b"\r\n") else 0
    if data[start : start + 1] == b"\n" or (start and data[start:].startswith(b"\r")):
        raise WireError("this is not HTTP: it begins with empty lines")
    end = data.find(_END, start, MAX_HEAD)
    _check_start(data, start)
    if end < 0:
        if len(data) >= MAX_HEAD:
            raise TooLong(f"the head of a request has at most {MAX_HEAD} bytes here")
        _check_ends(data, start)
        return Need(len(data) + 1)
    _check_ends(data[: end + 2], start)
    request, *lines = data[start:end].split(b"\r\n")
    return Read(_head(request, lines), end + len(_END))


def _check_start(data: bytes, start: int) -> None:
    """Refuse as early as possible data that cannot become a request line."""
    if data[start:] in (b"", b"\r"):
        return
    blank = data.find(b" ", start, start + MAX_METHOD + 1)
    method = data[start:blank] if blank >= 0 else data[start : start + MAX_METHOD + 1]
    if _METHOD.fullmatch(method) is None or len(method) > MAX_METHOD:
        raise WireError("this is not HTTP: no method")
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        line_end = len(data) - data.endswith(b"\r")
    if line_end - start > MAX_LINE:
        raise TooLong(f"the first line of a request has at most {MAX_LINE} bytes here")


def _check_ends(data: bytes, start: int) -> None:
    """Refuse a CR or LF outside of CRLF; the LF after a CR at the end may not have arrived yet."""
    pairs = data.count(b"\r\n", start)
    open_end = data.endswith(b"\r")
    if data.count(b"\n", start) != pairs or data.count(b"\r", start) - open_end != pairs:
        raise WireError("a line of a request ends with CRLF, and has no CR or LF elsewhere")


def _head(request: bytes, lines: list[bytes]) -> RequestHead:
    """Read the lines of a complete head."""
    parts = request.split(b" ")
    version = _VERSION.fullmatch(parts[-1])
    # RFC 9112 section 3: single blanks, and "No whitespace is allowed in the request-target."
    if len(parts) != 3 or _TARGET.fullmatch(parts[1]) is None or version is None:
        raise WireError("a request has a method, a target and HTTP/1.0 or HTTP/1.1 on its first line")
    if len(lines) > MAX_FIELDS:
        raise TooLong(f"a request has at most {MAX_FIELDS} fields here")
    fields = tuple(_field(line) for line in lines)
    method, target = parts[0].decode("ascii"), parts[1]
    host, port = _host(method, target, int(version[1]), [value for name, value in fields if name == "host"])
    return RequestHead(method, target.decode("ascii"), f"1.{int(version[1])}", host, port, fields)


def _field(line: bytes) -> tuple[str, bytes]:
    if line[:1] in (b" ", b"\t"):
        # RFC 9112 section 5.2: "A server that receives an obs-fold … MUST either reject the message … or
        # replace". The bytes are forwarded unchanged, so it is rejected.
        raise WireError("a request has a folded line")
    match = _FIELD.fullmatch(line)
    if match is None:
        raise WireError("a request has a line that is no field")
    return match[1].decode("ascii").lower(), match[2].rstrip(b" \t")


def _host(method: str, target: bytes, minor: int, hosts: list[bytes]) -> tuple[str, int]:
    """Return the requested host and port."""
    # RFC 9112 section 3.2: 400 (Bad Request) "to any HTTP/1.1 request message that lacks a Host header field
    # and to any request message that contains more than one Host header field line"
    if len(hosts) > 1 or (minor >= 1 and not hosts):
        raise WireError("a request of HTTP/1.1 has one Host")
    named = _authority(hosts[0]) if hosts else ("", 0)
    if method == "CONNECT":
        # RFC 9112 section 3.2.3: "the uri-host and port number of the tunnel destination"
        host, port = _authority(target)
        if not host or not port:
            raise WireError("CONNECT has a host and a port")
        return host, port
    absolute = _SCHEME.match(target)
    if absolute is not None:
        # RFC 9112 section 3.2.2: an absolute form overrides Host. A proxy would write a new Host. Here the
        # bytes are forwarded unchanged, and not every server implements that section.
        host, port = _authority(absolute[1])
        if not host:
            raise WireError("a request has an absolute target without a host")
        if named[0] not in ("", host):
            raise WireError("a request names two hosts: one in its target, another in Host")
        return host, port
    if not target.startswith(b"/") and target != b"*":
        raise WireError("a request has a target that is neither a path nor a URI")
    return named


def _authority(text: bytes) -> tuple[str, int]:
    """Split ``host[:port]``."""
    match = _AUTHORITY.fullmatch(text.decode("latin-1"))
    port = int(match[2] or 0) if match is not None else 0
    if match is None or port > 0xFFFF:
        raise WireError("a request names a host that is none")
    host = match[1].lower().removesuffix(".")
    if host.startswith("["):
        try:
            host = str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise WireError("a request names an IPv6 address that is none") from None
    return host, port
