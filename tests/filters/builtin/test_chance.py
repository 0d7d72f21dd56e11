"""Tests of `portfwd.filters.builtin.chance`: numbers that can be had again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.builtin.chance import Chance, make_seed

seeds = st.integers(-(2**70), 2**70)


class ChanceTests(SynchronousTestCase):
    """The generator."""

    def test_published_numbers(self) -> None:
        """The first numbers are those that other implementations of splitmix64 print for the seed 1234567."""
        chance = Chance(1234567)
        self.assertEqual(
            [chance.bits() for _ in range(5)],
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431,
                16408922859458223821,
            ],
        )

    def test_again(self) -> None:
        """The same seed gives the same row, another seed another, and the repr says which it was."""
        one, same, other = Chance(5), Chance(5 + 2**64), Chance(6)
        row = [one.bits() for _ in range(10)]
        self.assertEqual(row, [same.bits() for _ in range(10)])
        self.assertNotEqual(row, [other.bits() for _ in range(10)])
        self.assertEqual(repr(one), "<Chance seed=5>")

    @settings(max_examples=50)
    @given(seeds, st.floats(-1e6, 1e6), st.floats(0, 1e6), st.integers(-1000, 1000), st.integers(0, 1000))
    def test_ranges(self, seed: int, low: float, span: float, first: int, count: int) -> None:
        """Every number is within what was asked for."""
        chance = Chance(seed)
        self.assertTrue(0 <= chance.unit() < 1)
        self.assertTrue(low <= chance.between(low, low + span) <= low + span)
        self.assertIn(chance.whole(first, first + count), range(first, first + count + 1))
        self.assertFalse(chance.happens(0))
        self.assertTrue(chance.happens(1))
        self.assertEqual(chance.misses(1), 0)
        self.assertGreaterEqual(chance.misses(0.3), 0)

    def test_fair(self) -> None:
        """What has a probability of a quarter happens about that often, and every whole number comes."""
        chance = Chance(1)
        self.assertTrue(2300 < sum(chance.happens(0.25) for _ in range(10_000)) < 2700)
        self.assertEqual({chance.whole(1, 6) for _ in range(200)}, {1, 2, 3, 4, 5, 6})

    def test_misses(self) -> None:
        """What has a probability of a tenth is missed nine times on average; what has none, all the time."""
        chance = Chance(2)
        average = sum(chance.misses(0.1) for _ in range(10_000)) / 10_000
        self.assertTrue(8.5 < average < 9.5, average)
        self.assertGreater(chance.misses(1e-320), 2**60)


class SeedTests(SynchronousTestCase):
    """Seeds of several parts."""

    def test_parts(self) -> None:
        """Order, sign, kind and length of the parts all count; the same parts give the same seed."""
        parts: list[tuple[int | str, ...]] = [
            (), (0,), (1,), (-1,), (2**64,), (2**64 + 1,), (1, 0), (0, 1), ("",), ("a",), ("\0a",), ("1",),
            ("a", 1), (1, "a"), ("latency", 7), ("latency", 8), ("x" * 100,), ("x" * 99,),
        ]  # fmt: skip
        made = [make_seed(*each) for each in parts]
        self.assertEqual(len(set(made)), len(parts))
        self.assertEqual(made, [make_seed(*each) for each in parts])
        self.assertTrue(all(0 <= seed < 2**64 for seed in made))
