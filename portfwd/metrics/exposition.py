# -*- test-case-name: tests.metrics.test_exposition -*-
"""
Write figures in Prometheus' text format.

The text is made by prometheus-client (the extra ``metrics``), without a registry: each metric is built from
values that were collected before. A series with known labels, such as a close reason or a limit of a rule, is
0 before its first event. Metrics of filters follow those of portfwd. The text is produced in parts that take
about a millisecond, so a caller can process other events in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Final, TypeVar

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from portfwd.metrics.figures import Figures, RuleFigures
from portfwd.metrics.filter_metrics import PREFIX, FilterHistogram, FilterMetric
from portfwd.metrics.names import NAMES, MetricKind, MetricName
from portfwd.metrics.tally import FlowTally, Histogram, TargetTally
from portfwd.values import CloseReason

#: Version 0.0.4 of the text format, which every Prometheus reads and which is sufficient for ASCII names.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

#: Maximum values of a metric in one part of the text; each takes about 5 us.
VALUES_A_PART: Final = 100
#: Maximum histograms in one part; each has a dozen lines.
HISTOGRAMS_A_PART: Final = 8
#: Maximum number of rules for which close reasons that never occurred are written as 0: about 40 series each.
RULES_WITH_ZEROS: Final = 100

#: The states of a target: those of `portfwd.upstreams.health.TargetState`, which this layer must not import.
STATES: Final = ("up", "starting", "drain", "down")

T = TypeVar("T")
#: Label values, in the order of the metric's labels, and the value.
Sample = tuple[tuple[str, ...], float]
Samples = Callable[[Figures], Iterable[Sample]]
Times = Callable[[Figures], Iterable[tuple[tuple[str, ...], Histogram]]]


def _one(read: Callable[[Figures], float]) -> Samples:
    return lambda figures: [((), read(figures))]


def _by_rule(read: Callable[[RuleFigures], float]) -> Samples:
    return lambda figures: [((name,), read(rule)) for name, rule in figures.rules.items()]


def _by_kind(read: Callable[[RuleFigures], Mapping[str, int]]) -> Samples:
    def samples(figures: Figures) -> Iterator[Sample]:
        for name, rule in figures.rules.items():
            for kind, count in read(rule).items():
                yield (name, kind), count

    return samples


def _flows(tally: TargetTally) -> tuple[tuple[str, FlowTally], tuple[str, FlowTally]]:
    return ("to-upstream", tally.to_upstream), ("to-client", tally.to_client)


def _by_flow(read: Callable[[FlowTally], float]) -> Samples:
    def samples(figures: Figures) -> Iterator[Sample]:
        for name, rule in figures.rules.items():
            for direction, flow in _flows(rule.tally):
                yield (name, direction), read(flow)

    return samples


def _closed(figures: Figures) -> Iterator[Sample]:
    """Count by rule and reason. Reasons without a session are 0, unless there are many rules."""
    every = tuple(CloseReason) if len(figures.rules) <= RULES_WITH_ZEROS else ()
    for name, rule in figures.rules.items():
        reasons = rule.tally.reasons
        for reason in dict.fromkeys((*every, *reasons)):
            yield (name, reason.code), reasons[reason]


def _target_closed(figures: Figures) -> Iterator[Sample]:
    for name, rule in figures.rules.items():
        for target, tally in rule.tally.targets.items():
            for reason, count in tally.reasons.items():
                yield (name, target, reason.code), count


def _target_states(figures: Figures) -> Iterator[Sample]:
    for name, rule in figures.rules.items():
        for target, now in rule.target_states.items():
            for state in STATES:
                yield (name, target, state), float(state == now)


def _target_checks(figures: Figures) -> Iterator[Sample]:
    for name, rule in figures.rules.items():
        for (target, check), seconds in rule.target_checks.items():
            yield (name, target, check), seconds


def _target_bytes(figures: Figures) -> Iterator[Sample]:
    for name, rule in figures.rules.items():
        for target, tally in rule.tally.targets.items():
            for direction, flow in _flows(tally):
                yield (name, target, direction), flow.bytes


_SAMPLES: Final[Mapping[str, Samples]] = MappingProxyType(
    {
        "portfwd_info": lambda figures: [((figures.version,), 1)],
        "portfwd_start_time_seconds": _one(lambda figures: figures.started_at),
        "portfwd_ready": _one(lambda figures: int(figures.ready)),
        "portfwd_listeners": lambda figures: [
            ((state,), count) for state, count in figures.listeners.items()
        ],
        "portfwd_sessions_active": _by_rule(lambda rule: rule.sessions),
        "portfwd_sessions_total": _by_rule(lambda rule: rule.total),
        "portfwd_sessions_closed_total": _closed,
        "portfwd_limit_refusals_total": _by_kind(lambda rule: rule.refused),
        "portfwd_accept_pauses_total": _by_kind(lambda rule: rule.pauses),
        "portfwd_datagrams_dropped_total": _by_kind(lambda rule: rule.dropped),
        "portfwd_session_datagrams_dropped_total": _by_kind(lambda rule: rule.tally.dropped),
        "portfwd_filter_failures_total": _by_rule(lambda rule: rule.filter_failures),
        "portfwd_bytes_total": _by_flow(lambda flow: flow.bytes),
        "portfwd_spliced_bytes_total": _by_flow(lambda flow: flow.spliced),
        "portfwd_reads_total": _by_flow(lambda flow: flow.reads),
        "portfwd_writes_total": _by_flow(lambda flow: flow.writes),
        "portfwd_paused_seconds_total": _by_flow(lambda flow: flow.paused),
        "portfwd_tcp_retransmits_total": _by_kind(lambda rule: rule.tally.retransmits),
        "portfwd_target_sessions_active": _by_kind(lambda rule: rule.target_sessions),
        "portfwd_target_closed_total": _target_closed,
        "portfwd_target_state": _target_states,
        "portfwd_target_changes_total": _by_kind(lambda rule: rule.target_changes),
        "portfwd_target_check_seconds": _target_checks,
        "portfwd_target_dials_total": _by_kind(lambda rule: rule.target_dials),
        "portfwd_target_failures_total": _by_kind(lambda rule: rule.target_failures),
        "portfwd_target_bytes_total": _target_bytes,
        "portfwd_descriptors": _one(lambda figures: figures.descriptors),
        "portfwd_descriptors_limit": _one(lambda figures: figures.descriptor_limit),
        "portfwd_pipes_lent": _one(lambda figures: figures.pipes),
        "portfwd_pipe_bytes": _one(lambda figures: figures.pipe_bytes),
        "portfwd_pipes_refused_total": _one(lambda figures: figures.pipes_refused),
        "portfwd_sources": _one(lambda figures: figures.sources),
        "portfwd_sources_forgotten_total": _one(lambda figures: figures.sources_forgotten),
        "portfwd_reloads_total": _one(lambda figures: figures.reloads),
        "portfwd_reload_failures_total": _one(lambda figures: figures.reload_failures),
        "portfwd_reload_time_seconds": _one(lambda figures: figures.reloaded_at or 0.0),
        "portfwd_certificate_not_after_seconds": lambda figures: [
            ((file,), end) for file, end in figures.certificates.items()
        ],
    }
)


def _rule_times(read: Callable[[RuleFigures], Histogram]) -> Times:
    # A histogram has a dozen lines, so it is omitted for a rule without sessions.
    return lambda figures: [
        ((name,), read(rule)) for name, rule in figures.rules.items() if any(read(rule).counts)
    ]


_TIMES: Final[Mapping[str, Times]] = MappingProxyType(
    {
        "portfwd_dial_seconds": _rule_times(lambda rule: rule.tally.dial),
        "portfwd_first_byte_seconds": _rule_times(lambda rule: rule.tally.first_byte),
        "portfwd_session_seconds": _rule_times(lambda rule: rule.tally.duration),
        "portfwd_reactor_lag_seconds": lambda figures: [((), figures.lags)],
    }
)


class _OneMetric:
    """A registry with one metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """Return the metric."""
        return (self._metric,)


def expose(figures: Figures) -> Iterator[bytes]:
    """Return the text of `figures` in parts, in the order of `NAMES`."""
    for spec in NAMES:
        families = _histograms(spec, figures) if spec.kind is MetricKind.HISTOGRAM else _values(spec, figures)
        for number, family in enumerate(families):
            text = generate_latest(_OneMetric(family))
            yield text if not number else _without_head(text)
    for metrics in figures.filters.families():
        head = True
        for metric in metrics:
            for family in _of_filter(metric):
                text = generate_latest(_OneMetric(family))
                yield text if head else _without_head(text)
                head = False


def _of_filter(metric: FilterMetric) -> Iterator[Metric]:
    """Build the families of a metric of a filter of one rule."""
    labels = ("rule", "filter", *metric.labels)
    about = metric.about or f"of the filter {metric.name.removeprefix(PREFIX)}"
    if isinstance(metric, FilterHistogram):
        for part in _parts(metric.histograms(), HISTOGRAMS_A_PART):
            histograms = HistogramMetricFamily(metric.name, about, labels=labels)
            for values, histogram in part:
                histograms.add_metric(values, list(_buckets(histogram)), histogram.total)
            yield histograms
        return
    make = CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily
    for samples in _parts(metric.samples(), VALUES_A_PART):
        family = make(metric.name, about, labels=labels)
        for values, value in samples:
            family.add_metric(values, value)
        yield family


def _without_head(text: bytes) -> bytes:
    """Remove the ``#`` lines, which were written for the first part."""
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"#"))


def _about(spec: MetricName) -> str:
    return f"{spec.about[0].upper()}{spec.about[1:]}."


def _values(spec: MetricName, figures: Figures) -> Iterator[Metric]:
    make = CounterMetricFamily if spec.kind is MetricKind.COUNTER else GaugeMetricFamily
    for samples in _parts(_SAMPLES[spec.name](figures), VALUES_A_PART):
        family = make(spec.name, _about(spec), labels=spec.labels)
        for labels, value in samples:
            family.add_metric(labels, value)
        yield family


def _histograms(spec: MetricName, figures: Figures) -> Iterator[Metric]:
    for samples in _parts(_TIMES[spec.name](figures), HISTOGRAMS_A_PART):
        family = HistogramMetricFamily(spec.name, _about(spec), labels=spec.labels)
        for labels, histogram in samples:
            family.add_metric(labels, list(_buckets(histogram)), histogram.total)
        yield family


def _parts(everything: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split into lists of `size`. There is at least one, so a metric without values has its ``#`` lines."""
    left = iter(everything)
    part = list(islice(left, size))
    yield part
    while part := list(islice(left, size)):
        yield part


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    """Return cumulative counts, each with its upper bound, as the format requires."""
    count = 0
    for bound, more in zip((*histogram.bounds, None), histogram.counts, strict=True):
        count += more
        yield "+Inf" if bound is None else f"{bound:g}", count
