"""Tests of `portfwd.rules.directives`: ``default``, ``log`` and the ones kept for others."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules import parse
from portfwd.rules.model import AccessLogFormat, LogSpec
from tests.rules.grammars.test_native import codes


class DefaultTests(SynchronousTestCase):
    """``default``."""

    def test_below_only(self) -> None:
        """A default holds for the rules below, until another replaces it; rinetd's lines too."""
        text = ":1 -> a:1\ndefault idle=1m\n:2 -> a:1\ndefault idle=2m linger=1s\n0 3 a 1\n"
        rules = parse(text, "f").rules
        self.assertEqual([r.options.idle for r in rules], [None, 60.0, 120.0])
        self.assertEqual([r.options.linger for r in rules], [5.0, 5.0, 1.0])

    def test_place(self) -> None:
        """A rule knows the place of an option that it has from a default."""
        (rule,) = parse("default idle=1m\n:2 -> a:1", "f").rules
        self.assertEqual([(name, str(where)) for name, where in rule.places], [("idle", "f:1:9")])


class LogTests(SynchronousTestCase):
    """``log`` and how it goes with rinetd's lines."""

    def log(self, text: str) -> LogSpec:
        """What the lines say."""
        return parse(text + "\n:1 -> a:1", "f").log

    def test_forms(self) -> None:
        """Form and file, each by itself or both."""
        self.assertEqual(self.log(""), LogSpec())
        self.assertEqual(self.log("log access=off"), LogSpec(AccessLogFormat.OFF))
        self.assertEqual(self.log('log file="a b"'), LogSpec(None, "a b"))
        self.assertEqual(self.log("log file=x access=json"), LogSpec(AccessLogFormat.JSON, "x"))
        self.assertEqual(self.log("log probes=off"), LogSpec(probes=False))
        self.assertEqual(self.log("log opened=on"), LogSpec(opened=True))
        self.assertEqual(self.log("log repeats=on\nlog file=x"), LogSpec(None, "x", repeats=True))
        self.assertEqual(str(self.log("\n log access=off").where), "f:2:2")

    def test_rinetd(self) -> None:
        """``logfile`` means rinetd's form, ``logcommon`` the common one, ``log access=`` whatever it says."""
        self.assertEqual(self.log("logfile x"), LogSpec(AccessLogFormat.RINETD, "x"))
        self.assertEqual(self.log("logcommon"), LogSpec(AccessLogFormat.COMMON))
        self.assertEqual(self.log("logcommon\nlogfile x"), LogSpec(AccessLogFormat.COMMON, "x"))
        self.assertEqual(self.log("log access=text\nlogfile x"), LogSpec(AccessLogFormat.TEXT, "x"))
        self.assertEqual(self.log("logfile x\nlog file=y"), LogSpec(None, "y"))

    def test_repeated(self) -> None:
        """The later line replaces the earlier one, with a warning."""
        text = "logfile x\nlogfile y\n:1 -> a:1"
        self.assertEqual(codes(text), ["repeated-directive"])
        self.assertEqual(parse(text, "f").log.file, "y")
