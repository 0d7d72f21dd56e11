"""Tests of `portfwd.rules.findings`: collecting problems, suggestions, safe text."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Location, Problem, Severity
from portfwd.rules.findings import Findings, nearest, shown, suggestion


class FindingsTests(SynchronousTestCase):
    """Problems in order."""

    def test_failed(self) -> None:
        """A warning refuses nothing, an error does; the repr says so."""
        findings = Findings()
        findings.warning(Location("f"), "no-rules", "m")
        self.assertFalse(findings.failed)
        self.assertEqual(repr(findings), "<Findings 1>")
        findings.error(Location("f"), "no-rules", "m")
        self.assertTrue(findings.failed)
        self.assertEqual(repr(findings), "<Findings 2 failed>")
        self.assertEqual([p.severity for p in findings.sorted()], [Severity.WARNING, Severity.ERROR])

    def test_unknown_code(self) -> None:
        """A code that the table does not have is refused, so that the reference misses none."""
        self.assertRaises(KeyError, Findings().error, Location("f"), "no-such-code", "m")

    def test_order(self) -> None:
        """Problems are sorted by file as read, then by place; unknown files come last."""
        places = [
            Location("x", 1, 1),
            Location("b", 2, 1),
            Location("a", 9, 1),
            Location("a", 2, 5),
            Location("a", 2, 4),
        ]
        findings = Findings()
        findings.extend(Problem(place, "no-rules", "m") for place in places)
        got = [str(p.location) for p in findings.sorted(["a", "b", "a"])]
        self.assertEqual(got, ["a:2:4", "a:2:5", "a:9:1", "b:2:1", "x:1:1"])

    def test_suggestion(self) -> None:
        """The nearest known word is suggested, and none when nothing is near."""
        self.assertEqual(suggestion("ilde", ["idle", "linger"]), "did you mean 'idle'?")
        self.assertEqual(suggestion("zzz", ["idle"]), "")

    def test_nearest(self) -> None:
        """Where no word is near, a few are listed, and of many the command that lists them is named."""
        self.assertEqual(nearest("idel", ["idle", "rate"]), "did you mean 'idle'?")
        self.assertEqual(nearest("zzz", ["rate", "idle"]), "there is idle, rate")
        self.assertEqual(nearest("zzz", ["rate"], "portfwd options"), "'portfwd options' lists them")
        self.assertEqual(nearest("zzz", map(str, range(13))), "")

    def test_shown(self) -> None:
        """What a message shows of a file is printable and not endless."""
        self.assertEqual(shown("a\x1b[0m"), "'a\\u001b[0m'")
        self.assertEqual(len(shown("x" * 1000)), 62)
