"""Tests for `bench.measure`."""

import time
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.lab import Lab
from bench.loads.api import SMOKE, Load, Running, Scale
from bench.measure import Plan, run_row
from bench.peers.direct import Direct
from bench.peers.stock import Stock
from bench.processes import LabError


class Counting(Load):
    """A load whose figure is the number of its turn; it fails for whom it is told to."""

    def __init__(self, failing: str = "", reason: str = "") -> None:
        super().__init__("counting", "test", "Counting")
        self.turns: list[str] = []
        self._failing = failing
        self._reason = reason

    def skipped(self, folder: Path) -> str:
        """As told."""
        return self._reason

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """Count."""
        self.turns.append(running.peer.name)
        if running.peer.name == self._failing:
            raise LabError("no luck")
        return {"ready_s": float(len(self.turns))}


class RowTests(SynchronousTestCase):
    """Running a row, with two contestants that are really started where there is something to start."""

    def run_with(self, load: Counting, plan: Plan) -> tuple[str, list[str]]:
        """Run it; why it was skipped, and what was said."""
        said: list[str] = []
        with Lab(loopback=True) as lab:
            row, self.samples = run_row(lab, load, [Direct(), Stock()], plan, said.append)
        return row.skipped, said

    def test_turns(self) -> None:
        """Both are measured in turn in each round, and each sample is told."""
        load = Counting()
        skipped, said = self.run_with(load, Plan(2, SMOKE))
        self.assertEqual(skipped, "")
        self.assertEqual(load.turns, ["none", "stock", "stock", "none"])
        self.assertEqual(len(said), 4)

    def test_failures(self) -> None:
        """One that fails twice running is out; the other goes on; the reason is kept."""
        load = Counting(failing="stock")
        self.run_with(load, Plan(4, SMOKE))
        self.assertEqual(load.turns.count("stock"), 2)
        self.assertEqual(load.turns.count("none"), 4)
        self.assertEqual({sample.failed for sample in self.samples if sample.peer == "stock"}, {"no luck"})

    def test_skipped(self) -> None:
        """A row with a reason is not run."""
        load = Counting(reason="not today")
        self.assertEqual(self.run_with(load, Plan(1, SMOKE)), ("not today", []))
        self.assertEqual(load.turns, [])

    def test_deadline(self) -> None:
        """When the time is up rows are left out, and say so."""
        skipped, _ = self.run_with(Counting(), Plan(1, SMOKE, time.monotonic() - 1))
        self.assertIn("the time was up", skipped)
