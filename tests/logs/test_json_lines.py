"""Tests of `portfwd.logs.json_lines`: the line for machines."""

from __future__ import annotations

import json

from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from portfwd.logs.json_lines import json_line
from portfwd.values import (
    CloseReason,
    FailedAttempt,
    FlowSummary,
    InetAddress,
    RelayPlan,
    SessionSummary,
    TLSInfo,
)
from tests.logs.summaries import PLAIN, changed, summaries


class JSONLineTests(SynchronousTestCase):
    """``log access=json``."""

    def test_plain(self) -> None:
        """Every field of the summary and of both flows is there, with what is derived from them."""
        self.assertEqual(
            json.loads(json_line(PLAIN)),
            {
                "time": "2026-01-31T12:00:01.750Z",
                "opened": "2026-01-31T12:00:00.500Z",
                "id": 7,
                "rule": "web",
                "client": "192.0.2.1:5555",
                "local": "10.0.0.1:8080",
                "upstream": "10.0.0.5:80",
                "connect_time": 0.001204,
                "first_byte": 0.003411,
                "duration": 1.25,
                "reason": "--",
                "meaning": "both sides ended in order",
                "ended_first": "client",
                "relay": "splice",
                "detail": "",
                "access_step": 0,
                "to_upstream": {
                    "bytes": 312, "reads": 2, "writes": 2, "bytes_per_call": 78.0,
                    "spliced": 0, "share_spliced": 0.0, "paused": 0.0, "paced": 0.0,
                },
                "to_client": {
                    "bytes": 48000, "reads": 3, "writes": 5, "bytes_per_call": 6000.0,
                    "spliced": 36000, "share_spliced": 0.75, "paused": 0.25, "paced": 0.125,
                },
            },
        )  # fmt: skip

    def test_nothing(self) -> None:
        """What never came is null, and nothing is divided by nothing."""
        line = json.loads(
            json_line(
                changed(
                    client=None,
                    local=None,
                    upstream=None,
                    connect_time=None,
                    first_byte=None,
                    reason=None,
                    ended_first=None,
                    to_upstream=FlowSummary(),
                )
            )
        )
        for key in (
            "client",
            "local",
            "upstream",
            "connect_time",
            "first_byte",
            "reason",
            "meaning",
            "ended_first",
        ):
            self.assertIsNone(line[key], key)
        self.assertIsNone(line["to_upstream"]["bytes_per_call"])
        self.assertIsNone(line["to_upstream"]["share_spliced"])

    @given(summaries)
    @settings(max_examples=60, deadline=None)
    def test_one_object_a_line(self, summary: SessionSummary) -> None:
        """Whatever stands in a summary, the line is one ASCII object and gives the text back."""
        line = json_line(summary)
        self.assertTrue(line.isascii() and line.isprintable())
        read = json.loads(line)
        self.assertEqual(
            (read["id"], read["rule"], read["detail"]), (summary.id, summary.rule, summary.detail)
        )
        optional = (summary.dropped, summary.repeated, summary.tls, summary.upstream_tls, summary.attempts)
        more = (*optional, summary.notes, summary.plan, summary.tcp_info)
        self.assertEqual(len(read), 18 + sum(map(bool, more)))
        if summary.reason is not None:
            self.assertIn(read["reason"], {reason.code for reason in CloseReason})

    def test_plan(self) -> None:
        """The relay that was planned is there with its reason, where there was a plan."""
        self.assertNotIn("plan", json.loads(json_line(PLAIN)))
        planned = PLAIN._replace(plan=RelayPlan("pair", "a target is TLS"))
        self.assertEqual(json.loads(json_line(planned))["plan"], {"relay": "pair", "why": "a target is TLS"})

    def test_attempts(self) -> None:
        """Attempts that failed are listed with their causes, only where there were any."""
        self.assertNotIn("attempts", json.loads(json_line(PLAIN)))
        failed = (
            FailedAttempt("tls:a:443", InetAddress("192.0.2.1", 443), "certificate has expired"),
            FailedAttempt("b:443", None, "no route"),
        )
        self.assertEqual(
            json.loads(json_line(PLAIN._replace(attempts=failed)))["attempts"],
            [
                {"target": "tls:a:443", "address": "192.0.2.1:443", "cause": "certificate has expired"},
                {"target": "b:443", "address": None, "cause": "no route"},
            ],
        )

    def test_tcp_info(self) -> None:
        """What the kernel told of both connections; null for what is no TCP connection."""
        self.assertNotIn("tcp_info", json.loads(json_line(PLAIN)))
        line = json.loads(json_line(PLAIN._replace(tcp_info=(bytes(100) + b"\7\0\0\0", b""))))
        self.assertEqual((line["tcp_info"]["client"]["retransmits"], line["tcp_info"]["upstream"]), (7, None))
        self.assertIsNone(line["tcp_info"]["client"]["busy_us"])

    def test_dropped(self) -> None:
        """What was dropped has a key of its own, only where something was."""
        self.assertNotIn("dropped", json.loads(json_line(PLAIN)))
        self.assertNotIn("tls", json_line(PLAIN))
        info = TLSInfo("a.example", "h2", "alice", "TLSv1.3", "TLS_AES_256_GCM_SHA384", True)
        line = json.loads(json_line(PLAIN._replace(tls=info, upstream_tls=TLSInfo("b.example"))))
        self.assertEqual(
            (line["tls"], line["upstream_tls"]),
            (
                {
                    "version": "TLSv1.3",
                    "cipher": "TLS_AES_256_GCM_SHA384",
                    "alpn": "h2",
                    "server_name": "a.example",
                    "resumed": True,
                    "client_name": "alice",
                },
                {"version": "", "cipher": "", "alpn": "", "server_name": "b.example", "resumed": False},
            ),
        )
        line = json_line(PLAIN._replace(dropped=(("proxy-in", 12), ("buffer", 3))))
        self.assertEqual(json.loads(line)["dropped"], {"proxy-in": 12, "buffer": 3})
