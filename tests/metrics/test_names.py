"""Tests of `portfwd.metrics.names`: the table of metrics."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.metrics.names import NAMES, MetricKind


class NamesTests(SynchronousTestCase):
    """Prometheus' conventions."""

    def test_names(self) -> None:
        """Each name is there once; only counters end in ``_total``, and times are in seconds."""
        self.assertEqual(len({spec.name for spec in NAMES}), len(NAMES))
        for spec in NAMES:
            self.assertRegex(spec.name, r"\Aportfwd_[a-z_]+\Z")
            self.assertEqual(spec.name.endswith("_total"), spec.kind is MetricKind.COUNTER, spec.name)
            if spec.kind is MetricKind.HISTOGRAM:
                self.assertTrue(spec.name.endswith("_seconds"), spec.name)
            self.assertFalse(spec.about.endswith("."), spec.name)

    def test_families_do_not_clash(self) -> None:
        """No gauge has the name of a counter without its ``_total``: OpenMetrics would have them be one."""
        gauges = {spec.name for spec in NAMES if spec.kind is MetricKind.GAUGE}
        counters = {spec.name.removesuffix("_total") for spec in NAMES if spec.kind is MetricKind.COUNTER}
        self.assertEqual(gauges & counters, set())
