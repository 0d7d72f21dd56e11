"""Tests of `portfwd.logs.text`: the line for people."""

from __future__ import annotations

import re

from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from portfwd.logs.text import text_line
from portfwd.values import CloseReason, SessionSummary, TLSInfo
from tests.logs.summaries import PLAIN, changed, summaries

KEYS = [
    "id", "rule", "client", "local", "upstream", "to_upstream", "to_client", "connect", "first_byte",
    "duration", "reason", "ended_first", "relay", "detail",
]  # fmt: skip
OPENED_KEYS = ["id", "rule", "client", "local", "upstream", "connect"]

FIELD = re.compile(r' ([a-z_]+)=((?:[^\s"=\\]+)|"(?:[^"\\]|\\.)*")')


class TextLineTests(SynchronousTestCase):
    """``log access=text``."""

    def test_plain(self) -> None:
        """Every fact of a session is there, behind the time of its close."""
        self.assertEqual(
            text_line(PLAIN),
            "2026-01-31T12:00:01.750Z closed id=7 rule=web client=192.0.2.1:5555 local=10.0.0.1:8080"
            " upstream=10.0.0.5:80 to_upstream=312 to_client=48000 connect=0.001204 first_byte=0.003411"
            " duration=1.250000 reason=-- ended_first=client relay=splice detail=-",
        )

    def test_opened(self) -> None:
        """The line of an opening has what is known by then."""
        self.assertEqual(
            text_line(changed(reason=None, duration=0.25)),
            "2026-01-31T12:00:00.750Z opened id=7 rule=web client=192.0.2.1:5555 local=10.0.0.1:8080"
            " upstream=10.0.0.5:80 connect=0.001204",
        )

    def test_refused(self) -> None:
        """What never came is a dash; the detail is quoted."""
        line = text_line(
            changed(
                client=None,
                upstream=None,
                connect_time=None,
                first_byte=None,
                relay="",
                reason=CloseReason.ACCESS,
                ended_first=None,
                detail="deny 10.0.0.1 (rules.conf:4)",
            )
        )
        self.assertIn(" client=- local=10.0.0.1:8080 upstream=- ", line)
        self.assertIn(" connect=- first_byte=- ", line)
        self.assertTrue(
            line.endswith(' reason=AC ended_first=- relay=- detail="deny 10.0.0.1 (rules.conf:4)"')
        )

    @given(summaries)
    @settings(max_examples=60, deadline=None)
    def test_nothing_breaks_the_line(self, summary: SessionSummary) -> None:
        """Whatever stands in a summary, the line has its fields and no more, and can be shown anywhere."""
        line = text_line(summary)
        self.assertTrue(line.isprintable())
        word = "opened" if summary.reason is None else "closed"
        head = re.match(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z {word}", line)
        assert head is not None
        fields = FIELD.findall(line, head.end())
        more = {
            "client_name": summary.tls is not None and summary.tls.client_name,
            "dropped": summary.dropped and summary.reason,
            "repeated": summary.repeated and summary.reason,
        }
        keys = KEYS if summary.reason is not None else OPENED_KEYS
        self.assertEqual([key for key, _ in fields], keys + [key for key, value in more.items() if value])
        self.assertEqual("".join(f" {key}={value}" for key, value in fields), line[head.end() :])

    def test_dropped(self) -> None:
        """What was dropped comes last, by cause, and only where something was."""
        self.assertNotIn("dropped=", text_line(PLAIN))
        named = text_line(PLAIN._replace(tls=TLSInfo("a.example", client_name="al ice")))
        self.assertTrue(named.endswith(' detail=- client_name="al ice"'), named)
        self.assertNotIn("client_name", text_line(PLAIN._replace(tls=TLSInfo("a.example"))))
        line = text_line(PLAIN._replace(dropped=(("proxy-in", 12), ("buffer", 3))))
        self.assertTrue(line.endswith(" detail=- dropped=proxy-in:12,buffer:3"))
