"""Tests for `bench.results`."""

from twisted.trial.unittest import SynchronousTestCase

from bench.results import describe_machine, from_json, to_json
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

    def test_machine(self) -> None:
        """Every machine can be described, without an empty word."""
        self.assertTrue(all(describe_machine().values()))
