"""Tests of ``portfwd status``, ``rules``, ``sessions`` and ``session``."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from portfwd.admin.answers import rule_row, session_row
from portfwd.cli import looking
from portfwd.values import FlowSummary
from tests.admin.fakes import RULE, FakeSession
from tests.cli.scripted import ControlTestCase

STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "pid": 7,
    "uptime": 61.5,
    "state": "running",
    "rules": 1,
    "sessions": 2,
    "total": 9,
    "descriptors": 20,
    "files": ["/etc/portfwd/rules.conf"],
    "reloads": 0,
    "reload_failures": 0,
    "reloaded_at": None,
    "log_level": "debug",
    "shells": [],
}


def row(number: int, up: int = 100) -> dict[str, Any]:
    """A session."""
    return session_row(FakeSession(number, up=FlowSummary(up)))


class StatusTests(ControlTestCase):
    """``status``."""

    def test_text(self) -> None:
        """A few lines; reloads and shells where there are any."""
        self.forwarder.says("status", STATUS)
        self.assertEqual(
            self.run_there("status"),
            (
                0,
                "portfwd 1.2.3 running, pid 7, up 1m01s\n"
                "1 rule, 2 open sessions, 9 in all, 20 descriptors, log level debug\n"
                "rules of /etc/portfwd/rules.conf\n",
                "",
            ),
        )
        more = {"reloads": 2, "reload_failures": 1, "reloaded_at": "2026-01-31T12:00:00.000Z", "files": []}
        self.forwarder.says("status", STATUS | more | {"shells": [{"address": "127.0.0.1:22"}]})
        _, out, _ = self.run_there("status")
        self.assertIn("2 reloads, the last at 2026-01-31T12:00:00.000Z, 1 refused\n", out)
        self.assertIn("shell at 127.0.0.1:22\n", out)
        self.assertNotIn("rules of", out)

    def test_only_refused(self) -> None:
        """A reload that was refused is told, also if none was applied."""
        self.forwarder.says("status", STATUS | {"reload_failures": 1})
        self.assertIn("0 reloads, 1 refused\n", self.run_there("status")[1])
        self.forwarder.says("status", STATUS | {"reload_failures": 1, "last_reload_refused": True})
        self.assertIn("refused\nthe last one was refused", self.run_there("status")[1])

    def test_json(self) -> None:
        """For programs it is the answer."""
        self.forwarder.says("status", STATUS)
        self.assertEqual(self.json_of("status"), STATUS)


class RulesTests(ControlTestCase):
    """``rules``."""

    def test_pages(self) -> None:
        """All of them, however many pages that takes; a rule that listens nowhere shows that."""
        web, lab = rule_row(RULE), rule_row(evolve(RULE, name="lab", listen=(), state="closed"))
        self.forwarder.says("rules", {"count": 2, "rules": [web]}, {"count": 2, "rules": [lab]})
        code, out, _ = self.run_there("rules")
        self.assertEqual(code, 0)
        self.assertEqual(
            out,
            "RULE  ADDRESSES     STATE      SESSIONS  TOTAL  TARGETS\n"
            "web   127.0.0.1:80  accepting         1      9  10.0.0.5:80\n"
            "lab   -             closed            1      9  10.0.0.5:80\n",
        )
        self.assertEqual([options["start"] for _, _, options in self.forwarder.lines()], ["0", "1"])

    def test_fewer(self) -> None:
        """Rules that a reload removes between two pages are not waited for."""
        self.forwarder.says("rules", {"count": 9, "rules": [rule_row(RULE)]}, {"count": 9, "rules": []})
        self.assertEqual(len(self.json_of("rules")["rules"]), 1)


class SessionsTests(ControlTestCase):
    """``sessions``."""

    def test_text(self) -> None:
        """A line each; how many more there are is said."""
        self.forwarder.says("sessions", {"count": 3, "sessions": [row(1), row(2)]})
        code, out, _ = self.run_there(
            "sessions", "--rule", "web", "--client", "10.*", "--state", "relaying", "--sort", "up"
        )
        self.assertEqual(code, 0)
        lines = out.splitlines()
        self.assertEqual(
            lines[0].split(),
            ["ID", "RULE", "CLIENT", "UPSTREAM", "STATE", "AGE", "TO-UPSTREAM", "TO-CLIENT", "RELAY"],
        )
        self.assertEqual(
            lines[1].split(),
            ["1", "web", "192.0.2.1:5555", "10.0.0.5:80", "relaying", "2s", "100", "B", "200", "B", "splice"],
        )
        self.assertEqual(lines[3], "2 of 3 sessions; --limit 0 shows all")
        (asked,) = self.forwarder.lines()
        self.assertEqual(
            asked[2],
            {"rule": "web", "client": "10.*", "state": "relaying", "sort": "to-upstream", "limit": "100"},
        )

    def test_bad_limit(self) -> None:
        """A number of sessions or of updates is 0 or more."""
        for words in (("sessions", "--limit"), ("top", "--limit"), ("top", "--count")):
            for number in ("-5", "x", "1.5", "9" * 5000):
                code, out, err = self.run_main(*words, number)
                self.assertEqual((code, out), (2, ""), words)
                self.assertIn("expected a number from 0 on", err)

    def test_all(self) -> None:
        """All of them are had page by page, by number, and sorted here."""
        for sort, expected in (("id", [1, 2, 3]), ("up", [2, 3, 1])):
            self.forwarder.asked.clear()
            self.forwarder.says(
                "sessions",
                {"count": 3, "sessions": [row(1), row(2, 900)]},
                {"count": 1, "sessions": [row(3, 500)]},
                {"count": 0, "sessions": []},
            )
            found = self.json_of("sessions", "--limit", "0", "--sort", sort)
            self.assertEqual([one["id"] for one in found["sessions"]], expected)
            self.assertEqual([one[2].get("after") for one in self.forwarder.lines()], [None, "2", "3"])
            self.assertEqual({one[2]["sort"] for one in self.forwarder.lines()}, {"id"})

    def test_many(self) -> None:
        """So are more than one answer holds."""
        self.forwarder.says(
            "sessions", {"count": 2, "sessions": [row(1), row(2)]}, {"count": 0, "sessions": []}
        )
        self.patch(looking, "PAGE", 1)
        found = self.json_of("sessions", "--limit", "2", "--sort", "down")
        self.assertEqual([one["id"] for one in found["sessions"]], [1, 2])

    def test_orders(self) -> None:
        """Every order that can be asked for can be made here."""
        for sort in looking.SORTS:
            self.forwarder.says("sessions", {"count": 1, "sessions": [row(1)]}, {"count": 0, "sessions": []})
            self.assertEqual(self.json_of("sessions", "--limit", "0", "--sort", sort)["count"], 1, sort)

    def test_nobody(self) -> None:
        """Addresses that are not known yet are dashes."""
        dialing = row(1) | {"upstream": None, "client": None, "relay": ""}
        self.forwarder.says("sessions", {"count": 1, "sessions": [dialing]})
        _, out, _ = self.run_there("sessions")
        self.assertEqual(out.splitlines()[1].split()[2:4], ["-", "-"])


class SessionTests(ControlTestCase):
    """``session``."""

    def test_text(self) -> None:
        """A line for each thing that is known."""
        streams = {"client_stream": "<x rw>", "upstream_stream": "<y>", "detail": "a\x1b"}
        self.forwarder.says("session", {"session": row(7) | streams | {"access_step": 0}})
        code, out, _ = self.run_there("session", "7")
        self.assertEqual(code, 0)
        self.assertNotIn("tcp", out)
        self.assertIn("id               7\n", out)
        self.assertIn("access           allowed\n", out)
        self.assertIn("reason           -\n", out)
        self.assertIn("to upstream      bytes 100  ", out)
        self.assertIn("detail           a\\x1b\n", out)
        self.assertNotIn("<", out)
        self.assertEqual(self.forwarder.lines(), [("session", ("7",), {})])

    def test_tcp_info(self) -> None:
        """A line for each side that is a TCP connection."""
        told = {"client": {"rtt_us": 1500, "lost": None}, "upstream": None}
        self.forwarder.says("session", {"session": row(7) | {"tcp_info": told}})
        _, out, _ = self.run_there("session", "7")
        self.assertIn("tcp client       rtt_us 1500  lost -\n", out)
        self.assertNotIn("tcp upstream", out)
