"""Tests of `portfwd.metrics.exposition`: figures as Prometheus reads them."""

from __future__ import annotations

import re

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from portfwd.metrics.figures import Figures
from portfwd.metrics.names import NAMES
from portfwd.metrics.tally import Histogram
from portfwd.values import FlowSummary
from tests.metrics.test_figures import a_tally

try:
    from prometheus_client import REGISTRY
    from prometheus_client.parser import text_string_to_metric_families as parse
except ImportError:
    parse = None  # type: ignore[assignment]


def samples(text: str) -> dict[tuple[str, str], float]:
    """Every line, by name and labels as one text."""
    return {
        (
            sample.name,
            " ".join(f"{key}={value}" for key, value in sorted(sample.labels.items())),
        ): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def full() -> Figures:
    """Figures that have something of everything."""
    figures = Figures("1.0", 1000.0, True, lags=Histogram((0.1,)))
    rule = figures.rule('na"me\\')
    rule.add_closed(a_tally("a:1", "b:1"))
    rule.sessions = 1
    rule.add_open("a:1", FlowSummary(7, 1, 1), FlowSummary(8, 1, 1))
    rule.refused["rate"] = 2
    rule.pauses["limit"] = 3
    rule.dropped["buffer"] = 6
    rule.tally.dropped["queue"] = 4
    rule.tally.sent_again((b"", bytes(100) + b"\3\0\0\0"))
    rule.target_failures["b:1"] = 4
    rule.target_dials["b:1"] = 5
    rule.target_states["b:1"] = "down"
    rule.target_changes["b:1"] = 6
    rule.target_checks["b:1", "tcp"] = 0.25
    figures.rule("idle")
    figures.listeners["accepting"] = 2
    figures.lags.add(0.5)
    figures.add_certificates([("/etc/a.pem", 4e9)])
    return figures


class ZeroTests(SynchronousTestCase):
    """Series whose labels are known."""

    def test_reasons(self) -> None:
        """Every close reason of a rule is there from the start; of many rules only those that were seen."""
        if parse is None:
            raise SkipTest("needs prometheus-client")
        from portfwd.metrics.exposition import RULES_WITH_ZEROS, expose

        figures = Figures()
        figures.rule("a")
        found = samples(b"".join(expose(figures)).decode())
        self.assertEqual(found["portfwd_sessions_closed_total", "reason=SC rule=a"], 0)
        for number in range(RULES_WITH_ZEROS):
            figures.rule(f"rule {number}")
        found = samples(b"".join(expose(figures)).decode())
        self.assertNotIn(("portfwd_sessions_closed_total", "reason=SC rule=a"), found)


class ExpositionTests(SynchronousTestCase):
    """prometheus-client's own parser reads it back."""

    def setUp(self) -> None:
        if parse is None:
            raise SkipTest("needs prometheus-client")
        from portfwd.metrics.exposition import expose

        self.parts = list(expose(full()))
        self.text = b"".join(self.parts).decode()
        self.samples = samples(self.text)

    def test_every_name(self) -> None:
        """Every metric of the table is there, with its kind, its meaning and its labels, and no other."""
        self.assertEqual(
            re.findall("# TYPE (.*)", self.text), [f"{one.name} {one.kind.value}" for one in NAMES]
        )
        self.assertEqual(len(self.parts), len(NAMES))
        families = list(parse(self.text))
        for spec, family in zip(NAMES, families, strict=True):
            self.assertTrue(family.documentation.endswith("."), spec.name)
            for sample in family.samples:
                labels = {*spec.labels, *(["le"] if sample.name.endswith("_bucket") else [])}
                self.assertEqual(set(sample.labels), labels, sample.name)
            self.assertNotEqual(family.samples, [], spec.name)

    def test_values(self) -> None:
        """Numbers stand where they belong, with names of rules escaped."""
        rule = 'rule=na"me\\'
        for name, labels, value in (
            ("portfwd_info", "version=1.0", 1),
            ("portfwd_ready", "", 1),
            ("portfwd_sessions_active", rule, 1),
            ("portfwd_sessions_total", rule, 3),
            ("portfwd_sessions_closed_total", f"reason=-- {rule}", 2),
            ("portfwd_limit_refusals_total", f"limit=rate {rule}", 2),
            ("portfwd_accept_pauses_total", f"cause=limit {rule}", 3),
            ("portfwd_datagrams_dropped_total", f"cause=buffer {rule}", 6),
            ("portfwd_session_datagrams_dropped_total", f"cause=queue {rule}", 4),
            ("portfwd_tcp_retransmits_total", f"{rule} side=client", 0),
            ("portfwd_tcp_retransmits_total", f"{rule} side=upstream", 3),
            ("portfwd_bytes_total", f"direction=to-upstream {rule}", 207),
            ("portfwd_bytes_total", f"direction=to-client {rule}", 408),
            ("portfwd_spliced_bytes_total", f"direction=to-upstream {rule}", 100),
            ("portfwd_target_bytes_total", f"direction=to-client {rule} target=a:1", 208),
            ("portfwd_target_sessions_active", f"{rule} target=a:1", 1),
            ("portfwd_target_failures_total", f"{rule} target=b:1", 4),
            ("portfwd_target_dials_total", f"{rule} target=b:1", 5),
            ("portfwd_target_state", f"{rule} state=down target=b:1", 1),
            ("portfwd_target_state", f"{rule} state=up target=b:1", 0),
            ("portfwd_target_changes_total", f"{rule} target=b:1", 6),
            ("portfwd_target_check_seconds", f"check=tcp {rule} target=b:1", 0.25),
            ("portfwd_reload_time_seconds", "", 0),
        ):
            self.assertEqual(self.samples[name, labels], value, (name, labels))

    def test_histograms(self) -> None:
        """Buckets are cumulative, and the last one is the count; a rule without sessions has none."""
        found = self.samples
        times = {
            labels: value for (name, labels), value in found.items() if name == "portfwd_dial_seconds_bucket"
        }
        self.assertEqual(sorted(times.values()), list(times.values()))
        self.assertEqual(times['le=+Inf rule=na"me\\'], 2)
        self.assertEqual(found["portfwd_dial_seconds_count", 'rule=na"me\\'], 2)
        self.assertAlmostEqual(found["portfwd_dial_seconds_sum", 'rule=na"me\\'], 0.004)
        self.assertNotIn("idle", [labels.rpartition("=")[2] for labels in times])
        self.assertEqual(found["portfwd_reactor_lag_seconds_bucket", "le=0.1"], 0)

    def test_parts(self) -> None:
        """However many rules there are, a part is small, and together they are one text."""
        from portfwd.metrics.exposition import expose

        figures = Figures("1.0", 1000.0, True, lags=Histogram((0.1,)))
        for number in range(250):
            figures.rule(f"rule{number}").add_closed(a_tally(f"a:{number}"))
        parts = list(expose(figures))
        self.assertLess(max(map(len, parts)), 20_000)
        text = b"".join(parts).decode()
        self.assertEqual(len(re.findall("# TYPE ", text)), len(NAMES))
        found = samples(text)
        for number in range(250):
            self.assertEqual(found["portfwd_sessions_closed_total", f"reason=-- rule=rule{number}"], 1)
            self.assertEqual(found["portfwd_session_seconds_count", f"rule=rule{number}"], 1)

    def test_no_registry(self) -> None:
        """Nothing of it is in prometheus-client's global registry."""
        names = {family.name for family in REGISTRY.collect()}
        self.assertEqual({name for name in names if name.startswith("portfwd")}, set())
