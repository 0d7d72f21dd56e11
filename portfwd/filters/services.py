# -*- test-case-name: tests.filters.test_services -*-
"""
The services of a factory: the reactor, a clock, a log, and metrics.

The forwarder makes one `Services` for each ``filter`` clause and passes it to
`portfwd.filters.api.IStarting.start`, if the factory has that method. The factory passes on to its filters
what they need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from attrs import field, frozen

from portfwd.metrics.filter_metrics import (
    BUCKETS,
    FilterCounter,
    FilterGauge,
    FilterHistogram,
    FilterMetric,
    FilterMetrics,
)


class Log(Protocol):
    """
    The log to which a filter writes events. Texts and values must not contain bytes of users.

    The relay adds the names of the rule and the filter, and the number of the session, to each event.
    """

    def info(self, text: str, **values: object) -> None:
        """Log an event; `text` is a format string for `values`."""

    def warn(self, text: str, **values: object) -> None:
        """Log an event that an operator should look at."""


class Clock(Protocol):
    """The reactor's time: `twisted.internet.interfaces.IReactorTime`."""

    def seconds(self) -> float:
        """Seconds of a clock that never goes back."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> Any:  # noqa: A002
        """Call `callable` in `delay` seconds; the result has a method ``cancel``."""


@frozen
class Services:
    """
    What the process gives to a factory.

    :ivar reactor: Twisted's reactor. Only the reactor's thread may call filters and `Connection.wake`.
    :ivar clock: the time. A test passes a clock that it advances itself.
    :ivar log: writes events with the names of rule and filter.
    :ivar rule: the name of the rule. A rule with a range of ports has one name.
    :ivar filter: the name of the filter, as the rule writes it.
    :ivar metrics: where `counter`, `gauge` and `histogram` define metrics.
    """

    reactor: Any
    clock: Clock
    log: Log
    rule: str
    filter: str = ""
    metrics: FilterMetrics = field(factory=FilterMetrics, repr=False)

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> FilterCounter:  # noqa: A002
        """
        Define a counter. It is called ``portfwd_filter_NAME_total`` on the metrics page.

        The page adds the labels ``rule`` and ``filter``. If this filter of this rule has defined the metric
        before, the result is the same object, so that a factory which replaces another one continues to
        count.

        :param labels: names of further labels. A metric has at most 100 series; further sets of label
            values are counted as ``other``.
        :raises ValueError: the name or a label cannot be one, or another kind of metric has this name.
        """
        return cast(FilterCounter, self._define(FilterCounter, name, help, labels))

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> FilterGauge:  # noqa: A002
        """Define a gauge, called ``portfwd_filter_NAME``; parameters and errors as for `counter`."""
        return cast(FilterGauge, self._define(FilterGauge, name, help, labels))

    def histogram(
        self,
        name: str,
        help: str,  # noqa: A002
        labels: Sequence[str] = (),
        buckets: Sequence[float] = BUCKETS,
    ) -> FilterHistogram:
        """
        Define a histogram, called ``portfwd_filter_NAME``; parameters and errors as for `counter`.

        :param buckets: upper bounds in ascending order.
        """
        bounds = tuple(map(float, buckets))
        if not bounds or list(bounds) != sorted(set(bounds)):
            raise ValueError(f"the buckets of {name} are numbers, the least one first")
        return cast(FilterHistogram, self._define(FilterHistogram, name, help, labels, buckets=bounds))

    def _define(
        self,
        cls: type[FilterMetric],
        name: str,
        about: str,
        labels: Sequence[str],
        **more: tuple[float, ...],
    ) -> FilterMetric:
        return self.metrics.define(cls, self.rule, self.filter, name, about, labels, **more)
