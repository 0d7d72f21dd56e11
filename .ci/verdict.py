"""
Read trial's output and say in one line what came of the tests: ``12 passed, 0 failed, 1 skipped``.

``python3 .ci/verdict.py LOG``. Exit status 1 when a test failed, when none ran, when the
output has no summary, or when, under ``CI=true``, a test was skipped because a program is
missing (its reason begins with "needs "): on a machine that installs everything, such a skip is
a hole in the tests. Tests that run only when PORTFWD_TESTS asks for them are left out on purpose.
Why is told on standard error; the line alone is on standard output.
"""

import os
import re
import sys
from pathlib import Path

SUMMARY = re.compile(r"^(PASSED|FAILED)(?: \((?P<counts>[^)]*)\))?$", re.MULTILINE)
RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
SKIPPED = re.compile(r"^\[SKIPPED\]\n(?P<reason>.*)$", re.MULTILINE)


def judge(log: str, ci: bool) -> tuple[str, list[str]]:
    """The line for `log`, and every reason to fail; `ci`: whether missing programs are one."""
    ran, summary = RAN.findall(log), list(SUMMARY.finditer(log))
    if len(ran) != 1 or len(summary) != 1:
        return "0 passed, 1 failed", ["trial did not come to its summary"]
    counts = dict.fromkeys(
        ("successes", "failures", "errors", "unexpectedSuccesses", "expectedFailures", "skips"), 0
    )
    for item in filter(None, (summary[0]["counts"] or "").split(", ")):
        name, _, number = item.partition("=")
        counts[name] = int(number)
    failed = counts["failures"] + counts["errors"] + counts["unexpectedSuccesses"]
    # A test that is expected to fail shows nothing: it is counted with those that did not run.
    skipped = counts["skips"] + counts["expectedFailures"]
    reasons = []
    if failed or summary[0][1] != "PASSED":
        reasons.append(f"{failed} tests failed")
    if int(ran[0]) == 0 or counts["successes"] == 0:
        reasons.append("no test ran")
    if ci:
        skips = sorted({match["reason"] for match in SKIPPED.finditer(log)})
        holes = [reason for reason in skips if re.match(r"needs (?!PORTFWD_TESTS=)", reason)]
        reasons += [f"tests were skipped: {reason}" for reason in holes]
    return f"{counts['successes']} passed, {failed} failed, {skipped} skipped", reasons


def main() -> int:
    """Judge the file that is named on the command line."""
    line, reasons = judge(Path(sys.argv[1]).read_text(errors="replace"), os.environ.get("CI") == "true")
    for reason in reasons:
        print(f".ci/verdict.py: {reason}", file=sys.stderr)
    print(line)
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
