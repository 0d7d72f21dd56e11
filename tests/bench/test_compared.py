"""Tests for `bench.compared`."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from bench.compared import SUFFIX, compared
from bench.peers.checkout import ROOT, environment
from bench.peers.field import beside, contestants
from bench.peers.portfwd import Portfwd
from bench.results import Row
from bench.rounds import Sample
from tests.bench.test_report import RESULTS

OTHER = Path("/nowhere")


class ComparedTests(SynchronousTestCase):
    """The table of ratios."""

    def test_table(self) -> None:
        """Ratios are of one round each, and above 1 where this checkout is better; sizes are left out."""
        samples = tuple(
            Sample("bulk", name, number, {"gbit_s": speed, "cpu_s_gib": cost, "bytes_call": 1.0})
            for number, (speed, cost, before, cost_before) in enumerate(
                [(10.0, 0.5, 8.0, 1.0), (20.0, 1.0, 10.0, 4.0), (5.0, 2.0, 5.0, 2.0)]
            )
            for name, speed, cost in (
                ("portfwd-auto", speed, cost),
                (f"portfwd-auto{SUFFIX}", before, cost_before),
            )
        )
        alone = Sample("bulk", "stock", 0, {"gbit_s": 1.0})
        results = evolve(RESULTS, rows=(Row("bulk", "bulk", "Bulk"),), samples=(*samples, alone))
        self.assertEqual(
            compared(results).splitlines()[2:],
            [
                "| bulk | portfwd-auto | Gbit/s | 1.25 (1.00–2.00) |",
                "| bulk | portfwd-auto | CPU s/GiB | 2.00 (1.00–4.00) |",
            ],
        )

    def test_contestants(self) -> None:
        """Each one of this project is followed by that of the other checkout, which runs its code."""
        scratch = Path(self.mktemp())
        peers = beside(contestants(scratch), scratch, OTHER)
        names = [peer.name for peer in peers]
        self.assertEqual(names[names.index("portfwd-auto") + 1], f"portfwd-auto{SUFFIX}")
        self.assertNotIn(f"stock{SUFFIX}", names)
        (other,) = (peer for peer in peers if peer.name == f"portfwd-auto{SUFFIX}")
        self.assertIsInstance(other, Portfwd)
        found = other.environment() or {}
        self.assertEqual(found["PYTHONPATH"].split(":")[0], str(OTHER))
        self.assertEqual(environment()["PYTHONPATH"].split(":")[0], str(ROOT))
