"""Tests of `portfwd.metrics.filter_metrics`: what filters define and count."""

from __future__ import annotations

from typing import cast

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from portfwd.filters import Services
from portfwd.metrics.figures import Figures
from portfwd.metrics.filter_metrics import (
    MOST_METRICS,
    MOST_OWNERS,
    MOST_VALUES,
    OTHER,
    OTHER_RULES,
    FilterMetrics,
)
from portfwd.testing.outcome import Notes


class FilterMetricsTests(SynchronousTestCase):
    """Metrics of filters."""

    def setUp(self) -> None:
        self.metrics = FilterMetrics()

    def services(self, rule: str = "web", name: str = "auth") -> Services:
        """What a factory of that clause gets."""
        return Services(None, cast("object", None), Notes(), rule, name, self.metrics)  # type: ignore[arg-type]

    def samples(self) -> dict[tuple[str, ...], float]:
        """Every value, by the metric's name and its labels."""
        return {
            (metric.name, *labels): value
            for family in self.metrics.families()
            for metric in family
            for labels, value in metric.samples()
        }

    def test_counter(self) -> None:
        """A counter has the labels of its rule and filter, begins at 0 and never falls."""
        counter = self.services().counter("asked", "questions to the server")
        self.assertEqual(self.samples(), {("portfwd_filter_asked_total", "web", "auth"): 0})
        counter.inc()
        counter.inc(amount=2)
        self.assertEqual(self.samples(), {("portfwd_filter_asked_total", "web", "auth"): 3})
        self.assertRaises(ValueError, counter.inc, amount=-1)

    def test_gauge(self) -> None:
        """A gauge goes up and down."""
        gauge = self.services().gauge("open", "open requests", labels=["kind"])
        gauge.inc("a")
        gauge.dec("a", amount=3)
        gauge.set(7, "b")
        name = "portfwd_filter_open"
        self.assertEqual(self.samples(), {(name, "web", "auth", "a"): -2, (name, "web", "auth", "b"): 7})

    def test_labels_are_counted(self) -> None:
        """There are as many label values as labels."""
        counter = self.services().counter("asked", "", labels=("why",))
        self.assertRaises(ValueError, counter.inc)
        self.assertRaises(ValueError, counter.inc, "a", "b")

    def test_label_values_are_bounded(self) -> None:
        """After 100 sets of label values the others are counted together."""
        counter = self.services().counter("asked", "", labels=("who", "why"))
        for number in range(MOST_VALUES + 50):
            counter.inc(number, "x")
        counter.inc(3, "x")
        found = self.samples()
        self.assertEqual(len(found), MOST_VALUES + 1)
        self.assertEqual(found["portfwd_filter_asked_total", "web", "auth", OTHER, OTHER], 50)
        self.assertEqual(found["portfwd_filter_asked_total", "web", "auth", "3", "x"], 2)

    def test_series_are_bounded(self) -> None:
        """All filters together have a bound, too; what is forgotten makes room."""
        self.metrics = FilterMetrics(most=3)
        counter = self.services().counter("asked", "", labels=("who",))
        for number in range(10):
            counter.inc(number)
        self.assertEqual(len(self.samples()), 4)
        self.metrics.forget("web", "auth")
        other = self.services("db").counter("asked", "", labels=("who",))
        other.inc("a")
        other.inc("b")
        self.assertEqual([labels[-1] for labels in self.samples()], ["a", "b"])

    def test_rules_are_bounded(self) -> None:
        """Filters of more rules share their series."""
        for number in range(MOST_OWNERS + 5):
            self.services(f"r{number}").counter("asked", "").inc()
        found = self.samples()
        self.assertEqual(len(found), MOST_OWNERS + 1)
        self.assertEqual(found["portfwd_filter_asked_total", OTHER_RULES, "auth"], 5)

    def test_goes_on(self) -> None:
        """A factory that takes the place of another one of its rule and filter goes on with its metrics."""
        self.services().counter("asked", "as it was called").inc()
        self.services().counter("asked", "as it is called now").inc()
        self.assertEqual(list(self.samples().values()), [2])
        self.services().counter("asked", "with other labels", labels=("why",)).inc("a")
        self.assertEqual(list(self.samples().values()), [1])

    def test_wrong_use(self) -> None:
        """Names that Prometheus does not take, kinds that differ and too many metrics are refused."""
        services = self.services()
        for name in ("", "Asked", "9", "a-b", None):
            self.assertRaises(ValueError, services.counter, name, "")
        for own in ("failures", "failures_total"):
            self.assertIn("of portfwd", str(self.assertRaises(ValueError, services.counter, own, "")))
        self.assertRaises(ValueError, services.gauge, "failures", "")
        for labels in ("why", ("rule",), ("le",), ("a", "a"), ("A",)):
            self.assertRaises(ValueError, services.counter, "asked", "", labels)
        services.gauge("open", "")
        self.assertRaises(ValueError, self.services("db").histogram, "open", "")
        self.assertRaises(ValueError, services.histogram, "long", "", buckets=(2, 1))
        for number in range(MOST_METRICS - 1):
            services.gauge(f"g{number}", "")
        self.assertRaises(ValueError, services.gauge, "one_more", "")

    def test_repr(self) -> None:
        """Its state in a line."""
        counter = self.services().counter("asked", "")
        self.assertEqual(repr(counter), "<FilterCounter portfwd_filter_asked_total web/auth 1 series>")
        self.assertEqual(repr(self.metrics), "<FilterMetrics 1 of 1 filters, 1 series>")

    def test_page(self) -> None:
        """The page has each metric once, with its kind and the values of all rules."""
        try:
            from portfwd.metrics.exposition import expose
        except ImportError:
            raise SkipTest("needs prometheus-client") from None
        self.services().counter("asked", "questions", labels=("why",)).inc('a"b\n')
        self.services("db").counter("asked", "questions", labels=("why",)).inc("x")
        self.services().histogram("wait_seconds", "waits", buckets=(0.1, 1)).observe(0.5)
        figures = Figures(filters=self.metrics)
        text = b"".join(expose(figures)).decode()
        self.assertEqual(text.count("# TYPE portfwd_filter_asked_total counter"), 1)
        self.assertIn('portfwd_filter_asked_total{filter="auth",rule="db",why="x"} 1.0', text)
        self.assertIn('why="a\\"b\\n"', text)
        self.assertIn('portfwd_filter_wait_seconds_bucket{filter="auth",le="1",rule="web"} 1.0', text)
        self.assertIn('portfwd_filter_wait_seconds_sum{filter="auth",rule="web"} 0.5', text)
