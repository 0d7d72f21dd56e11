"""The line that ``.ci/run`` ends with says what trial said, and nothing better."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

SOURCE = Path(__file__).resolve().parents[2] / ".ci" / "verdict.py"

SKIPS = """
===============================================================================
[SKIPPED]
needs nginx

tests.integration.test_http.HTTPTests.test_get
===============================================================================
[SKIPPED]
no IPv6 on this machine

tests.integration.test_v6.V6Tests.test_dual
-------------------------------------------------------------------------------
Ran 5 tests in 1.250s

PASSED (skips=2, successes=3)
"""


def load() -> ModuleType:
    """The script as a module: it lies outside of every package."""
    spec = importlib.util.spec_from_file_location("verdict", SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class VerdictTests(SynchronousTestCase):
    """`judge` on what trial prints."""

    if not SOURCE.exists():
        skip = "an sdist carries no .ci directory"

    def judge(self, log: str, ci: bool = True) -> tuple[str, list[str]]:
        result: tuple[str, list[str]] = load().judge(log, ci)
        return result

    def test_passed(self) -> None:
        """A run in which everything passed has no reason to fail."""
        log = "Ran 2 tests in 0.1s\n\nPASSED (successes=2)\n"
        self.assertEqual(self.judge(log), ("2 passed, 0 failed, 0 skipped", []))

    def test_failed(self) -> None:
        """Failures, errors and unexpected successes all failed; an expected failure showed nothing."""
        log = (
            "Ran 9 tests in 0.1s\n\n"
            "FAILED (failures=1, errors=2, unexpectedSuccesses=1, expectedFailures=3, successes=2)\n"
        )
        self.assertEqual(self.judge(log), ("2 passed, 4 failed, 3 skipped", ["4 tests failed"]))

    def test_missing_program(self) -> None:
        """Under CI a skip for want of a program fails the run; other skips do not."""
        line = "3 passed, 0 failed, 2 skipped"
        self.assertEqual(self.judge(SKIPS), (line, ["tests were skipped: needs nginx"]))

    def test_chosen(self) -> None:
        """A test that runs only on demand is no hole."""
        self.assertEqual(self.judge(SKIPS.replace("needs nginx", "needs PORTFWD_TESTS=deep"))[1], [])

    def test_missing_program_elsewhere(self) -> None:
        """On somebody's own machine a missing program is no failure."""
        self.assertEqual(self.judge(SKIPS, ci=False), ("3 passed, 0 failed, 2 skipped", []))

    def test_nothing_ran(self) -> None:
        """A run of no tests is a failed one."""
        log = "Ran 0 tests in 0.000s\n\nPASSED\n"
        self.assertEqual(self.judge(log), ("0 passed, 0 failed, 0 skipped", ["no test ran"]))

    def test_cut_off(self) -> None:
        """So is one that was killed before its summary."""
        _, reasons = self.judge("tests.test_values\n  ValueTests\n    test_one ...   [OK]\n")
        self.assertEqual(reasons, ["trial did not come to its summary"])
