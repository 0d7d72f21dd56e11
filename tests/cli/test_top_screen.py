"""Tests of what ``portfwd top`` shows."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.watching import top_sorts
from portfwd.cli.top_screen import SORT_KEYS, ScreenState, head_lines, rate_text, screen
from tests.cli.test_looking import STATUS
from tests.logs.summaries import nasty

ROW: dict[str, Any] = {
    "id": 7,
    "rule": "web",
    "client": "192.0.2.1:5555",
    "upstream": None,
    "state": "relaying",
    "duration": 61.0,
    "to_upstream_rate": 0.2,
    "to_client_rate": 2048.0,
    "bytes": 3_000_000,
    "bytes_per_call": None,
    "rtt_us": {"client": 12_345, "upstream": None},
    "retransmits": {"client": 3, "upstream": None},
}
LOOK: dict[str, Any] = {
    "sessions": 1,
    "to_upstream_rate": 0.0,
    "to_client_rate": 2048.0,
    "sort": "rate",
    "rows": [ROW],
    "status": STATUS,
}


class ScreenTests(SynchronousTestCase):
    """A look, as lines."""

    def test_screen(self) -> None:
        """Figures, heads, sessions, and the keys at the bottom."""
        lines = screen(LOOK, ScreenState(), 120, 8)
        self.assertEqual(
            lines,
            [
                "portfwd 1.2.3 running, up 1m01s, 1 rule, 20 descriptors",
                "1 session of 9 in all, to-upstream 0, to-client 2.0 KiB/s, by rate",
                "",
                "ID  RULE  CLIENT          UPSTREAM    AGE  TO-UPSTREAM  TO-CLIENT    BYTES  A CALL"
                "  RTT MS  RESENT  STATE",
                " 7  web   192.0.2.1:5555  -         1m01s            0  2.0 KiB/s  2.9 MiB       -"
                "  12.3/-     3/-  relaying",
                "",
                "",
                "q quit  sort by: r rate  u to-upstream  d to-client  b bytes  a age  i number  k kill"
                "  space pause  ? keys",
            ],
        )

    def test_notes(self) -> None:
        """A note stands where the keys do; a pause is marked; before the first look it waits."""
        self.assertEqual(
            screen(LOOK, ScreenState(note="session 7 is killed"), 80, 8)[-1], "session 7 is killed"
        )
        self.assertIn("PAUSED", head_lines(LOOK, ScreenState(paused=True))[0])
        failing = LOOK | {"status": LOOK["status"] | {"targets_down": 2}}
        self.assertTrue(head_lines(failing, ScreenState())[0].endswith(", 2 targets down"))
        self.assertEqual(
            screen(None, ScreenState(), 40, 2),
            ["waiting for the forwarder", "q quit  r u d b a i sort  k kill  space "],
        )

    def test_keys(self) -> None:
        """Each key is an order that the forwarder knows."""
        self.assertLessEqual(set(SORT_KEYS.values()), set(top_sorts()))

    def test_rates(self) -> None:
        """Nothing is 0."""
        self.assertEqual((rate_text(0.4), rate_text(1000)), ("0", "1000 B/s"))

    def test_narrow(self) -> None:
        """At 80 columns long names are shortened, and age, rates and bytes are still there."""
        row = ROW | {
            "id": 123456,
            "rule": "customer-portal-production",
            "client": "[2001:db8:1234:5678:9abc:def0:1234:5678]:54321",
            "upstream": "[2001:db8:1234:5678:9abc:def0:8765:4321]:8443",
            "to_upstream_rate": 1_000_000_000.0,
        }
        lines = screen(LOOK | {"rows": [row]}, ScreenState(), 80, 6)
        self.assertEqual(
            lines[3:5],
            [
                "    ID  RULE        CLIENT                  AGE  TO-UPSTREAM  TO-CLIENT    BYTES",
                "123456  custo\u2026tion  [2001:db8:\u202678]:54321  1m01s    954 MiB/s  2.0 KiB/s  2.9 MiB",
            ],
        )
        wide = screen(LOOK | {"rows": [row]}, ScreenState(), 220, 6)
        self.assertIn("[2001:db8:1234:5678:9abc:def0:8765:4321]:8443", wide[4])
        self.assertIn("STATE", wide[3])

    def test_help(self) -> None:
        """``?`` explains every key."""
        lines = screen(LOOK, ScreenState(help=True), 80, 24)
        for key in (*SORT_KEYS, "q", "k", "?"):
            self.assertTrue(any(line.startswith(key + " ") for line in lines), key)

    @settings(max_examples=60)
    @given(nasty, nasty, st.integers(1, 120), st.integers(1, 12))
    def test_fits(self, rule: str, note: str, width: int, height: int) -> None:
        """Whatever names hold, no line is too wide, none too many, and the cursor stays."""
        look = LOOK | {"rows": [ROW | {"rule": rule}] * 5}
        lines = screen(look, ScreenState(note=note), width, height)
        self.assertEqual(len(lines), height)
        for line in lines:
            self.assertLessEqual(len(line), width)
            self.assertTrue(line.isprintable(), line)
