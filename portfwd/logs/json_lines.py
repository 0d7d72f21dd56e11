# -*- test-case-name: tests.logs.test_json_lines -*-
"""
The access line for machines: ``log access=json``, one JSON object (RFC 8259) a line.

Keys, always all of them: ``time`` and ``opened`` (RFC 3339, UTC), ``id``,
``rule``, ``client``, ``local``, ``upstream`` (text or null), ``connect_time``,
``first_byte``, ``duration`` (seconds; null where it never came), ``reason`` (the two
letters; null in the line of an opening) and ``meaning`` (in words), ``ended_first`` (``client``, ``upstream``
or null), ``relay`` and ``detail`` (text, empty where there was none),
``access_step`` (1 to 4 when the access list refused, else 0), and the flows
``to_upstream`` and ``to_client``, each with ``bytes``, ``reads``, ``writes``,
``bytes_per_call`` (bytes by system call; null without calls), ``spliced``,
``share_spliced`` (0 to 1; null without bytes), ``paused`` (seconds for which the other side took
no more) and ``paced`` (seconds for which ``bandwidth=`` had nothing left).

In the line of a session of a rule there is ``plan``: an object with ``relay``, the relay that the rule's
ends, its options and the platform allow, and ``why``. ``relay`` of the line is what moved most of the bytes.

Only where a side speaks TLS by us there are ``tls`` (the client's) and ``upstream_tls``: objects with
``version``, ``cipher``, ``alpn``, ``server_name`` (text, empty for none), ``resumed`` (whether an earlier
session was), and in the client's ``client_name``, the name in its verified certificate.

Only where attempts to reach an upstream failed, though another one may have succeeded, there is ``attempts``:
a list of objects with ``target`` (as the file writes it), ``address`` (text or null) and ``cause``.

Only with ``tcp-info=on``, where an upstream was reached, there is ``tcp_info``: what the kernel told of both
connections when the session closed, as ``client`` and ``upstream``. Each is an object with the fields of
`portfwd.wire.tcp_info.TCPInfo`, numbers or null; or null for what is no TCP connection.

Only where filters have noted something there is ``notes``: an object with their keys and values (text,
numbers, true, false or null).

Only where datagrams were dropped there is ``dropped``: an object with how many, by cause. Only
in a line that stands for several sessions there is ``repeated``: how many (`portfwd.logs.repeats`).

The line is ASCII: everything else is escaped as JSON does.
"""

from __future__ import annotations

import json
from typing import Any, Final

from portfwd.logs.fields import address, utc_time
from portfwd.values import FlowSummary, SessionSummary, TLSInfo
from portfwd.wire.tcp_info import parse_tcp_info

# Made once: json.dumps would make one a line.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


def json_line(summary: SessionSummary) -> str:
    """Write the line of a session, without its end; of one that was opened, ``reason`` is null."""
    line = _ENCODER.encode(session_fields(summary))
    # json escapes every control character but this one.
    return line.replace("\x7f", "\\u007f")


def session_fields(summary: SessionSummary) -> dict[str, Any]:
    """The keys and values of a line."""
    fields = {
        "time": utc_time(summary.opened_at + summary.duration),
        "opened": utc_time(summary.opened_at),
        "id": summary.id,
        "rule": summary.rule,
        "client": address(summary.client),
        "local": address(summary.local),
        "upstream": address(summary.upstream),
        "connect_time": _microseconds(summary.connect_time),
        "first_byte": _microseconds(summary.first_byte),
        "duration": _microseconds(summary.duration),
        "reason": None if summary.reason is None else summary.reason.code,
        "meaning": None if summary.reason is None else summary.reason.meaning,
        "ended_first": None if summary.ended_first is None else summary.ended_first.value,
        "relay": summary.relay,
        "detail": summary.detail,
        "access_step": summary.access_step,
        "to_upstream": _flow(summary.to_upstream),
        "to_client": _flow(summary.to_client),
    }
    if summary.plan is not None:
        fields["plan"] = {"relay": summary.plan.kind, "why": summary.plan.why}
    if summary.tls is not None:
        fields["tls"] = {**_tls(summary.tls), "client_name": summary.tls.client_name}
    if summary.upstream_tls is not None:
        fields["upstream_tls"] = _tls(summary.upstream_tls)
    if summary.attempts:
        fields["attempts"] = [
            {"target": one.target, "address": address(one.address), "cause": one.cause}
            for one in summary.attempts
        ]
    if summary.tcp_info is not None:
        fields["tcp_info"] = tcp_fields(summary.tcp_info)
    if summary.dropped:
        fields["dropped"] = dict(summary.dropped)
    if summary.notes:
        fields["notes"] = dict(summary.notes)
    if summary.repeated:
        fields["repeated"] = summary.repeated
    return fields


def tcp_fields(told: tuple[bytes, bytes]) -> dict[str, dict[str, int | None] | None]:
    """What the kernel told of both connections, the client's first; None for what is no TCP connection."""
    infos = {"client": parse_tcp_info(told[0]), "upstream": parse_tcp_info(told[1])}
    return {side: None if info is None else info._asdict() for side, info in infos.items()}


def _flow(flow: FlowSummary) -> dict[str, Any]:
    calls = flow.reads + flow.writes
    return {
        "bytes": flow.bytes,
        "reads": flow.reads,
        "writes": flow.writes,
        "bytes_per_call": round(flow.bytes / calls, 1) if calls else None,
        "spliced": flow.spliced,
        "share_spliced": round(flow.spliced / flow.bytes, 4) if flow.bytes else None,
        "paused": _microseconds(flow.paused),
        "paced": _microseconds(flow.paced),
    }


def _tls(info: TLSInfo) -> dict[str, Any]:
    return {
        "version": info.version,
        "cipher": info.cipher,
        "alpn": info.alpn,
        "server_name": info.server_name,
        "resumed": info.resumed,
    }


def _microseconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
