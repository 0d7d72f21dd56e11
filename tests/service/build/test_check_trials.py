"""Tests of the warnings about checks that cannot be made."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Severity
from portfwd.rules import parse
from portfwd.service.build.check_trials import executable, impossible_checks
from portfwd.service.build.factories import Factories
from portfwd.service.build.judging import judge, matters_at_start
from portfwd.upstreams.checks.api import Check, CheckCarrier, CheckConversation, Subject

HEAD = ":80 -> 10.0.0.5:80\n"


class RaisingAtBegin(Check):
    """Fails by mistake."""

    def begin(self, subject: Subject) -> CheckConversation:
        """Make the mistake."""
        raise ValueError("no such mode")


class NamesNoProgram(Check):
    """Fails by mistake."""

    carrier = CheckCarrier.COMMAND

    def arguments(self, subject: Subject) -> Sequence[str]:
        """Name none."""
        return ()


class ImpossibleTests(SynchronousTestCase):
    """`impossible_checks`."""

    def told(self, text: str, *programs: str) -> list[tuple[int, str]]:
        """The lines and texts, where only `programs` can be executed."""
        problems = list(impossible_checks(parse(text, "f"), runs=programs.__contains__))
        self.assertEqual({one.code for one in problems} - {"check-impossible"}, set())
        self.assertEqual({one.severity for one in problems} - {Severity.WARNING}, set())
        return [(one.location.line, one.message) for one in problems]

    def test_fine(self) -> None:
        """Checks that can be made, of every carrier, and clauses that are refused elsewhere."""
        checks = "".join(
            f"  check {one}\n"
            for one in (
                "tcp",
                "tls",
                "http",
                "dns name=.",
                "agent port=9",
                "exec /bin/ok",
                "nothing",
                "tcp x=1",
            )
        )
        self.assertEqual(self.told(HEAD + checks, "/bin/ok"), [])
        self.assertEqual(self.told(":80 -> unix:/run/a\n  check tcp\n  check http\n"), [])

    def test_program(self) -> None:
        """A program that is missing, whoever its rule is."""
        text = f"{HEAD}  check exec /nonexistent\n  check exec /bin/ok\n"
        why = "the program '/nonexistent' is missing, or may not be executed"
        self.assertEqual(self.told(text, "/bin/ok"), [(2, f"check exec: {why}")])

    def test_raises(self) -> None:
        """The code of a plug-in that raises."""
        begin, names = f"python:{__name__}.RaisingAtBegin", f"python:{__name__}.NamesNoProgram"
        told = self.told(f"{HEAD}  check {begin}\n  check {names}\n")
        self.assertEqual([line for line, _ in told], [2, 3])
        self.assertTrue(told[0][1].endswith("it raised ValueError: no such mode"), told)
        self.assertIn("it raised StopIteration", told[1][1])

    def test_addresses(self) -> None:
        """A target has no address for the check."""
        head = ":80 -> unix:/run/a\n"
        for clause in ("dns name=.", "tls", "tcp port=81"):
            self.assertEqual(len(self.told(f"{head}  check {clause}\n")), 1, clause)
        endpoint = ':80 -> endpoint:"tcp:10.0.0.5:80"\n'
        for clause in ("dns name=.", "tls", "tcp port=81"):
            self.assertEqual(len(self.told(f"{endpoint}  check {clause}\n")), 1, clause)

    def test_executable(self) -> None:
        """What this user may execute, by path or by ``PATH``; no directory and no other file."""
        for program, can in (("/bin/sh", True), ("sh", True), ("/bin", False), ("/etc/passwd", False)):
            self.assertEqual(executable(program), can, program)

    def test_told(self) -> None:
        """``check`` and a start tell it, and a start continues."""
        problems = judge(parse(f"{HEAD}  check exec /nonexistent\n", "f"), Factories().select())
        self.assertEqual([one.code for one in problems if matters_at_start(one)], ["check-impossible"])
