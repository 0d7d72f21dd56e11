"""Tests for `bench.goals`."""

from twisted.trial.unittest import SynchronousTestCase

from bench.figures import FIGURES
from bench.goals import GOALS, Goal, higher_is_better, judge
from bench.loads.programme import rows
from bench.peers.field import contestants
from bench.rounds import Sample


def pair(figure: str, ours: float, theirs: float) -> list[Sample]:
    """One round of portfwd and a peer."""
    return [Sample("row", "portfwd-auto", 0, {figure: ours}), Sample("row", "peer", 0, {figure: theirs})]


class GoalsTests(SynchronousTestCase):
    """The table of goals."""

    def test_refer_to_what_exists(self) -> None:
        """Every goal names a row, a figure with a better side, and contestants that the lab has."""
        from pathlib import Path

        names = {row.name for row in rows()}
        peers = {peer.name for peer in contestants(Path())}
        for goal in GOALS:
            self.assertIn(goal.row, names)
            self.assertIn(goal.subject, peers)
            self.assertLessEqual(set(goal.peers), peers)
            self.assertIsNotNone(FIGURES[goal.figure].higher_is_better)

    def test_goal_is_harder(self) -> None:
        """No goal is easier than its own must."""
        for goal in GOALS:
            if goal.must is not None and goal.goal is not None:
                if higher_is_better(goal.figure):
                    self.assertGreaterEqual(goal.goal, goal.must)
                else:
                    self.assertLessEqual(goal.goal, goal.must)

    def test_no_way(self) -> None:
        """A figure that is neither better nor worse cannot be a goal."""
        self.assertRaises(ValueError, higher_is_better, "bytes_call")


class JudgeTests(SynchronousTestCase):
    """Met, missed, not measured."""

    def test_more_is_better(self) -> None:
        """The bound itself meets it; just below misses."""
        goal = Goal("g", "row", "gbit_s", ("peer",), 0.9, 1.05)
        met = judge(goal, pair("gbit_s", 9.0, 10.0))
        self.assertEqual((met.must_met, met.goal_met), (True, False))
        missed = judge(goal, pair("gbit_s", 8.9999, 10.0))
        self.assertEqual((missed.must_met, missed.goal_met), (False, False))

    def test_less_is_better(self) -> None:
        """Where less is better the bound is the most allowed."""
        goal = Goal("g", "row", "p99_ms", ("peer",), 1.0, 0.5)
        verdict = judge(goal, pair("p99_ms", 5.0, 10.0))
        self.assertEqual((verdict.must_met, verdict.goal_met), (True, True))
        self.assertFalse(judge(goal, pair("p99_ms", 10.1, 10.0)).must_met)

    def test_plain_number(self) -> None:
        """A goal without peers bounds the number itself."""
        goal = Goal("g", "row", "ready_s", (), 3.0, 1.0)
        verdict = judge(goal, pair("ready_s", 2.0, 0.1))
        self.assertEqual((verdict.must_met, verdict.goal_met), (True, False))

    def test_not_measured(self) -> None:
        """Without samples, or without a bound, it is neither met nor missed."""
        goal = Goal("g", "row", "p99_ms", ("peer",), None, 1.0)
        self.assertEqual(judge(goal, []).goal_met, None)
        self.assertEqual(judge(goal, pair("p99_ms", 1, 1)).must_met, None)
