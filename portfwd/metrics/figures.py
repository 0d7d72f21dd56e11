# -*- test-case-name: tests.metrics.test_figures -*-
"""
The values of all metrics for one scrape.

At most `MOST_RULES` rules and `MOST_TARGETS` targets have labels of their own. The others are added up under
`OTHERS`, so that ten thousand rules do not make a million time series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import nsmallest
from typing import Final

from attrs import Factory, define

from portfwd.metrics.filter_metrics import FilterMetrics
from portfwd.metrics.tally import Histogram, RuleTally, TargetTally
from portfwd.values import FlowSummary

#: Maximum rules with labels of their own, the first ones of the file: about 20 000 series.
MOST_RULES: Final = 500

#: Maximum targets of all rules with labels of their own.
MOST_TARGETS: Final = 1000

#: Maximum certificates, those that expire first.
MOST_CERTIFICATES: Final = 1000

#: The label of all further rules or targets.
OTHERS: Final = "(others)"


@define
class RuleFigures:
    """
    The figures of one rule, or of several with one label.

    :ivar tally: sums over closed and open sessions.
    :ivar sessions: number of open sessions.
    :ivar target_sessions: number of open sessions by target.
    :ivar target_failures: number of failed dials by target.
    :ivar target_dials: number of dials by target.
    :ivar target_states: the state of each target that has one.
    :ivar target_changes: number of changes of the state by target.
    :ivar target_checks: seconds of the last check, by target and check.
    :ivar refused: number of refusals by limit.
    :ivar pauses: number of pauses of accepting, by cause.
    :ivar dropped: datagrams dropped at its listeners, by cause.
    :ivar filter_failures: number of exceptions of filters.
    :ivar seen: identities of the objects that were added: a replaced rule shares them with its successor.
    """

    tally: RuleTally = Factory(RuleTally)
    sessions: int = 0
    target_sessions: Counter[str] = Factory(Counter)
    target_failures: Counter[str] = Factory(Counter)
    target_dials: Counter[str] = Factory(Counter)
    target_states: dict[str, str] = Factory(dict)
    target_changes: Counter[str] = Factory(Counter)
    target_checks: dict[tuple[str, str], float] = Factory(dict)
    refused: Counter[str] = Factory(Counter)
    pauses: Counter[str] = Factory(Counter)
    dropped: Counter[str] = Factory(Counter)
    filter_failures: int = 0
    seen: set[int] = Factory(set)

    @property
    def total(self) -> int:
        """The number of sessions that have begun."""
        return self.sessions + sum(self.tally.reasons.values())

    def add_closed(self, tally: RuleTally) -> None:
        """Add closed sessions."""
        self.tally.merge(tally)
        for name, target in tally.targets.items():
            self.tally.targets.setdefault(name, TargetTally()).merge(target)
        self.tally.dial.merge(tally.dial)
        self.tally.first_byte.merge(tally.first_byte)
        self.tally.duration.merge(tally.duration)
        self.tally.dropped.update(tally.dropped)
        self.tally.retransmits.update(tally.retransmits)

    def add_open(self, target: str, to_upstream: FlowSummary, to_client: FlowSummary) -> None:
        """Add an open session; `target` is empty if it has reached none."""
        self.tally.to_upstream.add(to_upstream)
        self.tally.to_client.add(to_client)
        if target:
            label = self.tally.label(target)
            there = self.tally.target(target)
            there.to_upstream.add(to_upstream)
            there.to_client.add(to_client)
            self.target_sessions[label] += 1

    def take_open(self, target: str, to_upstream: FlowSummary, to_client: FlowSummary) -> None:
        """Undo `add_open`: the session has closed meanwhile."""
        self.add_open(target, _less(to_upstream), _less(to_client))
        if target:
            self.target_sessions[self.tally.label(target)] -= 2


def _less(flow: FlowSummary) -> FlowSummary:
    return FlowSummary(-flow.bytes, -flow.reads, -flow.writes, -flow.spliced, -flow.paused)


@define
class Figures:
    """
    The figures of a process.

    :ivar version: version of portfwd.
    :ivar started_at: time of the start, seconds since the epoch.
    :ivar ready: whether clients are accepted.
    :ivar rules: figures of rules by label.
    :ivar listeners: number of listeners by state.
    :ivar descriptors: number of used descriptors.
    :ivar descriptor_limit: limit of the process; 0 for none.
    :ivar pipes: number of pipes that flows have borrowed.
    :ivar pipe_bytes: size of all pipes, including idle ones.
    :ivar pipes_refused: number of times that no pipe could be lent.
    :ivar sources: number of addresses that are remembered for limits.
    :ivar sources_forgotten: number of addresses that were removed early to bound memory.
    :ivar reloads: number of successful reloads.
    :ivar reload_failures: number of refused reloads.
    :ivar reloaded_at: time of the last successful reload, seconds since the epoch; None if there was none.
    :ivar certificates: expiry of certificates by file, seconds since the epoch; at most `MOST_CERTIFICATES`.
    :ivar lags: delays of the reactor.
    :ivar filters: metrics of filters.
    """

    version: str = ""
    started_at: float = 0.0
    ready: bool = False
    rules: dict[str, RuleFigures] = Factory(dict)
    listeners: Counter[str] = Factory(Counter)
    descriptors: int = 0
    descriptor_limit: int = 0
    pipes: int = 0
    pipe_bytes: int = 0
    pipes_refused: int = 0
    sources: int = 0
    sources_forgotten: int = 0
    reloads: int = 0
    reload_failures: int = 0
    reloaded_at: float | None = None
    certificates: dict[str, float] = Factory(dict)
    lags: Histogram = Factory(lambda: Histogram(()))
    filters: FilterMetrics = Factory(FilterMetrics)

    def rule(self, name: str) -> RuleFigures:
        """Return the figures of the rule `name`, or those of `OTHERS` beyond `MOST_RULES`."""
        found = self.rules.get(name)
        if found is None:
            if len(self.rules) >= MOST_RULES:
                name = OTHERS
            found = self.rules.setdefault(name, RuleFigures())
        return found

    def was_added(self, rule: RuleFigures) -> None:
        """One rule was added to `rule`: add up the targets of `OTHERS`."""
        if rule is self.rules.get(OTHERS):
            _merge_targets(rule, _names(rule))

    def add_certificates(self, ends: Iterable[tuple[str, float]]) -> None:
        """Set the certificates: pairs of file and expiry."""
        soonest = nsmallest(MOST_CERTIFICATES, dict(ends).items(), key=lambda one: one[1])
        self.certificates = dict(sorted(soonest))

    def bound_targets(self) -> None:
        """Add up the targets beyond `MOST_TARGETS`. Call it once, after all rules were added."""
        left = MOST_TARGETS
        for rule in self.rules.values():
            names = _names(rule)
            beyond = names[max(left, 0) :]
            left -= len(names)
            if beyond:
                _merge_targets(rule, beyond)


def _names(rule: RuleFigures) -> list[str]:
    names = dict.fromkeys((*rule.tally.targets, *rule.target_sessions, *rule.target_failures))
    names.pop(OTHERS, None)
    return list(names)


def _merge_targets(rule: RuleFigures, names: Iterable[str]) -> None:
    others = rule.tally.targets.get(OTHERS)
    if others is None:
        others = TargetTally()
    for name in names:
        others.merge(rule.tally.targets.pop(name, TargetTally()))
        # Targets without a label have no state in the metrics.
        rule.target_states.pop(name, None)
        for counts in (rule.target_sessions, rule.target_failures, rule.target_dials, rule.target_changes):
            count = counts.pop(name, 0)
            if count:
                counts[OTHERS] += count
    gone = set(names)
    rule.target_checks = {key: seconds for key, seconds in rule.target_checks.items() if key[0] not in gone}
    rule.tally.targets[OTHERS] = others
