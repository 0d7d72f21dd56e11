"""Tests for `bench.rounds`."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from bench.rounds import Sample, Spread, interleaved, of_figure, ratio, spread


def took(peer: str, number: int, value: float) -> Sample:
    """A sample of one figure."""
    return Sample("row", peer, number, {"gbit_s": value})


class InterleavedTests(SynchronousTestCase):
    """Who runs when."""

    def test_turns(self) -> None:
        """Everybody runs once in each round, and the round's first place moves on."""
        self.assertEqual(
            list(interleaved(["a", "b", "c"], 2)),
            [(0, "a"), (0, "b"), (0, "c"), (1, "b"), (1, "c"), (1, "a")],
        )

    def test_nobody(self) -> None:
        """Without contestants nothing runs."""
        self.assertEqual(list(interleaved([], 3)), [])

    @given(st.integers(1, 6), st.integers(0, 8))
    def test_fair(self, peers: int, rounds: int) -> None:
        """However many there are, each has exactly one turn in each round."""
        names = [str(number) for number in range(peers)]
        turns = list(interleaved(names, rounds))
        self.assertEqual(sorted(turns), sorted((n, name) for n in range(rounds) for name in names))


class RatioTests(SynchronousTestCase):
    """Ratios within rounds."""

    def test_median_of_ratios(self) -> None:
        """The median is of the rounds' ratios, not a ratio of medians."""
        samples = [took("a", n, v) for n, v in enumerate((1, 10, 100))]
        samples += [took("b", n, v) for n, v in enumerate((1, 5, 400))]
        self.assertEqual(ratio(samples, "row", "gbit_s", "a", ["b"], True), Spread(1.0, 0.25, 2.0, 3))

    def test_best_of_round(self) -> None:
        """Each round is compared with the best peer of that round: the greatest or the least."""
        samples = [took("a", 0, 6), took("b", 0, 3), took("c", 0, 2), took("a", 1, 6), took("c", 1, 3)]
        self.assertEqual(ratio(samples, "row", "gbit_s", "a", ["b", "c"], True), Spread(2, 2, 2, 2))
        self.assertEqual(ratio(samples, "row", "gbit_s", "a", ["b", "c"], False), Spread(2.5, 2, 3, 2))

    def test_missing(self) -> None:
        """A round counts only with both sides present and a peer above zero; other rows never do."""
        samples = [took("a", 0, 6), took("b", 1, 3), took("a", 2, 1), took("b", 2, 0)]
        samples.append(Sample("other", "b", 0, {"gbit_s": 1}))
        samples.append(Sample("row", "b", 0, {}, "broke"))
        self.assertIsNone(ratio(samples, "row", "gbit_s", "a", ["b"], True))


class SpreadTests(SynchronousTestCase):
    """Medians and ranges."""

    def test_none(self) -> None:
        """No numbers have no median."""
        self.assertIsNone(spread([]))

    def test_of_figure(self) -> None:
        """Only that row, contestant and figure count."""
        samples = [took("a", 0, 4), took("a", 1, 1), took("b", 0, 9), Sample("row", "a", 2, {}, "broke")]
        self.assertEqual(of_figure(samples, "row", "a", "gbit_s"), Spread(2.5, 1, 4, 2))
        self.assertIsNone(of_figure(samples, "row", "a", "cpu_us"))
