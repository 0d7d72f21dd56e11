"""Tests of `portfwd.metrics.tally`: what closed sessions did, added up."""

from __future__ import annotations

import gc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.metrics.tally import CHOSEN, Histogram, Ledger, RuleTally
from portfwd.values import CloseReason, FlowSummary, SessionSummary

CLOSED = SessionSummary(
    1, "web", ("", "", "", ""), None, None, None, 0.0, 0.002, 0.03, 12.0,
    FlowSummary(100, 2, 3, 50, 0.5), FlowSummary(200, 4, 5, 0, 0.0), CloseReason.NORMAL,
)  # fmt: skip


class HistogramTests(SynchronousTestCase):
    """Each time is counted in one bucket."""

    def test_bounds(self) -> None:
        """A time that is a bound is in the bucket of that bound; what is beyond all has one as well."""
        histogram = Histogram((1.0, 2.0))
        for seconds in (0.0, 1.0, 1.5, 2.0, 2.1, 99.0):
            histogram.add(seconds)
        self.assertEqual(histogram.counts, [2, 2, 2])
        self.assertEqual(repr(histogram), "<Histogram 6 times, 105.6 s>")

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.floats(0, 100)), st.lists(st.floats(0, 100)))
    def test_merge(self, one: list[float], other: list[float]) -> None:
        """Two that are merged are one that saw both."""
        histograms = [Histogram((1.0, 10.0)) for _ in range(3)]
        for histogram, times in zip(histograms, (one, other, one + other), strict=True):
            for seconds in times:
                histogram.add(seconds)
        histograms[0].merge(histograms[1])
        self.assertEqual(histograms[0].counts, histograms[2].counts)
        self.assertAlmostEqual(histograms[0].total, histograms[2].total)


class RuleTallyTests(SynchronousTestCase):
    """A rule, and its targets."""

    def test_closed(self) -> None:
        """Reasons, bytes, calls and times are added up, of each direction for itself."""
        tally = RuleTally()
        tally.known("a:1", "b:1")
        for _ in range(2):
            tally.closed(CLOSED, "a:1")
        tally.closed(CLOSED._replace(reason=CloseReason.CONNECT_REFUSED, connect_time=None, first_byte=None))
        self.assertEqual(tally.reasons, {CloseReason.NORMAL: 2, CloseReason.CONNECT_REFUSED: 1})
        up = tally.to_upstream
        self.assertEqual((up.bytes, up.reads, up.writes, up.spliced, up.paused), (300, 6, 9, 150, 1.5))
        self.assertEqual((tally.to_client.bytes, repr(up)), (600, "<FlowTally 300 bytes>"))
        times = [sum(one.counts) for one in (tally.dial, tally.first_byte, tally.duration)]
        self.assertEqual(times, [2, 2, 3])
        self.assertEqual(tally.targets["a:1"].to_client.bytes, 400)
        self.assertEqual(tally.targets["b:1"].reasons, {})
        self.assertEqual(repr(tally), "<RuleTally 3 closed>")

    def test_chosen(self) -> None:
        """Targets that no file names are counted together: a filter may choose any number of them."""
        tally = RuleTally()
        tally.known("a:1")
        for number in range(100):
            tally.closed(CLOSED, f"10.0.0.{number}:80")
        self.assertEqual(list(tally.targets), ["a:1", CHOSEN])
        self.assertEqual(tally.targets[CHOSEN].to_upstream.bytes, 10_000)

    def test_open(self) -> None:
        """A summary without a reason, which no closed session has, is not counted as one."""
        tally = RuleTally()
        tally.closed(CLOSED._replace(reason=None))
        self.assertEqual(tally.reasons, {})

    def test_merge(self) -> None:
        """What two tallies have is what one would."""
        one, other = RuleTally(), RuleTally()
        one.closed(CLOSED)
        other.closed(CLOSED)
        one.merge(other)
        self.assertEqual((one.reasons[CloseReason.NORMAL], one.to_client.writes), (2, 10))


class LedgerTests(SynchronousTestCase):
    """All rules."""

    def test_by_name(self) -> None:
        """A rule goes on with the tally of its name; a name that nobody has any more is forgotten."""
        ledger = Ledger()
        first = ledger.rule("web")
        self.assertIs(ledger.rule("web"), first)
        other = ledger.rule("ssh")
        self.assertIsNot(other, first)
        self.assertEqual(repr(ledger), "<Ledger of 2 rules>")
        del first, other
        gc.collect()
        self.assertEqual(repr(ledger), "<Ledger of 0 rules>")
