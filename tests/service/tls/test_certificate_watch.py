"""The daily look at certificates, and their dates as figures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.metrics.figures import MOST_CERTIFICATES, Figures
from portfwd.service.build.build import live_rules
from portfwd.service.tls.certificate_watch import DAY, CertificateWatch, sides_of
from portfwd.service.tls.certificates import now_utc
from portfwd.service.tls.listeners import ServerSide
from portfwd.service.tls.targets import ClientSide
from tests.service.contexts import Lines, a_context, rules
from tests.service.pems import CA, directory_of, write_authority, write_pair


class WatchTests(SynchronousTestCase):
    """A listener and a target with certificates."""

    def setUp(self) -> None:
        """Files that will end soon, and what is logged."""
        directory = directory_of(self)
        self.until = now_utc().replace(microsecond=0) + timedelta(days=3)
        self.cert, key = write_pair(directory, "a", CA.issue_cert("a.example", not_after=self.until))
        mine, secret = write_pair(directory, "me", CA.issue_cert("me.example", not_after=self.until))
        self.mine = mine
        planned = live_rules(
            rules(
                f"web: tls:127.0.0.1:1 cert={self.cert} key={key}"
                f" -> tls:127.0.0.1:2 ca={write_authority(directory)} client-cert={mine}"
                f" client-key={secret}\n"
                f":3 -> 127.0.0.1:4\n    filter starttls-postgres terminate cert={self.cert} key={key}\n"
                ":5 -> 127.0.0.1:6\n    filter starttls-postgres originate"
                f" client-cert={mine} client-key={secret}\n"
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

    def test_figures(self) -> None:
        """Of many certificates those are told of that end first."""
        figures = Figures()
        figures.add_certificates((f"{number}.pem", float(number)) for number in range(MOST_CERTIFICATES + 5))
        self.assertEqual(len(figures.certificates), MOST_CERTIFICATES)
        self.assertIn("0.pem", figures.certificates)
