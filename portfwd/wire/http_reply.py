# -*- test-case-name: tests.wire.test_http_reply -*-
"""
HTTP responses that refuse a request: a status, a few fields, no body, and ``Connection: close``.

The statuses are those of RFC 9110 section 15 that filters send.
"""

from __future__ import annotations

from typing import Final

#: The supported status codes with their phrases.
PHRASES: Final = {
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    407: "Proxy Authentication Required",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    504: "Gateway Timeout",
}

#: The response to CONNECT. It has no fields; the tunnel begins after it (RFC 9110 section 9.3.6).
CONNECTED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


def build_refusal(status: int, *fields: str) -> bytes:
    """
    Build a response.

    :param status: one of `PHRASES`.
    :param fields: ``Name: value``.
    """
    lines = [
        f"HTTP/1.1 {status} {PHRASES[status]}",
        *fields,
        "Content-Length: 0",
        "Connection: close",
        "",
        "",
    ]
    return "\r\n".join(lines).encode("ascii")
