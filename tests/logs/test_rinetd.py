"""Tests of `portfwd.logs.rinetd`: rinetd's two formats, byte for byte."""

from __future__ import annotations

import re
import time

from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from portfwd.logs.rinetd import common_line, message, tab_line
from portfwd.values import CloseReason, InetAddress, SessionSummary, Side, UnixAddress
from tests.logs.summaries import PLAIN, changed, summaries

MESSAGES = {
    "opened", "done-local-closed", "done-remote-closed", "accept-failed -", "local-connect-failed -",
    "not-allowed", "denied", "unknown-error",
}  # fmt: skip

COMMON = re.compile(
    r"[!-~]+ - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d  [+-]\d{4}\] "
    r'"GET /rinetd-services/[^/ "]*/[^/ "]+/[^/ "]*/[^/ "]+/([a-z]+(?:-[a-z]+)*(?: -)?) HTTP/1\.0" '
    r"200 \d+ - - - \d+"
)


class Zone:
    """A local time some minutes east of UTC."""

    def __init__(self, minutes: int) -> None:
        self.offset = minutes * 60

    def __call__(self, epoch: float) -> time.struct_time:
        """What `time.localtime` says there."""
        plain = time.gmtime(epoch + self.offset)
        return time.struct_time((*plain[:9], "XXX", self.offset))


class TabTests(SynchronousTestCase):
    """``log access=rinetd``."""

    def test_closed(self) -> None:
        """The closing line has the time of the close, in local time with a blank behind it."""
        self.assertEqual(
            tab_line(PLAIN, Zone(120)),
            "31/Jan/2026:14:00:01 \t192.0.2.1\t0.0.0.0\t8080\t10.0.0.5\t80\t312\t48000\tdone-remote-closed",
        )

    def test_opened(self) -> None:
        """The opening line has the time of the opening and no bytes yet."""
        opened = SessionSummary(
            id=1, rule="web", written=("web", "80", "::1", "8080"), client=InetAddress("::ffff:10.0.0.1", 9),
            local=None, upstream=None, opened_at=0.0,
        )  # fmt: skip
        self.assertEqual(
            tab_line(opened, time.gmtime), "01/Jan/1970:00:00:00 \t10.0.0.1\tweb\t80\t::1\t8080\t0\t0\topened"
        )

    def test_clients_without_address(self) -> None:
        """A unix client and an unknown one have stand-ins; a port that is not there is 0."""
        unix = changed(client=UnixAddress(""), written=("unix:/run/x", "", "10.0.0.5", "80"))
        self.assertEqual(tab_line(unix, Zone(0)).split("\t")[1:4], ["unix-client", "unix:/run/x", "0"])
        self.assertEqual(tab_line(changed(client=None), Zone(0)).split("\t")[1], "?")

    def test_months_are_english(self) -> None:
        """Each month has C's name, whatever the user's language."""
        months = "JanFebMarAprMayJunJulAugSepOctNovDec"
        names = [
            tab_line(changed(opened_at=(number * 30.5 + 10) * 86400), time.gmtime)[3:6]
            for number in range(12)
        ]
        self.assertEqual(names, [months[at : at + 3] for at in range(0, 36, 3)])

    @given(summaries)
    @settings(max_examples=60, deadline=None)
    def test_nothing_breaks_the_line(self, summary: SessionSummary) -> None:
        """Whatever stands in a summary, there are nine fields and no control character but the tabs."""
        fields = tab_line(summary, time.gmtime).split("\t")
        self.assertEqual(len(fields), 9)
        self.assertTrue(all(field.isprintable() for field in fields))
        self.assertIn(fields[8], MESSAGES)


class CommonTests(SynchronousTestCase):
    """``log access=common``."""

    def test_closed(self) -> None:
        """The line has the made-up request, two blanks before the zone, and bytes to the client first."""
        self.assertEqual(
            common_line(PLAIN, Zone(60)),
            "192.0.2.1 - - [31/Jan/2026:13:00:01  +0100] "
            '"GET /rinetd-services/0.0.0.0/8080/10.0.0.5/80/done-remote-closed HTTP/1.0" 200 48000 - - - 312',
        )

    def test_zones(self) -> None:
        """Offsets west of UTC and of half hours are written as rinetd does."""
        for minutes, expected in ((0, "+0000"), (-210, "-0330"), (345, "+0545"), (-480, "-0800")):
            self.assertIn(f"  {expected}]", common_line(PLAIN, Zone(minutes)))

    def test_encoded(self) -> None:
        """Only what would break the URL or the line is percent-encoded."""
        strange = changed(
            written=("unix:/run/a b", "", 'fe80::1%eth0"\n', "80"), client=InetAddress("fe80::2%e th", 1)
        )
        line = common_line(strange, Zone(0))
        self.assertTrue(line.startswith("fe80::2%e%20th - - ["))
        self.assertIn("/unix:%2Frun%2Fa%20b/0/fe80::1%eth0%22%0A/80/", line)

    @given(summaries)
    @settings(max_examples=60, deadline=None)
    def test_nothing_breaks_the_line(self, summary: SessionSummary) -> None:
        """Whatever stands in a summary, the line has this form, in ASCII."""
        line = common_line(summary, time.gmtime)
        match = COMMON.fullmatch(line)
        assert match is not None, line
        self.assertIn(match[1], MESSAGES)


class MessageTests(SynchronousTestCase):
    """Which word of rinetd's tells how a session stands."""

    def test_access(self) -> None:
        """A missing allow is ``not-allowed``, a deny ``denied``."""
        words = [message(changed(reason=CloseReason.ACCESS, access_step=step)) for step in (1, 2, 3, 4)]
        self.assertEqual(words, ["not-allowed", "denied", "not-allowed", "denied"])

    def test_dial(self) -> None:
        """However the dial failed, it is rinetd's failed connect."""
        for reason in (
            CloseReason.CONNECT_REFUSED,
            CloseReason.CONNECT_TIMEOUT,
            CloseReason.NAME_NOT_RESOLVED,
            CloseReason.TLS_FAILED,
            CloseReason.RESOURCES,
        ):
            self.assertEqual(message(changed(reason=reason, ended_first=None)), "local-connect-failed -")

    def test_limit(self) -> None:
        """A session over a limit was not accepted, in rinetd's words."""
        self.assertEqual(message(changed(reason=CloseReason.LIMIT)), "accept-failed -")

    def test_who_ended_first(self) -> None:
        """For all that was relayed, rinetd asks who ended first."""
        for reason in (CloseReason.NORMAL, CloseReason.CLIENT_RESET, CloseReason.UPSTREAM_IDLE):
            for side, expected in (
                (Side.CLIENT, "done-remote-closed"),
                (Side.UPSTREAM, "done-local-closed"),
                (None, "unknown-error"),
            ):
                self.assertEqual(message(changed(reason=reason, ended_first=side)), expected)
        self.assertEqual(message(changed(reason=None)), "opened")
