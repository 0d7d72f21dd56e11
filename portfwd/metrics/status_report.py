# -*- test-case-name: tests.metrics.test_status_report -*-
"""
Write figures in the formats of rinetd-uv's status file and its line of statistics.

The keys of the JSON form and the words of the line are rinetd-uv's, so programs that read them continue to
work. ``buffer_pool`` is missing, because there is no such pool. ``bytes_in`` are bytes from clients. Byte
counts include open sessions, unlike in rinetd-uv.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from attrs import frozen

from portfwd.metrics.figures import Figures, RuleFigures
from portfwd.metrics.tally import TargetTally
from portfwd.values import CloseReason, counted

#: The protocols by which sessions are counted.
PROTOCOLS: Final = ("tcp", "udp", "unix")
_UNITS: Final = ("B", "K", "M", "G", "T")


@frozen
class RuleFacts:
    """
    Facts about a rule that its figures do not have.

    :ivar protocol: one of `PROTOCOLS`.
    :ivar algorithm: its balancing method, by rinetd-uv's name if there is one.
    :ivar hosts: hosts of its targets by their labels; without targets that have no host.
    """

    protocol: str
    algorithm: str
    hosts: Mapping[str, str]


def make_report(
    figures: Figures, facts: Mapping[str, RuleFacts], *, timestamp: str, uptime: float, since: str
) -> dict[str, Any]:
    """
    Build the status of a process, in the order of rinetd-uv's file.

    :param facts: facts by name of the rule.
    :param timestamp: the current time.
    :param uptime: seconds since the start.
    :param since: time of the start or the last reload.
    """
    active, total = dict.fromkeys(PROTOCOLS, 0), dict.fromkeys(PROTOCOLS, 0)
    for name, rule in figures.rules.items():
        protocol = facts[name].protocol if name in facts else PROTOCOLS[0]
        active[protocol] += rule.sessions
        total[protocol] += rule.total
    rules = figures.rules.values()
    return {
        "timestamp": timestamp,
        "version": figures.version,
        "uptime_seconds": int(uptime),
        "config_reloads": figures.reloads,
        "stats_since_reload": since,
        "connections": {
            "active": sum(active.values()),
            **{f"active_{protocol}": count for protocol, count in active.items()},
            "total": sum(total.values()),
            **{f"total_{protocol}": count for protocol, count in total.items()},
        },
        "traffic": _traffic(rule.tally for rule in rules),
        "errors": {
            "accept": sum(rule.pauses["kernel"] for rule in rules),
            "connect": sum(sum(rule.target_failures.values()) for rule in rules),
            "denied": sum(rule.tally.reasons[CloseReason.ACCESS] for rule in rules),
        },
        "servers": sum(figures.listeners.values()),
        "rules": [_rule(name, rule, facts.get(name)) for name, rule in figures.rules.items()],
    }


def _traffic(tallies: Iterable[TargetTally]) -> dict[str, int]:
    counted = list(tallies)
    return {
        "bytes_in": sum(one.to_upstream.bytes for one in counted),
        "bytes_out": sum(one.to_client.bytes for one in counted),
    }


def _rule(name: str, rule: RuleFigures, facts: RuleFacts | None) -> dict[str, Any]:
    hosts = {} if facts is None else facts.hosts
    return {
        "name": name,
        "algorithm": "" if facts is None else facts.algorithm,
        "connections_active": rule.sessions,
        "connections_total": rule.total,
        **_traffic((rule.tally,)),
        "backends": [
            {
                "name": label,
                "host": hosts.get(label, ""),
                "healthy": rule.target_states.get(label) != "down",
                "is_implicit": 0,
                "dns_parent_name": None,
                "dns_ip_index": 0,
                "connections_active": rule.target_sessions[label],
                "connections_total": rule.target_sessions[label] + sum(target.reasons.values()),
                **_traffic((target,)),
            }
            for label, target in rule.tally.targets.items()
        ],
    }


def json_text(report: Mapping[str, Any]) -> str:
    """Return the JSON form."""
    return json.dumps(report, indent=2) + "\n"


def plain_text(report: Mapping[str, Any]) -> str:
    """Return the text form."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    traffic, errors = report["traffic"], report["errors"]
    yield "portfwd Status Report"
    yield f"Updated: {report['timestamp']}"
    yield f"Version: {report['version']}"
    yield f"Uptime: {_uptime(report['uptime_seconds'])}"
    yield f"Config reloads: {report['config_reloads']}"
    yield from ("", "CONNECTIONS", _connections(report, "active"), _connections(report, "total"))
    yield from ("", "TRAFFIC")
    yield f"Bytes in: {size_text(traffic['bytes_in'])}"
    yield f"Bytes out: {size_text(traffic['bytes_out'])}"
    yield from ("", "ERRORS", *(f"{kind.capitalize()}: {errors[kind]}" for kind in errors))
    yield from ("", "SERVERS", f"Count: {report['servers']}", "", "RULES")
    for rule in report["rules"]:
        yield f"  {rule['name']} ({rule['algorithm']}):"
        sizes = f"{size_text(rule['bytes_in'])}/{size_text(rule['bytes_out'])}"
        counts = f"Active: {rule['connections_active']}, Total: {rule['connections_total']}"
        yield f"    {counts}, Traffic: {sizes}"
        yield "    Backends:"
        for one in rule["backends"]:
            state = "healthy" if one["healthy"] else "unhealthy"
            counts = f"active={one['connections_active']}, total={one['connections_total']}"
            yield f"      {one['name']}: {state}, {counts}"


def _connections(report: Mapping[str, Any], which: str) -> str:
    counts = report["connections"]
    parts = (f"{word}: {counts[f'{which}_{word.lower()}']}" for word in ("TCP", "UDP", "Unix"))
    return f"{which.capitalize()}: {counts[which]} ({', '.join(parts)})"


def _uptime(seconds: int) -> str:
    days, left = divmod(seconds, 86400)
    clock = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
    return f"{counted(days, 'day')}, {clock}" if days else clock


def size_text(count: int) -> str:
    """Format a number of bytes as rinetd-uv does: ``512B``, ``1.5K``, ``2.0G``."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f}{_UNITS[unit]}" if unit else f"{count}B"


def stats_line(report: Mapping[str, Any]) -> str:
    """Return the line of statistics. Pairs have the number of open sessions and that of all sessions."""
    counts, errors = report["connections"], report["errors"]
    pairs = {"conns": ("active", "total")}
    pairs.update({one: (f"active_{one}", f"total_{one}") for one in PROTOCOLS})
    sessions = " ".join(f"{key}={counts[active]}/{counts[total]}" for key, (active, total) in pairs.items())
    sizes = "/".join(size_text(report["traffic"][key]) for key in ("bytes_in", "bytes_out"))
    failed = "/".join(str(errors[key]) for key in ("accept", "connect", "denied"))
    uptime = f"uptime={report['uptime_seconds']}s"
    return " ".join(("STATS:", uptime, sessions, f"traffic={sizes}", f"errors={failed}"))
