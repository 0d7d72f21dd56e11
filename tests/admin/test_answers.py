"""Tests of what the control socket says."""

from __future__ import annotations

import json

from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin import answers
from tests.admin.fakes import FAULT, RULE, FakeSession
from tests.logs.summaries import nasty


class AnswerTests(SynchronousTestCase):
    """One JSON object a line."""

    def test_kinds(self) -> None:
        """A greeting, an answer, a refusal with details, and an event are told apart by their keys."""
        self.assertEqual(answers.greeting("1.2", "read"), b'{"portfwd":"1.2","protocol":1,"level":"read"}\n')
        self.assertEqual(answers.answer({"a": 1}), b'{"ok":true,"result":{"a":1}}\n')
        self.assertEqual(
            answers.refusal("not-found", "no", {"lines": ["x"]}),
            b'{"ok":false,"error":"not-found","message":"no","lines":["x"]}\n',
        )
        self.assertEqual(answers.event({"a": None}), b'{"event":{"a":null}}\n')

    @settings(max_examples=50)
    @given(nasty)
    def test_one_line(self, text: str) -> None:
        """Whatever a text holds, it is one line of printable ASCII, and read back as it was."""
        line = answers.answer({"text": text})
        self.assertTrue(all(0x20 <= byte < 0x7F for byte in line[:-1]), line)
        self.assertEqual(json.loads(line)["result"]["text"], text)


class RowTests(SynchronousTestCase):
    """Rows of sessions, rules and faults."""

    def test_session(self) -> None:
        """A session has the keys of the access log, and its state."""
        row = answers.session_row(FakeSession(5))
        self.assertEqual((row["id"], row["state"], row["to_upstream"]["bytes"]), (5, "relaying", 100))
        self.assertEqual(row["client"], "192.0.2.1:5555")

    def test_rule(self) -> None:
        """A rule says where it listens, what it has done, and where it is written."""
        row = answers.rule_row(RULE)
        self.assertEqual((row["name"], row["listen"], row["total"]), ("web", ["127.0.0.1:80"], 9))
        self.assertEqual((row["filters"], row["where"]), (["sniff"], "rules.conf:3"))

    def test_fault(self) -> None:
        """A fault says how it is set and how many connections it affects."""
        row = answers.fault_row(FAULT)
        self.assertEqual((row["kind"], row["options"], row["affected"]), ("latency", {"delay": "10ms"}, 2))
