"""Tests of buckets and paces: never more than the rate allows, never less than its share for anybody."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.pacing import BURST_SECONDS, MAX_SLICE, MIN_SLICE, SLICE_SECONDS, Bucket, SharedBucket

RATES = st.one_of(st.integers(1024, 200_000), st.integers(1024, 2**40))


class BucketTests(SynchronousTestCase):
    """`Bucket`."""

    def test_fills(self) -> None:
        """It is full at first, and again after as long as it takes, and never fuller."""
        bucket = Bucket(100, 50, 10.0)
        bucket.take(50, 10.0)
        self.assertEqual([bucket.level(10.0 + after) for after in (0, 0.25, 0.5, 9)], [0, 25, 50, 50])

    def test_seconds(self) -> None:
        """How long it takes is told, and nothing where the bytes are there."""
        bucket = Bucket(100, 50, 0.0)
        bucket.take(40, 0.0)
        self.assertEqual((bucket.seconds_until(30, 0.0), bucket.seconds_until(10, 0.0)), (0.2, 0.0))

    def test_debt(self) -> None:
        """More can be taken than there is; it flows in before anything else does."""
        bucket = Bucket(100, 50, 0.0)
        bucket.take(150, 0.0)
        self.assertEqual((bucket.level(0.5), bucket.seconds_until(10, 0.5)), (-50, 0.6))

    def test_a_clock_that_is_set_back(self) -> None:
        """An hour less gives nothing, takes nothing, and does not stop the bucket for an hour."""
        bucket = Bucket(100, 50, 3600.0)
        bucket.take(50, 3600.0)
        self.assertEqual([bucket.level(now) for now in (0.0, 0.25)], [0, 25])

    def test_repr(self) -> None:
        """What it holds."""
        self.assertEqual(repr(Bucket(100, 50, 0.0)), "<Bucket 50 of 50, 100/s>")


class PaceTests(SynchronousTestCase):
    """`SharedBucket`."""

    def test_slices(self) -> None:
        """A slice is a twentieth of a second's worth, within its bounds."""
        for rate, size in ((1024, MIN_SLICE), (100_000, 5000), (10 * 1024**2, MAX_SLICE)):
            self.assertEqual(SharedBucket[str](rate, 0.0).slice, size)

    def test_at_once(self) -> None:
        """While there are bytes and nobody waits, who asks is served."""
        pace = SharedBucket[str](100_000, 0.0)
        self.assertEqual([pace.ask("a", 9999, 0.0), pace.ask("b", 300, 0.0)], [5000, 300])
        self.assertEqual((pace.wait(0.0), pace.next(0.0), pace.is_awaited), (None, None, False))

    def test_queue(self) -> None:
        """Who cannot be served waits, behind those who came before, for as long as it takes."""
        pace = SharedBucket[str](100_000, 0.0)
        self.assertEqual([pace.ask(who, 9999, 0.0) for who in "aabca"], [5000, 5000, 0, 0, 0])
        self.assertEqual((pace.wait(0.0), pace.next(0.04)), (0.05, None))
        self.assertEqual((pace.next(0.05), pace.next(0.05)), (("b", 5000), None))
        self.assertEqual(pace.ask("b", 9999, 0.2), 0)
        self.assertEqual([pace.next(0.2), pace.next(0.2), pace.next(0.2)], [("c", 5000), ("a", 5000), None])
        self.assertEqual(repr(pace), "<SharedBucket 100000/s, 1 waiting>")

    def test_asking_twice(self) -> None:
        """Who asks again keeps his place."""
        pace = SharedBucket[str](100_000, 0.0)
        for who in "xxabab":
            pace.ask(who, 9999, 0.0)
        self.assertEqual([pace.next(9.0), pace.next(9.0), pace.next(9.0)], [("a", 5000), ("b", 5000), None])

    def test_leave(self) -> None:
        """Who leaves is not served; that he never came is fine as well."""
        pace = SharedBucket[str](100_000, 0.0)
        for who in "xxab":
            pace.ask(who, 9999, 0.0)
        for who in "az":
            pace.leave(who)
        self.assertEqual((pace.next(1.0), pace.next(1.0)), (("b", 5000), None))

    def test_given_back(self) -> None:
        """What was granted and not used is there for others."""
        pace = SharedBucket[str](100_000, 0.0)
        for who in "aab":
            pace.ask(who, 9999, 0.0)
        pace.settle(5000, 5000, 0.0)
        self.assertIsNone(pace.next(0.0))
        pace.settle(5000, 0, 0.0)
        self.assertEqual(pace.next(0.0), ("b", 5000))

    def test_owed(self) -> None:
        """What passed without a grant is owed: nothing is open, and others wait longer."""
        pace = SharedBucket[str](100_000, 0.0)
        self.assertTrue(pace.is_open(0.0))
        pace.settle(0, 20_000, 0.0)
        self.assertFalse(pace.is_open(0.0))
        self.assertEqual((pace.ask("a", 9999, 0.0), pace.wait(0.0)), (0, 0.15))
        self.assertFalse(pace.is_open(0.14))
        self.assertEqual(pace.next(0.15), ("a", 5000))
        self.assertTrue(pace.is_open(0.15))


class PropertyTests(SynchronousTestCase):
    """What holds whatever happens."""

    @settings(max_examples=60, deadline=None)
    @given(
        rate=RATES,
        steps=st.lists(
            st.tuples(
                st.sampled_from("abcde"),
                st.sampled_from(["ask", "ask", "ask", "leave", "use some"]),
                st.integers(1, 2 * MAX_SLICE),
                st.one_of(st.just(0.0), st.floats(0, 0.05), st.floats(0, 5)),
            ),
            max_size=40,
        ),
    )
    def test_never_more(self, rate: int, steps: list[tuple[str, str, int, float]]) -> None:
        """However it is asked, between any two moments no more is granted than the burst and the rate's."""
        pace, now, held, net = SharedBucket[str](rate, 0.0), 0.0, Counter[str](), 0
        burst = max(pace.slice + rate * (BURST_SECONDS - SLICE_SECONDS), rate * BURST_SECONDS)
        course = [(0.0, 0)]
        for who, what, count, later in steps:
            now += later
            while (turn := pace.next(now)) is not None:
                held[turn[0]] += turn[1]
                net += turn[1]
            if what == "leave":
                pace.leave(who)
            elif what == "ask":
                granted = pace.ask(who, count, now)
                self.assertLessEqual(granted, min(count, pace.slice))
                held[who] += granted
                net += granted
            else:
                used = min(count, held[who])
                pace.settle(held[who], used, now)
                net -= held[who] - used
                held[who] = 0
            course.append((now, net))
        for index, (since, before) in enumerate(course):
            for until, after in course[index:]:
                self.assertLessEqual(after - before, burst + (until - since) * rate * (1 + 1e-9) + 1)

    @settings(max_examples=30, deadline=None)
    @given(
        rate=st.integers(1024, 10_000_000),
        flows=st.integers(2, 12),
        wakes=st.lists(st.floats(0.001, 0.2), min_size=10, max_size=40),
    )
    def test_fair(self, rate: int, flows: int, wakes: list[float]) -> None:
        """Of flows that always want more none is ever more than a slice ahead of another."""
        pace, now, got = SharedBucket[int](rate, 0.0), 0.0, Counter[int]()
        pace.settle(0, MAX_SLICE + rate, now)  # nothing is there for who comes first
        self.assertEqual([pace.ask(who, MAX_SLICE, now) for who in range(flows)], [0] * flows)
        for later in wakes:
            now += later
            while (turn := pace.next(now)) is not None:
                who, count = turn
                got[who] += count
                self.assertEqual(pace.ask(who, MAX_SLICE, now), 0)
            counts = [got[who] for who in range(flows)]
            self.assertLessEqual(max(counts) - min(counts), pace.slice)

    @settings(max_examples=30, deadline=None)
    @given(
        rate=st.integers(1024, 10_000_000),
        flows=st.integers(1, 12),
        late=st.lists(st.floats(0, 0.02), min_size=20, max_size=40),
    )
    def test_never_less(self, rate: int, flows: int, late: list[float]) -> None:
        """With timers that come somewhat late, flows that always want more get the whole rate."""
        pace, now, total = SharedBucket[int](rate, 0.0), 0.0, 0
        for lateness in late:
            for who in range(flows):
                total += pace.ask(who, MAX_SLICE, now)
            wait = pace.wait(now)
            if wait is not None:
                now += wait + lateness
            while (turn := pace.next(now)) is not None:
                total += turn[1]
        self.assertGreaterEqual(total + 1, (now - late[-1]) * rate - flows * pace.slice)
