"""Tests of the one list of what is wrong with what rules name."""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import registry
from portfwd.service.build.factories import Factories
from portfwd.service.build.judging import in_order, judge, matters_at_start
from tests.service.contexts import rules
from tests.service.pems import CA, directory_of, write_pair

OLD = datetime(2020, 1, 1, tzinfo=UTC)
TEXT = """\
log file=none/access.log
a: tls:127.0.0.1:1 cert=none.pem -> 127.0.0.1:9
b: unix:none/socket -> 127.0.0.1:9
    filter none
c: 127.0.0.1:2 -> 127.0.0.1:9 relay=splice
d: tls:127.0.0.1:3 -> 127.0.0.1:9 relay=copy
"""


class JudgingTests(SynchronousTestCase):
    """`judge`."""

    def test_everything(self) -> None:
        """Files, filters, and what cannot be done: all at once, in the order of the file."""
        ruleset = rules(TEXT)
        problems = in_order(judge(ruleset, Factories().select()), ruleset.files)
        self.assertEqual(
            [(one.location.line, one.code) for one in problems],
            [
                (1, "no-directory"),
                (2, "bad-tls"),
                (3, "no-directory"),
                (4, "unknown-filter"),
                (6, "bad-tls"),
                (6, "not-yet"),
            ],
        )

    def test_checks_are_found_once(self) -> None:
        """The metadata of the distributions are read once, and only if a rule has a check."""
        groups: list[str] = []

        def entry_points(*, group: str) -> list[object]:
            groups.append(group)
            return []

        self.patch(registry, "entry_points", entry_points)
        judge(rules("a: 127.0.0.1:1 -> 127.0.0.1:9\n"), Factories().select())
        self.assertEqual(groups, [])
        judge(rules("a: 127.0.0.1:1 -> 127.0.0.1:9\n    check tcp\n"), Factories().select())
        self.assertEqual(groups, ["portfwd.checks"])

    def test_silent(self) -> None:
        """Judging logs nothing about certificates: a start does it when it makes the rules."""
        directory = directory_of(self)
        cert, key = write_pair(directory, "a", CA.issue_cert("a.example", not_after=OLD))
        events: list[object] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        ruleset = rules(
            f"a: tls:127.0.0.1:1 cert={cert} key={key} -> tls:127.0.0.1:9"
            f" client-cert={cert} client-key={key}\n"
            f"b: 127.0.0.1:2 -> 127.0.0.1:9\n    filter starttls-postgres terminate cert={cert} key={key}\n"
            f"c: 127.0.0.1:3 -> 127.0.0.1:9\n    filter starttls-postgres originate verify=off"
            f" client-cert={cert} client-key={key}\n"
        )
        judge(ruleset, Factories().select())
        self.assertEqual(events, [])

    def test_at_start(self) -> None:
        """A start tells errors and what it does without; other warnings are for ``check``."""
        expired = CA.issue_cert("a.example", not_after=OLD)
        cert, key = write_pair(directory_of(self), "a", expired)
        problems = judge(
            rules(f"{TEXT}e: tls:127.0.0.1:4 cert={cert} key={key} -> 127.0.0.1:9\n"), Factories().select()
        )
        self.assertEqual([one.code for one in problems if not matters_at_start(one)], ["certificate-expires"])
