"""The Grafana dashboard: current, and its expressions are right and name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from docs.dashboard import ROWS, dashboard
from docs.generate import DASHBOARD
from portfwd.metrics.names import NAMES, MetricKind
from tests.integration.programs import needs, run

#: Metrics that no graph would show: constants, and what others show better.
NOT_SHOWN = {
    "portfwd_info",
    "portfwd_start_time_seconds",
    "portfwd_reload_time_seconds",
}


class DashboardTests(SynchronousTestCase):
    """What is in the file."""

    def setUp(self) -> None:
        self.queries = [query for _, row in ROWS for panel in row for query in panel.queries]

    def test_current(self) -> None:
        """The file is that of today; ``python -m docs.generate`` writes it."""
        self.assertEqual(DASHBOARD.read_text(), dashboard())

    def test_metrics(self) -> None:
        """Every metric is one that there is, and it has the labels that are asked for and shown."""
        known = {}
        for name in NAMES:
            endings = ("_sum", "_count", "_bucket") if name.kind is MetricKind.HISTOGRAM else ("",)
            known.update({name.name + ending: {*name.labels, "instance", "le"} for ending in endings})
        for expression, legend in self.queries:
            metrics = re.findall(r"portfwd_\w+", expression)
            self.assertNotEqual(metrics, [])
            for metric in metrics:
                self.assertIn(metric, known, expression)
                asked = set(re.findall(r"(\w+)[!=]~?\"", expression))
                asked |= {one for by in re.findall(r"by \(([^)]*)\)", expression) for one in by.split(", ")}
                asked |= set(re.findall(r"{{(\w+)}}", legend))
                self.assertEqual(asked - known[metric], set(), f"{expression}: {legend}")

    def test_places(self) -> None:
        """No panel covers another one."""
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(dashboard())["panels"]:
            place = panel["gridPos"]
            fields = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            self.assertEqual(fields & taken, set(), panel["title"])
            taken |= fields

    def test_expressions(self) -> None:
        """Prometheus reads every expression."""
        rules = [
            {"record": f"test:{number}", "expr": expression.replace("$__rate_interval", "1m")}
            for number, (expression, _) in enumerate(self.queries)
        ]
        path = Path(self.mktemp())
        path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        done = run(needs("promtool"), "check", "rules", str(path), check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn(f"{len(rules)} rules found".encode(), done.stdout)
