"""Tests of `portfwd.metrics.status_report`, with figures made by hand."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.metrics.figures import Figures
from portfwd.metrics.status_report import (
    RuleFacts,
    json_text,
    make_report,
    plain_text,
    size_text,
    stats_line,
)
from portfwd.values import CloseReason, FlowSummary, SessionSummary

FACTS = {
    "web": RuleFacts("tcp", "leastconn", {"a:80": "10.0.0.1"}),
    "dns": RuleFacts("udp", "first", {}),
    "app": RuleFacts("unix", "iphash", {}),
}


def flow(count: int) -> FlowSummary:
    """What a flow of that many bytes did."""
    return FlowSummary(count, 1, 1, 0, 0.0)


def summary(reason: CloseReason, up: int, down: int) -> SessionSummary:
    """A session that is over."""
    return SessionSummary(
        1, "web", ("", "", "", ""), None, None, None, 0.0, 0.002, 0.03, 12.0, flow(up), flow(down), reason
    )


def figures() -> Figures:
    """Three rules with sessions, and one that nothing else is known of."""
    made = Figures(version="1.2", reloads=3)
    made.listeners.update({"accepting": 4, "paused": 1})
    web = made.rule("web")
    web.tally.known("a:80", "b:80")
    web.tally.closed(summary(CloseReason.NORMAL, 1000, 2000), "a:80")
    web.tally.closed(summary(CloseReason.ACCESS, 0, 0))
    web.add_open("a:80", flow(24), flow(48))
    web.sessions = 1
    web.target_states.update({"a:80": "up", "b:80": "down"})
    web.target_failures.update({"b:80": 5})
    web.pauses.update({"kernel": 2, "limit": 7})
    made.rule("dns").sessions = 2
    made.rule("app").tally.closed(summary(CloseReason.NORMAL, 1, 1))
    made.rule("(others)").sessions = 4
    return made


def report() -> dict[str, Any]:
    """Their report."""
    return make_report(figures(), FACTS, timestamp="NOW", uptime=90061.7, since="THEN")


class ReportTests(SynchronousTestCase):
    """What stands in it."""

    def test_keys(self) -> None:
        """Its keys are rinetd-uv's, but for the pool of buffers."""
        made = json.loads(json_text(report()))
        self.assertEqual(
            list(made),
            ["timestamp", "version", "uptime_seconds", "config_reloads", "stats_since_reload", "connections",
             "traffic", "errors", "servers", "rules"],
        )  # fmt: skip
        self.assertEqual(
            (made["timestamp"], made["uptime_seconds"], made["stats_since_reload"]), ("NOW", 90061, "THEN")
        )
        self.assertEqual((made["version"], made["config_reloads"], made["servers"]), ("1.2", 3, 5))

    def test_counts(self) -> None:
        """Sessions by protocol, bytes of closed and open ones, and what failed."""
        made = report()
        self.assertEqual(
            made["connections"],
            {"active": 7, "active_tcp": 5, "active_udp": 2, "active_unix": 0,
             "total": 10, "total_tcp": 7, "total_udp": 2, "total_unix": 1},
        )  # fmt: skip
        self.assertEqual(made["traffic"], {"bytes_in": 1025, "bytes_out": 2049})
        self.assertEqual(made["errors"], {"accept": 2, "connect": 5, "denied": 1})

    def test_rules(self) -> None:
        """Each rule has its targets, with their health."""
        web, *others = report()["rules"]
        backends = web.pop("backends")
        self.assertEqual(
            web,
            {"name": "web", "algorithm": "leastconn", "connections_active": 1, "connections_total": 3,
             "bytes_in": 1024, "bytes_out": 2048},
        )  # fmt: skip
        self.assertEqual(
            backends[0],
            {"name": "a:80", "host": "10.0.0.1", "healthy": True, "is_implicit": 0, "dns_parent_name": None,
             "dns_ip_index": 0, "connections_active": 1, "connections_total": 2, "bytes_in": 1024,
             "bytes_out": 2048},
        )  # fmt: skip
        self.assertEqual((backends[1]["host"], backends[1]["healthy"]), ("", False))
        self.assertEqual([one["algorithm"] for one in others], ["first", "iphash", ""])

    def test_text(self) -> None:
        """The form for people has the same, under headings."""
        text = plain_text(report())
        for line in (
            "Uptime: 1 day, 1:01:01",
            "Active: 7 (TCP: 5, UDP: 2, Unix: 0)",
            "Bytes in: 1.0K",
            "Denied: 1",
            "  web (leastconn):",
            "    Active: 1, Total: 3, Traffic: 1.0K/2.0K",
            "      b:80: unhealthy, active=0, total=0",
        ):
            self.assertIn(f"\n{line}\n", text)

    def test_line(self) -> None:
        """The line of statistics."""
        self.assertEqual(
            stats_line(report()),
            "STATS: uptime=90061s conns=7/10 tcp=5/7 udp=2/2 unix=0/1 traffic=1.0K/2.0K errors=2/5/1",
        )

    def test_sizes(self) -> None:
        """Bytes are exact up to a KiB, then of three or four digits."""
        for count, text in (
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5K"),
            (5 * 2**30, "5.0G"),
            (2**52, "4096.0T"),
        ):
            self.assertEqual(size_text(count), text)

    def test_short_uptime(self) -> None:
        """Days are told when there are any."""
        for uptime, said in ((59.9, "0:00:59"), (2 * 86400, "2 days, 0:00:00")):
            made = make_report(Figures(), {}, timestamp="", uptime=uptime, since="")
            self.assertIn(f"Uptime: {said}\n", plain_text(made))
