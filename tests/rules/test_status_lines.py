"""Tests of `portfwd.rules.status_lines`: ``status-file`` and ``stats-log``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import parse
from portfwd.rules.model import Ruleset
from portfwd.rules.status_lines import StatusFileSpec, StatusFormat, stats_interval, status_file

RULE = "\n:80 -> 10.0.0.5:80"


def read(text: str) -> Ruleset:
    """The ruleset of one line and a rule."""
    return parse(text + RULE, "f")


class StatusLineTests(SynchronousTestCase):
    """What the lines say, and what is wrong with them."""

    def codes(self, text: str) -> list[str]:
        """What is wrong with a line."""
        return [one.code for one in self.assertRaises(RulesError, read, text).problems]

    def test_file(self) -> None:
        """The file, how often it is written, its form and its permission bits."""
        self.assertEqual(status_file(read("status-file /run/s")), StatusFileSpec("/run/s"))
        found = status_file(read('status-file "/run/a b" interval=1h format=text mode=600'))
        self.assertEqual(found, StatusFileSpec("/run/a b", 3600.0, StatusFormat.TEXT, 0o600))
        self.assertIsNone(status_file(read("")))

    def test_log(self) -> None:
        """A minute, unless the line says otherwise."""
        self.assertEqual(stats_interval(read("stats-log")), 60.0)
        self.assertEqual(stats_interval(read("stats-log interval=5s")), 5.0)
        self.assertIsNone(stats_interval(read("")))

    def test_last(self) -> None:
        """The last line counts as a whole, with a warning."""
        ruleset = read("status-file a interval=5s\nstatus-file b\nstats-log interval=5s\nstats-log")
        self.assertEqual(status_file(ruleset), StatusFileSpec("b"))
        self.assertEqual(stats_interval(ruleset), 60.0)
        self.assertEqual([one.code for one in ruleset.warnings], ["repeated-directive"] * 2)

    def test_bad(self) -> None:
        """Errors have codes that say what is wrong."""
        for text, code in (
            ("status-file", "missing-argument"),
            ('status-file ""', "missing-argument"),
            ("status-file interval=5s", "missing-argument"),
            ("status-file a b", "unexpected-word"),
            ("status-file a every=5s", "unknown-option"),
            ("status-file a format=xml", "bad-value"),
            ("status-file a interval=0.1s", "out-of-bounds"),
            ("status-file a mode=0644 mode=0600", "duplicate-option"),
            ("stats-log 5s", "unexpected-word"),
            ("stats-log interval=0s", "out-of-bounds"),
        ):
            self.assertEqual(self.codes(text), [code], text)
