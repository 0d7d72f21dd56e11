"""Tests of `portfwd.quantities`."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.quantities import (
    MAX_DURATION,
    MAX_SIZE,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


class SizeTests(SynchronousTestCase):
    """``64KiB`` and its like."""

    def test_units(self) -> None:
        """Binary units, decimal ones, and the bare letters, which are binary."""
        for text, expected in (
            ("0", 0), ("4096", 4096), ("17B", 17), ("64KiB", 65536), ("64K", 65536), ("1MiB", 2**20),
            ("1M", 2**20), ("2GiB", 2**31), ("2G", 2**31), ("1TiB", 2**40), ("1T", 2**40), ("1kB", 1000),
            ("1KB", 1000), ("1MB", 10**6), ("1.5GB", 1_500_000_000), ("1TB", 10**12), ("0.5KiB", 512),
            (str(MAX_SIZE), MAX_SIZE),
        ):  # fmt: skip
            self.assertEqual(parse_size(text), expected, text)

    def test_bad(self) -> None:
        """Anything else is a ValueError whose message helps."""
        for text, part in (
            ("", "expected a size"), ("KiB", "expected a size"), ("-1", "expected a size"),
            ("1 KiB", "expected a size"), ("1kib", "expected a size"), ("1e3", "expected a size"),
            ("٣", "expected a size"), ("1\n", "expected a size"), (".5", "expected a size"),
            ("9" * 5000, "expected a size"), ("0.5", "whole number"), ("0.3KiB", "whole number"),
            ("1." + "0" * 30 + "1", "whole number"), ("99999999TiB", "larger"), (str(MAX_SIZE + 1), "larger"),
        ):  # fmt: skip
            self.assertIn(part, str(self.assertRaises(ValueError, parse_size, text)), text[:50])

    def test_shortest(self) -> None:
        """A size is written in the largest unit that holds it exactly."""
        self.assertEqual(
            [
                format_size(size)
                for size in (0, 1, 1000, 1024, 65536, 2**20, 2**20 + 1024, 2**30, 2**40, 2**50)
            ],
            ["0", "1", "1000", "1KiB", "64KiB", "1MiB", "1025KiB", "1GiB", "1TiB", "1024TiB"],
        )

    @given(st.one_of(st.integers(0, MAX_SIZE), st.integers(0, 2**23).map(lambda number: number << 40)))
    def test_round_trip(self, size: int) -> None:
        """What is written is read back."""
        size = min(size, MAX_SIZE)
        self.assertEqual(parse_size(format_size(size)), size)


class DurationTests(SynchronousTestCase):
    """``30s`` and its like."""

    def test_units(self) -> None:
        """Units add up; a bare number is seconds."""
        for text, expected in (
            ("0", 0.0), ("30", 30.0), ("1.5", 1.5), ("30s", 30.0), ("250ms", 0.25), ("5m", 300.0),
            ("1h30m", 5400.0),
            ("1d", 86400.0), ("1.5h", 5400.0), ("1m1s1ms", 61.001), ("3650d", float(MAX_DURATION)),
        ):  # fmt: skip
            self.assertEqual(parse_duration(text), expected, text)

    def test_bad(self) -> None:
        """Anything else is a ValueError whose message helps."""
        for text, part in (
            ("", "expected a duration"), ("s", "expected a duration"), ("-1s", "expected a duration"),
            ("1 s", "expected a duration"), ("1min", "expected a duration"), ("1S", "expected a duration"),
            ("1s2", "expected a duration"), ("x1s", "expected a duration"), ("1h x", "expected a duration"),
            ("1e3", "expected a duration"), ("٣s", "expected a duration"), ("1s\n", "expected a duration"),
            ("3651d", "ten years"), ("9" * 5000, "ten years"),
        ):  # fmt: skip
            self.assertIn(part, str(self.assertRaises(ValueError, parse_duration, text)), text[:50])

    def test_shortest(self) -> None:
        """A duration is written in the largest unit that holds it exactly."""
        self.assertEqual(
            [
                format_duration(seconds)
                for seconds in (0, 0.0, 30, 90, 300, 3600, 86400, 0.25, 1.5, 0.0001, 1e-9)
            ],
            ["0s", "0s", "30s", "90s", "5m", "1h", "1d", "250ms", "1500ms", "0.0001s", "0.000000001s"],
        )

    @given(st.one_of(st.floats(0, MAX_DURATION), st.integers(0, MAX_DURATION).map(float)))
    def test_round_trip(self, seconds: float) -> None:
        """What is written is read back to the last bit."""
        self.assertEqual(parse_duration(format_duration(seconds)), seconds)

    @given(st.integers(0, 9), st.integers(0, 23), st.integers(0, 59), st.integers(0, 999))
    def test_sum(self, days: int, hours: int, seconds: int, milliseconds: int) -> None:
        """Several units are the sum of each."""
        exact = days * 86400 + hours * 3600 + seconds + Fraction(milliseconds, 1000)
        self.assertEqual(parse_duration(f"{days}d{hours}h{seconds}s{milliseconds}ms"), float(exact))
