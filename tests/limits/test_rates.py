"""Tests of `portfwd.limits.rates`: a token bucket that is one number."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.rates import SLACK, burst, delay, take


class Bucket:
    """The textbook's: tokens, and when they were counted."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate, self.tokens, self.at = rate, burst(rate), now

    def delay(self, now: float) -> float:
        """Seconds until there is a token."""
        self.tokens = min(burst(self.rate), self.tokens + (now - self.at) * self.rate)
        self.at = now
        return max(0.0, (1.0 - self.tokens) / self.rate)


class RateTests(SynchronousTestCase):
    """Tokens a second, a second's worth at once."""

    def allowed(self, rate: float, seconds: float, step: float, full_at: float = 0.0) -> int:
        """How many of those who come every `step` are let in."""
        count, now, start = 0, 100.0, 100.0
        while now < start + seconds:
            if not delay(full_at, rate, now):
                full_at = take(full_at, rate, now)
                count += 1
            now += step
        return count

    def test_burst(self) -> None:
        """A second's worth may come at once; of slow rates one."""
        self.assertEqual((burst(200.0), burst(1.0), burst(0.5)), (200.0, 1.0, 1.0))
        full_at = 0.0
        for _ in range(5):
            self.assertEqual(delay(full_at, 5.0, 7.0), 0.0)
            full_at = take(full_at, 5.0, 7.0)
        self.assertAlmostEqual(delay(full_at, 5.0, 7.0), 0.2)
        self.assertEqual(delay(full_at, 5.0, 7.2), 0.0)

    def test_long_run(self) -> None:
        """However fast they come, no more get in than the rate allows, and the first second's worth."""
        self.assertEqual(self.allowed(10.0, 20.0, 0.01), 209)
        self.assertEqual(self.allowed(0.5, 20.0, 0.01), 10)
        self.assertEqual(self.allowed(10.0, 20.0, 0.5), 40)

    def test_timer(self) -> None:
        """Who waits for as long as he was told finds a token, whatever sums of seconds make of it."""
        now, full_at = 1_000_000.1, 0.0
        for _ in range(1000):
            now += delay(full_at, 3.0, now)
            self.assertEqual(delay(full_at, 3.0, now), 0.0)
            full_at = take(full_at, 3.0, now)

    def test_clock_set_back(self) -> None:
        """Nobody waits for an hour because the clock was an hour fast."""
        full_at = take(3600.0, 1.0, 3600.0)
        self.assertEqual(delay(full_at, 1.0, 0.0), 0.0)
        self.assertAlmostEqual(delay(take(full_at, 1.0, 0.0), 1.0, 0.0), 1.0)

    def test_rate_changed(self) -> None:
        """A bucket that a slower rate filled does not bind a faster one."""
        full_at = take(0.0, 0.01, 0.0)
        self.assertEqual(delay(full_at, 100.0, 0.0), 0.0)

    @settings(max_examples=60, deadline=None)
    @given(
        st.sampled_from([0.1, 0.5, 1.0, 1.5, 7.0, 100.0]),
        st.lists(st.floats(0.0, 5.0), min_size=1, max_size=60),
    )
    def test_is_a_bucket(self, rate: float, pauses: list[float]) -> None:
        """Whenever clients come, it says what a bucket of tokens says."""
        now, full_at = 50.0, 0.0
        bucket = Bucket(rate, now)
        for pause in pauses:
            now += pause
            expected, said = bucket.delay(now), delay(full_at, rate, now)
            self.assertAlmostEqual(said, expected, delta=2 * SLACK)
            if not said:
                bucket.tokens -= 1.0
                full_at = take(full_at, rate, now)
