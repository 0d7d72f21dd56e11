"""Tests for `portfwd.testing.splits`."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from portfwd.testing import every_split
from portfwd.testing.splits import ALL_POSITIONS, SINGLE_BYTES, describe, splits


class SplitsTests(SynchronousTestCase):
    """The ways to cut."""

    def test_same_bytes(self) -> None:
        """However it is cut, it is the same data, in pieces that are not empty; first in one."""
        for size in (0, 1, 2, 3, 10, ALL_POSITIONS, ALL_POSITIONS + 1, 5000, SINGLE_BYTES + 1):
            data = bytes(range(256)) * (size // 256 + 1)
            data = data[:size]
            first = next(splits(data))
            self.assertEqual(first, [data] if data else [])
            for pieces in splits(data):
                self.assertEqual(b"".join(pieces), data)
                self.assertNotIn(b"", pieces)

    def test_every_place(self) -> None:
        """Small data is cut once at each position, and into single bytes."""
        cut = list(splits(b"abcdef"))
        for position in range(1, 6):
            self.assertIn([b"abcdef"[:position], b"abcdef"[position:]], cut)
        self.assertIn([b"a", b"b", b"c", b"d", b"e", b"f"], cut)

    def test_large(self) -> None:
        """Large data is cut at its head, its tail and between, and not for ever."""
        size = 100_000
        positions = {len(pieces[0]) for pieces in splits(b"x" * size) if len(pieces) == 2}
        self.assertLessEqual({1, 2, 63, size - 1, size - 63}, positions)
        self.assertTrue(any(40_000 < position < 60_000 for position in positions))
        self.assertLess(len(positions), 2 * ALL_POSITIONS)
        self.assertGreater(min(len(pieces[-2]) for pieces in splits(b"x" * size) if len(pieces) > 30), 1)

    def test_same_every_time(self) -> None:
        """The same data is cut the same way again."""
        data = b"x" * 1000
        self.assertEqual(list(splits(data)), list(splits(data)))


class EverySplitTests(SynchronousTestCase):
    """Insisting on one result."""

    def test_same(self) -> None:
        """The result for the whole is returned, if all are the same."""
        self.assertEqual(every_split(b"-".join, b""), b"")
        self.assertEqual(every_split(lambda pieces: sum(map(len, pieces)), b"x" * 100), 100)

    def test_different(self) -> None:
        """If one is not, it is said how it was cut, and both results."""

        def forgetful(pieces: Sequence[bytes]) -> list[bool]:
            return [b"needle" in piece for piece in pieces if b"needle" in piece]

        error = self.assertRaises(AssertionError, every_split, forgetful, b"hay needle hay")
        self.assertEqual(str(error), "cut into 2 pieces, in bytes: 5, 9: []; in one piece: [True]")

    def test_describe(self) -> None:
        """Many pieces are not all listed."""
        self.assertEqual(describe([b"ab", b"c"]), "2 pieces, in bytes: 2, 1")
        self.assertEqual(describe([b"a"] * 9), "9 pieces, in bytes: 1, 1, 1, 1, 1, 1, 1, 1, …")
