"""Tests of `portfwd.logs.access_log`: which form writes what, and when."""

from __future__ import annotations

import json
import time

from twisted.trial.unittest import SynchronousTestCase

from portfwd.logs.access_log import AccessLog, dropped_line
from portfwd.logs.json_lines import json_line
from portfwd.logs.rinetd import common_line, tab_line
from portfwd.logs.text import text_line
from portfwd.rules.model import AccessLogFormat as Form
from tests.logs.summaries import PLAIN, changed

OPENED = changed(reason=None, duration=0.0)


class Kept:
    """Lines in a list."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line)


class AccessLogTests(SynchronousTestCase):
    """The forms of ``log access=``."""

    def written(self, form: Form, *, opened: bool = False) -> list[str]:
        """The lines of one session."""
        kept = Kept()
        log = AccessLog(form, kept, time.gmtime, opened=opened)
        self.assertEqual(repr(log), f"<AccessLog: {form.value}>")
        log.opened(OPENED)
        self.assertEqual(bool(kept.lines), log.wants_opened)
        before = len(kept.lines)
        log.closed(PLAIN)
        self.assertEqual(len(kept.lines) > before, log.wants_closed)
        return kept.lines

    def test_one_line(self) -> None:
        """Text and JSON have one line a session."""
        self.assertEqual(self.written(Form.TEXT), [text_line(PLAIN)])
        self.assertEqual(self.written(Form.JSON), [json_line(PLAIN)])

    def test_two_lines(self) -> None:
        """The forms of rinetd have a line for the opening too."""
        for form, line in ((Form.RINETD, tab_line), (Form.COMMON, common_line)):
            self.assertEqual(self.written(form), [line(OPENED, time.gmtime), line(PLAIN, time.gmtime)])

    def test_opened(self) -> None:
        """With ``opened=on`` text and JSON have two lines; those of rinetd have two in any case."""
        for form, line in (
            (Form.TEXT, text_line),
            (Form.JSON, json_line),
            (Form.RINETD, lambda summary: tab_line(summary, time.gmtime)),
        ):
            self.assertEqual(self.written(form, opened=True), [line(OPENED), line(PLAIN)])
        self.assertEqual(self.written(Form.OFF, opened=True), [])

    def test_off(self) -> None:
        """A log that is off writes nothing."""
        self.assertEqual(self.written(Form.OFF), [])

    def test_dropped_line(self) -> None:
        """Missing lines are told of in a way that readers of the form survive."""
        self.assertEqual(json.loads(dropped_line(Form.JSON)(3)), {"dropped": 3})
        for form in (Form.TEXT, Form.RINETD, Form.COMMON):
            self.assertTrue(dropped_line(form)(3).startswith("# 3 lines dropped"))
