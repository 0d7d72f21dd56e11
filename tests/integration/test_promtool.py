"""The alerts of ``examples/prometheus``, judged by Prometheus' own tool, and the metrics that they name."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from portfwd.metrics.names import NAMES, MetricKind
from tests.integration.programs import needs, run

ALERTS = Path(__file__).resolve().parents[2] / "examples" / "prometheus"


class AlertTests(SynchronousTestCase):
    """Alerts fire at the first event, and name what there is."""

    def test_first_event(self) -> None:
        """Each alert fires when a series that was 0 rises for the first time."""
        done = run(needs("promtool"), "test", "rules", str(ALERTS / "alerts_test.yml"), check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_names(self) -> None:
        """Every metric of an alert is one that portfwd has."""
        known = {
            name.name + ending
            for name in NAMES
            for ending in (("_sum", "_count", "_bucket") if name.kind is MetricKind.HISTOGRAM else ("",))
        }
        for file in ALERTS.glob("*.yml"):
            named = set(re.findall(r"\bportfwd_\w+", file.read_text()))
            self.assertEqual(named - known, set(), file.name)
            self.assertTrue(named)
