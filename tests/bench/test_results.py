"""Tests for `bench.results`."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from bench.results import Row, describe_machine, from_json, joined, to_json
from tests.bench.test_report import RESULTS


class ResultsTests(SynchronousTestCase):
    """Results files."""

    def test_round_trip(self) -> None:
        """What is written is read back the same."""
        self.assertEqual(from_json(to_json(RESULTS)), RESULTS)

    def test_foreign(self) -> None:
        """Something else, or another schema, is refused."""
        for text in ("[]", "{}", to_json(RESULTS).replace('"schema": 1', '"schema": 99')):
            self.assertRaises(ValueError, from_json, text)

    def test_joined(self) -> None:
        """Runs of different rows are one; the peers of each are named."""
        other = evolve(
            RESULTS,
            rows=(Row("other", "group", "Other"),),
            samples=RESULTS.samples[:1],
            versions={"late": "1"},
            absent={},
            about={"late": "as it is"},
        )
        both = joined([RESULTS, other])
        self.assertEqual([row.name for row in both.rows], [*(row.name for row in RESULTS.rows), "other"])
        self.assertEqual(len(both.samples), len(RESULTS.samples) + 1)
        self.assertEqual(both.versions, {**RESULTS.versions, "late": "1"})
        self.assertEqual(joined([RESULTS]).samples, RESULTS.samples)

    def test_not_joined(self) -> None:
        """Runs that cannot be compared, or would count twice, are refused."""
        for other in (
            RESULTS,
            evolve(RESULTS, rows=(), commit="another"),
            evolve(RESULTS, rows=(), machine={}),
            evolve(RESULTS, rows=(), lab="the moon"),
        ):
            self.assertRaises(ValueError, joined, [RESULTS, other])

    def test_machine(self) -> None:
        """Every machine can be described, without an empty word."""
        self.assertTrue(all(describe_machine().values()))
