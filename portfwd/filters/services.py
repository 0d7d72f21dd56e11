# -*- test-case-name: tests.filters.test_services -*-
"""
What a factory is given when its rule begins to work: the reactor, a clock, a log, and metrics of its own.

The service makes one `Services` for each ``filter`` clause and hands it to
`portfwd.filters.api.IStarting.start`, if the factory has that method. A filter itself gets what it needs of
it from its factory.
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
    Where a filter writes events; what it is told must not hold bytes of users.

    The relay adds the rule, and the session or the filter: a filter names none of its own so.
    """

    def info(self, text: str, **values: object) -> None:
        """Something worth knowing; `text` is a format of `values`."""

    def warn(self, text: str, **values: object) -> None:
        """Something an operator should look at."""


class Clock(Protocol):
    """Time, as the reactor has it: `twisted.internet.interfaces.IReactorTime`."""

    def seconds(self) -> float:
        """Seconds since some moment; they never go back."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> Any:  # noqa: A002
        """Call it in `delay` seconds; the result has a method ``cancel``."""


@frozen
class Services:
    """
    What a factory gets of the process that it works in.

    :ivar reactor: Twisted's reactor. Only its own thread may call filters and `Connection.wake`.
    :ivar clock: tells the time; a test has one that stands still.
    :ivar log: writes events, each with the names of rule and filter.
    :ivar rule: the name of the rule; of a range of ports there is one.
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
        A metric that only grows, ``portfwd_filter_NAME_total`` on the metrics page.

        The page adds the labels ``rule`` and ``filter``. The metric is the same one as before if this
        filter of this rule has defined it already, so a factory that replaces another one goes on counting.

        :param labels: names of further labels. Of each metric 100 sets of label values have series of their
            own; later ones are counted as ``other``.
        :raises ValueError: the name or a label cannot be one, or another kind of metric has this name.
        """
        return cast(FilterCounter, self._define(FilterCounter, name, help, labels))

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> FilterGauge:  # noqa: A002
        """A metric that goes up and down, ``portfwd_filter_NAME``; parameters and errors as of `counter`."""
        return cast(FilterGauge, self._define(FilterGauge, name, help, labels))

    def histogram(
        self,
        name: str,
        help: str,  # noqa: A002
        labels: Sequence[str] = (),
        buckets: Sequence[float] = BUCKETS,
    ) -> FilterHistogram:
        """
        How often a value was how large, ``portfwd_filter_NAME``; parameters and errors as of `counter`.

        :param buckets: upper bounds, in their order.
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
