"""The daily look at certificates, and their dates as figures."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.metrics.figures import MOST_CERTIFICATES, Figures
from portfwd.relay.live import LiveRule
from portfwd.rules.model import ListenOptions, Options
from portfwd.service.build.build import live_rules
from portfwd.service.tls.certificate_watch import DAY, MOST_CHECKED, ROUND, CertificateWatch, sides_of
from portfwd.service.tls.certificates import now_utc
from portfwd.service.tls.file_watch import LOOK_EVERY
from portfwd.service.tls.listeners import ServerSide
from portfwd.service.tls.targets import ClientSide
from tests.service.contexts import Lines, a_context, rules
from tests.service.pems import CA, directory_of, write_authority, write_pair


def a_rule_with(side: object) -> LiveRule:
    """A rule, as far as the watch knows it, with one target."""
    return cast(
        Any, SimpleNamespace(streams=None, every_destination=[SimpleNamespace(tls=side)], tls_starts={})
    )


class WatchTests(SynchronousTestCase):
    """A listener and a target with certificates."""

    def setUp(self) -> None:
        """Files that will end soon, and what is logged."""
        directory = self.directory = directory_of(self)
        self.until = now_utc().replace(microsecond=0) + timedelta(days=3)
        self.cert, self.key = write_pair(directory, "a", CA.issue_cert("a.example", not_after=self.until))
        self.mine, self.secret = write_pair(
            directory, "me", CA.issue_cert("me.example", not_after=self.until)
        )
        self.authority = write_authority(directory)
        planned = live_rules(
            rules(
                f"web: tls:127.0.0.1:1 cert={self.cert} key={self.key}"
                f" -> tls:127.0.0.1:2 ca={self.authority} client-cert={self.mine}"
                f" client-key={self.secret}\n"
                f":3 -> 127.0.0.1:4\n    filter starttls-postgres terminate cert={self.cert} key={self.key}\n"
                ":5 -> 127.0.0.1:6\n    filter starttls-postgres originate"
                f" client-cert={self.mine} client-key={self.secret}\n"
            ),
            a_context(),
            Lines(),
        )
        self.rules = [one.live for one in planned]
        self.said: list[str] = []

        def hear(event: Any) -> None:
            self.said.append(str(event["log_format"]).format(**event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    def test_sides(self) -> None:
        """Each side is found once, with its certificates; those too that filters start."""
        found = list(sides_of([*self.rules, *self.rules]))
        self.assertEqual([type(one) for one in found], [ServerSide, ClientSide] * 2)
        ends = [(pair.cert, pair.until) for one in found for pair in one.pairs]
        self.assertEqual(ends, [(self.cert, self.until), (self.mine, self.until)] * 2)

    def test_daily(self) -> None:
        """Every day all are warned about, until the service stops."""
        clock = Clock()
        watch = CertificateWatch(cast(Any, clock), lambda: self.rules)
        watch.startService()
        self.assertEqual(self.said, [])
        for _ in range(2):
            self.said.clear()
            clock.advance(DAY)
            self.assertEqual(len([one for one in self.said if "expires on" in one]), 4, self.said)
        watch.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_files(self) -> None:
        """Changed files are read again without a connection, and the watch leaves no call after its stop."""
        clock = Clock()
        sides: list[ServerSide | ClientSide] = [
            ServerSide("web", ListenOptions(cert=self.cert, key=self.key), clock.seconds),
            ClientSide(
                "b.example",
                Options(ca=self.authority, client_cert=self.mine, client_key=self.secret),
                seconds=clock.seconds,
            ),
        ]
        watch = CertificateWatch(cast(Any, clock), lambda: [a_rule_with(side) for side in sides])
        watch.startService()
        later = self.until + timedelta(days=100)
        write_pair(self.directory, "a", CA.issue_cert("a.example", not_after=later))
        write_pair(self.directory, "me", CA.issue_cert("me.example", not_after=later))
        clock.pump([ROUND] * int((LOOK_EVERY + ROUND) / ROUND))
        self.assertEqual([pair.until for side in sides for pair in side.pairs], [later, later])
        watch.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_many_rules(self) -> None:
        """A round checks a part of many rules; the next one continues after it, also if rules went away."""
        checked: list[int] = []

        class Side:
            """A side that tells of its checks."""

            pairs = ()

            def __init__(self, number: int) -> None:
                self.number = number

            def warn_of_expiry(self) -> None:
                """Not called."""

            def check_files(self) -> None:
                checked.append(self.number)

        live = [Side(number) for number in range(MOST_CHECKED + 10)]
        clock = Clock()
        watch = CertificateWatch(cast(Any, clock), lambda: [a_rule_with(side) for side in live])
        watch.startService()
        self.addCleanup(watch.stopService)

        def one_round() -> list[int]:
            checked.clear()
            clock.advance(ROUND)
            while any(call.getTime() <= clock.seconds() for call in clock.getDelayedCalls()):
                clock.advance(0)
            return list(checked)

        self.assertEqual(one_round(), list(range(MOST_CHECKED)))
        self.assertEqual(one_round(), [*range(MOST_CHECKED, MOST_CHECKED + 10), *range(MOST_CHECKED - 10)])
        del live[5:]
        self.assertEqual(sorted(one_round()), list(range(5)))
        live.clear()
        self.assertEqual(one_round(), [])

    def test_a_round_that_fails(self) -> None:
        """It is logged, and the next one follows."""
        clock = Clock()
        watch = CertificateWatch(cast(Any, clock), lambda: cast(Any, 1 / 0))
        watch.startService()
        self.addCleanup(watch.stopService)
        for _ in range(2):
            clock.advance(ROUND)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop_in_a_round(self) -> None:
        """A stop between two slices ends the round, and nothing is logged."""
        clock = Clock()
        many = [*self.rules] * 100_000
        watch = CertificateWatch(cast(Any, clock), lambda: many)
        watch.startService()
        clock.advance(ROUND)
        watch.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_figures(self) -> None:
        """Of many certificates those are told of that end first."""
        figures = Figures()
        figures.add_certificates((f"{number}.pem", float(number)) for number in range(MOST_CERTIFICATES + 5))
        self.assertEqual(len(figures.certificates), MOST_CERTIFICATES)
        self.assertIn("0.pem", figures.certificates)
