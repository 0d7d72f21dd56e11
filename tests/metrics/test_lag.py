"""Tests of `portfwd.metrics.lag`: how late the reactor is."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.metrics.lag import INTERVAL, LagMeter


class LagTests(SynchronousTestCase):
    """A timer that looks at the clock."""

    def test_lag(self) -> None:
        """A look that came in time is no lag, a late one is as late as it came."""
        clock = Clock()
        meter = LagMeter(clock)
        self.assertEqual(repr(meter), "<LagMeter stopped <Histogram 0 times, 0 s>>")
        meter.start()
        clock.advance(INTERVAL)
        clock.advance(INTERVAL + 0.3)
        self.assertEqual((sum(meter.lags.counts), round(meter.lags.total, 6)), (2, 0.3))
        meter.stop()
        meter.stop()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_clock_set_back(self) -> None:
        """A clock that was set back is no lag of less than nothing."""
        clock = Clock()
        meter = LagMeter(clock)
        meter.start()
        (look,) = clock.getDelayedCalls()
        clock.rightNow = -100.0
        look.func(*look.args)
        self.assertEqual(meter.lags.total, 0.0)
