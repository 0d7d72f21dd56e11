"""Tests of ``check`` clauses made ready."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.options import OptionFiles
from portfwd.rules import parse
from portfwd.service.build.checks import ReadyChecks, check_problems, configure_checks, plugin_problems
from portfwd.upstreams.checks.http import HTTPCheck
from portfwd.upstreams.checks.registry import CheckRegistry

FILES = OptionFiles(read=lambda path: "secret\n", absolute=lambda path: path)
HEAD = ":80 -> 10.0.0.5:80\n"


class ConfigureTests(SynchronousTestCase):
    """Clauses in, checks or problems out."""

    def ready(self, clauses: str) -> ReadyChecks:
        """What becomes of `clauses`."""
        (rule,) = parse(HEAD + clauses, "f").rules
        return configure_checks(rule, CheckRegistry.installed(), files=FILES)

    def test_ready(self) -> None:
        """Own options and those of all checks; what differs only in its timing is the same check."""
        (one,) = self.ready("  check http path=/x inter=5s port=81").checks
        self.assertEqual((one.name, one.check, one.timing.inter), ("http", HTTPCheck(path="/x"), 5.0))
        (other,) = self.ready("  check http path=/x inter=9s port=81").checks
        self.assertEqual(one.identity, other.identity)
        for clause in ("http path=/y port=81", "http path=/x", "tcp port=81"):
            (third,) = self.ready(f"  check {clause}").checks
            self.assertNotEqual(one.identity, third.identity)

    def test_at_once(self) -> None:
        """An agent's word counts at once."""
        (one,) = self.ready("  check agent port=81 rise=5").checks
        self.assertEqual((one.timing.rise, one.timing.fall), (1, 1))

    def test_problems(self) -> None:
        """What is wrong stands at its place, and all of it is told at once."""
        found = self.ready(
            "  check htp\n  check http pth=/\n  check http inter=5x\n  check send a b\n"
            "  check tcp\n  check tcp rise=1"
        )
        self.assertEqual([one.name for one in found.checks], ["tcp"])
        self.assertEqual(
            [(one.code, one.location.line, one.location.column) for one in found.problems],
            [
                ("unknown-check", 2, 9),
                ("bad-check-option", 3, 14),
                ("bad-check-option", 4, 20),
                ("bad-check-option", 5, 16),
                ("bad-check-option", 7, 9),
            ],
        )

    def test_of_a_file(self) -> None:
        """Problems of filters and checks come in the order of the file."""
        ruleset = parse(HEAD + "  check nothing\n  filter nothing\n:81 -> a:1\n  check http x=1\n", "f")
        self.assertEqual([one.code for one in check_problems(ruleset)], ["unknown-check", "bad-check-option"])
        self.assertEqual(
            [one.code for one in plugin_problems(ruleset)],
            ["unknown-check", "unknown-filter", "bad-check-option"],
        )
