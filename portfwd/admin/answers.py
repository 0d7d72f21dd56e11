# -*- test-case-name: tests.admin.test_answers -*-
"""
Encodes the answers of the control socket: one JSON object (RFC 8259) per line.

::

    {"portfwd":"0.1.0","protocol":1,"level":"operator"}         once, before the first request
    {"ok":true,"result":{…}}                                    the answer to a request
    {"ok":false,"error":"not-found","message":"…"}              the answer to a request that failed
    {"event":{…}}                                               an event, before the answer

Lines are ASCII; other characters have JSON escapes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from portfwd.admin.changes import LoggedLine
from portfwd.admin.operator import FaultView, LiveSession, RuleView, TargetView
from portfwd.logs.fields import utc_time
from portfwd.logs.json_lines import session_fields, tcp_fields

#: It increases when a key of an answer is removed or changes its meaning, not when a key is added.
PROTOCOL: Final = 1

# json.dumps would make an encoder for each line.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


def encode(value: Mapping[str, Any]) -> bytes:
    """One line."""
    # json escapes all control characters except this one.
    return _ENCODER.encode(value).replace("\x7f", "\\u007f").encode("ascii") + b"\n"


def greeting(version: str, level: str) -> bytes:
    """The first line."""
    return encode({"portfwd": version, "protocol": PROTOCOL, "level": level})


def answer(result: Mapping[str, Any]) -> bytes:
    """The answer to a request."""
    return encode({"ok": True, "result": result})


def refusal(code: str, message: str, details: Mapping[str, Any] | None = None) -> bytes:
    """The answer to a request that failed; `details` are further keys."""
    return encode({"ok": False, "error": code, "message": message, **(details or {})})


def event(value: Mapping[str, Any]) -> bytes:
    """An event before the answer."""
    return encode({"event": value})


def session_row(session: LiveSession) -> dict[str, Any]:
    """A session: the keys of the access log's JSON, its ``state``, and the present ``tcp_info``."""
    return {
        **session_fields(session.summary()),
        "state": session.state.value,
        "tcp_info": tcp_fields(session.tcp_info()),
    }


def rule_row(rule: RuleView) -> dict[str, Any]:
    """A rule."""
    return {
        "name": rule.name,
        "rule": rule.file_rule,
        "listen": list(rule.listen),
        "targets": list(rule.targets),
        "state": rule.state,
        "sessions": rule.sessions,
        "total": rule.total,
        "filters": list(rule.filters),
        "filter_failures": rule.filter_failures,
        "where": rule.where,
    }


def target_row(target: TargetView) -> dict[str, Any]:
    """A target."""
    return {
        "rule": target.rule,
        "name": target.name,
        "target": target.target,
        "state": target.state,
        "cause": target.cause,
        "since": None if target.since is None else round(target.since, 3),
        "ordered": target.ordered,
        "share": round(target.share, 4),
        "backup": target.backup,
        "sessions": target.sessions,
        "dials": target.dials,
        "failures": target.failures,
        "checks": [
            {
                "name": one.name,
                "passing": one.passing,
                "cause": one.cause,
                "seconds": None if one.seconds is None else round(one.seconds, 6),
                "problem": one.problem,
            }
            for one in target.checks
        ],
    }


def change_row(change: LoggedLine) -> dict[str, Any]:
    """A line of the log."""
    return {
        "number": change.number,
        "time": utc_time(change.time),
        "level": change.level,
        "text": change.text,
    }


def fault_row(fault: FaultView) -> dict[str, Any]:
    """A fault."""
    return {
        "rule": fault.rule,
        "number": fault.number,
        "kind": fault.kind,
        "active": fault.active,
        "options": dict(fault.options),
        "connections": fault.connections,
        "affected": fault.affected,
    }
