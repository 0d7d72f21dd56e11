# -*- test-case-name: tests.logs.test_rinetd -*-
"""
rinetd's two log formats, byte for byte: ``log access=rinetd`` and ``access=common``.

A session has two lines: ``opened``, and one for its end. A session that was refused or reached no upstream
has only the second one.

======================  ====================================================
message                 when
======================  ====================================================
opened                  an upstream was reached
done-local-closed       the upstream ended first
done-remote-closed      the client ended first
not-allowed             an allow list exists and none of it matched
denied                  a deny matched
local-connect-failed -  no upstream could be reached
accept-failed -         a limit was reached
unknown-error           neither side ended: killed, drained, an internal error
======================  ====================================================

rinetd writes ports as numbers, and so does this module if the summary's ``written`` has numbers; the port of
a unix socket is 0. A client without an address is ``unix-client``, as in rinetd-uv, and an unknown one ``?``.

Unprintable characters are escaped, so no value can break the line. In the URL of the common format they are
percent-encoded (RFC 3986 section 2.1), and slashes too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from portfwd.values import CloseReason, InetAddress, SessionSummary, Side, printable, unmapped

#: Converts seconds since the epoch to local time; `time.localtime` in the program.
LocalTime = Callable[[float], time.struct_time]

# rinetd does not call setlocale, so its names of months are those of the C locale.
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_NO_UPSTREAM: Final = frozenset(
    {
        CloseReason.CONNECT_REFUSED,
        CloseReason.CONNECT_TIMEOUT,
        CloseReason.NAME_NOT_RESOLVED,
        CloseReason.TLS_FAILED,
        CloseReason.RESOURCES,
    }
)


def message(summary: SessionSummary) -> str:
    """rinetd's message for the state of the session."""
    reason = summary.reason
    if reason is None:
        return "opened"
    if reason is CloseReason.ACCESS:
        return "not-allowed" if summary.access_step in (1, 3) else "denied"
    if reason in _NO_UPSTREAM:
        return "local-connect-failed -"
    if reason is CloseReason.LIMIT:
        return "accept-failed -"
    if summary.ended_first is Side.UPSTREAM:
        return "done-local-closed"
    if summary.ended_first is Side.CLIENT:
        return "done-remote-closed"
    return "unknown-error"


def tab_line(summary: SessionSummary, localtime: LocalTime) -> str:
    """Format a line of rinetd's own format, without a line end: nine fields, separated by tabs."""
    bind_host, bind_port, connect_host, connect_port = summary.written
    return "\t".join(
        (
            _date(localtime(summary.opened_at + summary.duration)),
            printable(_client(summary)),
            printable(bind_host),
            printable(bind_port) or "0",
            printable(connect_host),
            printable(connect_port) or "0",
            str(summary.to_upstream.bytes),
            str(summary.to_client.bytes),
            message(summary),
        )
    )


def common_line(summary: SessionSummary, localtime: LocalTime) -> str:
    """Format a line of ``logcommon``, without a line end: the web servers' format with an artificial URL."""
    now = localtime(summary.opened_at + summary.duration)
    bind_host, bind_port, connect_host, connect_port = summary.written
    return (
        f"{_encoded(_client(summary))} - - [{_date(now)} {_zone(now)}] "
        f'"GET /rinetd-services/{_encoded(bind_host)}/{_encoded(bind_port) or "0"}'
        f'/{_encoded(connect_host)}/{_encoded(connect_port) or "0"}/{message(summary)} HTTP/1.0" '
        f"200 {summary.to_client.bytes} - - - {summary.to_upstream.bytes}"
    )


def _client(summary: SessionSummary) -> str:
    if isinstance(summary.client, InetAddress):
        return unmapped(summary.client.host) or "?"
    return "?" if summary.client is None else "unix-client"


def _date(now: time.struct_time) -> str:
    """The time as ``%d/%b/%Y:%H:%M:%S`` with the blank that rinetd appends."""
    return (
        f"{now.tm_mday:02d}/{_MONTHS[now.tm_mon - 1]}/{now.tm_year:04d}"
        f":{now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d} "
    )


def _zone(now: time.struct_time) -> str:
    """The offset from UTC as ``+hhmm``."""
    minutes = (now.tm_gmtoff or 0) // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"


def _encoded(text: str) -> str:
    """Percent-encode the characters of `text` that could end a part of the URL, the quotes or the line."""
    if text.isascii() and text.isprintable() and not any(character in ' "/\\' for character in text):
        return text
    return "".join(
        chr(byte) if 0x20 < byte < 0x7F and byte not in b'"/\\' else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogatepass")
    )
