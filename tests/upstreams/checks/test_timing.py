"""Tests of the options that all checks have."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.upstreams.checks.timing import Timing


class TimingTests(SynchronousTestCase):
    """When the next check begins."""

    def test_jitter(self) -> None:
        """The wait differs by the part that ``jitter`` says, to either side."""
        timing = Timing(inter=2.0, jitter=0.1)
        self.assertEqual([timing.wait(undecided=False, draw=draw) for draw in (0, 0.5)], [1.8, 2.0])
        self.assertLess(timing.wait(undecided=False, draw=0.999), 2.2)

    def test_fastinter(self) -> None:
        """While a target is undecided ``fastinter`` holds, if there is one."""
        self.assertEqual(Timing(fastinter=0.5, jitter=0.0).wait(undecided=True, draw=0), 0.5)
        self.assertEqual(Timing(jitter=0.0).wait(undecided=True, draw=0), 2.0)
