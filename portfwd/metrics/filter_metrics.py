# -*- test-case-name: tests.metrics.test_filter_metrics -*-
"""
Metrics that filters define: counters, gauges and histograms, each with the labels of its rule and its filter.

`FilterMetrics` keeps the values of a process; a metric is defined in `portfwd.filters.Services` and is called
``portfwd_filter_`` and its name on the metrics page. The values of one rule and filter are kept when the
filter's factory is replaced, so counters do not fall. Everything is bounded: the metrics of a filter, the
label values of a metric, and all series together. It writes no page: `portfwd.metrics.exposition` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from portfwd.metrics.names import NAMES, MetricKind
from portfwd.metrics.tally import Histogram
from portfwd.values import counted

#: The prefix of the names of these metrics.
PREFIX: Final = "portfwd_filter_"

#: Maximum combinations of label values of one metric of one rule and filter; further ones are counted as
#: `OTHER`. Label values chosen by clients must not make a series for each client.
MOST_VALUES: Final = 100
OTHER: Final = "other"

#: Maximum metrics of one filter.
MOST_METRICS: Final = 50

#: Maximum series of all filters; further ones have `OTHER` for every label.
MOST_SERIES: Final = 10_000

#: Maximum pairs of rule and filter with their own series; further rules share those of `OTHER_RULES`.
MOST_OWNERS: Final = 500
OTHER_RULES: Final = "(others)"

#: Default upper bounds of a histogram, in seconds: those of prometheus-client.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: Maximum characters of a label value; a longer one is truncated.
MAX_VALUE: Final = 100

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
#: Labels that portfwd or Prometheus defines.
_RESERVED: Final = ("rule", "filter", "le", "quantile")

Labels: TypeAlias = tuple[str, ...]


class FilterMetric:
    """
    One metric of one filter in one rule.

    :ivar name: its full name.
    :ivar labels: names of the labels after ``rule`` and ``filter``.
    """

    kind: MetricKind

    def __init__(
        self, name: str, about: str, labels: Labels, owner: tuple[str, str], budget: SeriesBudget
    ) -> None:
        self.name = name
        self.about = about
        self.labels = labels
        self._owner = owner
        self._budget = budget
        self._values: dict[Labels, float] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {'/'.join(self._owner)} {len(self._values)} series>"

    def _key(self, values: Sequence[object]) -> Labels:
        """Return the series of these label values; `OTHER` if there are too many."""
        if len(values) != len(self.labels):
            raise ValueError(
                f"{self.name} has {counted(len(self.labels), 'label')} besides rule and filter,"
                f" not {len(values)}"
            )
        key = tuple(str(value)[:MAX_VALUE] for value in values)
        if key in self._values:
            return key
        if len(self._values) >= MOST_VALUES or self._budget.full:
            key = (OTHER,) * len(key)
        if key not in self._values:
            self._budget.taken += 1
            self._values[key] = 0.0
        return key

    def samples(self) -> Iterator[tuple[Labels, float]]:
        """Return rule, filter and label values of each series, with its value."""
        # The page is written in steps, between which series may be added.
        for values, value in list(self._values.items()):
            yield (*self._owner, *values), value

    def give_back(self) -> None:
        """Remove its series."""
        self._budget.taken -= len(self._values)
        self._values.clear()


class FilterCounter(FilterMetric):
    """A counter. `Services.counter` makes it."""

    kind = MetricKind.COUNTER

    def inc(self, *values: object, amount: float = 1) -> None:
        """
        Add `amount`, which must not be negative.

        :param values: the values of the labels, in the order of the labels.
        """
        if amount < 0:
            raise ValueError(f"{self.name} is a counter: it does not fall")
        self._values[self._key(values)] += amount


class FilterGauge(FilterMetric):
    """A gauge. `Services.gauge` makes it."""

    kind = MetricKind.GAUGE

    def set(self, value: float, *values: object) -> None:
        """Set the gauge to `value`; the other parameters are those of `FilterCounter.inc`."""
        self._values[self._key(values)] = value

    def inc(self, *values: object, amount: float = 1) -> None:
        """Add `amount`."""
        self._values[self._key(values)] += amount

    def dec(self, *values: object, amount: float = 1) -> None:
        """Subtract `amount`."""
        self.inc(*values, amount=-amount)


class FilterHistogram(FilterMetric):
    """A histogram. `Services.histogram` makes it."""

    kind = MetricKind.HISTOGRAM

    def __init__(
        self,
        name: str,
        about: str,
        labels: Labels,
        owner: tuple[str, str],
        budget: SeriesBudget,
        buckets: tuple[float, ...] = BUCKETS,
    ) -> None:
        super().__init__(name, about, labels, owner, budget)
        self.buckets = buckets
        self._histograms: dict[Labels, Histogram] = {}

    def observe(self, value: float, *values: object) -> None:
        """Count `value`; the other parameters are those of `FilterCounter.inc`."""
        key = self._key(values)
        found = self._histograms.get(key)
        if found is None:
            found = self._histograms[key] = Histogram(self.buckets)
        found.add(value)

    def histograms(self) -> Iterator[tuple[Labels, Histogram]]:
        """Return rule, filter and label values of each series, with its histogram."""
        for values, histogram in list(self._histograms.items()):
            yield (*self._owner, *values), histogram


class SeriesBudget:
    """The number of filters' series in the process, and its maximum."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    @property
    def full(self) -> bool:
        """Whether the maximum is reached."""
        return self.taken >= self.most


class FilterMetrics:
    """All metrics that filters of a process have defined."""

    def __init__(self, most: int = MOST_SERIES) -> None:
        """:param most: maximum number of series."""
        self._budget = SeriesBudget(most)
        # By rule and filter, then by name.
        self._metrics: dict[tuple[str, str], dict[str, FilterMetric]] = {}

    def __repr__(self) -> str:
        count = sum(map(len, self._metrics.values()))
        return f"<FilterMetrics {count} of {len(self._metrics)} filters, {self._budget.taken} series>"

    def define(
        self,
        cls: type[FilterMetric],
        rule: str,
        filter_name: str,
        name: str,
        about: str,
        labels: Sequence[str] = (),
        **more: tuple[float, ...],
    ) -> FilterMetric:
        """
        Return the metric `name` of a rule's filter; make it if there is none.

        :raises ValueError: the name or a label is invalid, there are too many metrics, or a filter has a
            metric of this name and another kind.
        """
        whole = _whole_name(cls, name)
        names = _checked_labels(whole, labels)
        for metrics in self._metrics.values():
            other = metrics.get(whole)
            if other is not None and other.kind is not cls.kind:
                raise ValueError(f"{whole} is a {other.kind.value} already; choose another name")
        owner = self._owner(rule, filter_name)
        own = self._metrics.setdefault(owner, {})
        known = own.get(whole)
        if (
            known is not None
            and known.labels == names
            and getattr(known, "buckets", None) == more.get("buckets")
        ):
            known.about = about
            return known
        if known is not None:
            known.give_back()
        elif len(own) >= MOST_METRICS:
            raise ValueError(f"a filter has at most {MOST_METRICS} metrics")
        made = own[whole] = cls(whole, about, names, owner, self._budget, **more)
        if not names and cls is not FilterHistogram:
            made._key(())  # 0 before the first event, so that Prometheus sees an increase
        return made

    def _owner(self, rule: str, filter_name: str) -> tuple[str, str]:
        owner = (rule, filter_name)
        if owner not in self._metrics and len(self._metrics) >= MOST_OWNERS:
            return OTHER_RULES, filter_name
        return owner

    def forget(self, rule: str, filter_name: str) -> None:
        """Remove the metrics of a filter that the rule does not have any more."""
        for metric in self._metrics.pop((rule, filter_name), {}).values():
            metric.give_back()

    def families(self) -> list[list[FilterMetric]]:
        """Return all metrics, grouped by name: several rules may have a metric of one name."""
        named: dict[str, list[FilterMetric]] = {}
        for metrics in self._metrics.values():
            for name, metric in metrics.items():
                named.setdefault(name, []).append(metric)
        return [named[name] for name in sorted(named)]


def _whole_name(cls: type[FilterMetric], name: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"the name of a metric has small letters, digits and _, not {str(name)[:40]!r}")
    whole = PREFIX + name.removeprefix(PREFIX)
    if cls.kind is MetricKind.COUNTER and not whole.endswith("_total"):
        whole += "_total"
    if any(own.name.removesuffix("_total") == whole.removesuffix("_total") for own in NAMES):
        raise ValueError(f"{whole} is a metric of portfwd; choose another name")
    return whole


def _checked_labels(name: str, labels: Sequence[str]) -> Labels:
    if isinstance(labels, str):
        raise ValueError(f"the labels of {name} are a tuple of names, not one text")
    for label in labels:
        if not isinstance(label, str) or not _NAME.fullmatch(label) or label in _RESERVED:
            raise ValueError(f"{str(label)[:40]!r} cannot be a label of {name}")
    if len(set(labels)) != len(labels):
        raise ValueError(f"{name} has a label twice")
    return tuple(labels)
