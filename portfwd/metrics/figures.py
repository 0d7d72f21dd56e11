# -*- test-case-name: tests.metrics.test_figures -*-
"""
Everything that is told in one scrape, as values.

Rules with names of their own are bounded by `MOST_RULES`, and so are their targets:
what is beyond is added up under `OTHERS`, so that a file of ten thousand rules does not
become a million time series.
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

#: Rules that have labels of their own, the first of the file; about 20 000 series at the most.
MOST_RULES: Final = 500

#: Targets of all rules together that have labels of their own.
MOST_TARGETS: Final = 1000

#: Certificates that are told of, those that end first.
MOST_CERTIFICATES: Final = 1000

#: The label of all rules, or all targets, beyond these.
OTHERS: Final = "(others)"


@define
class RuleFigures:
    """
    One rule, or several with one label.

    :ivar tally: its closed sessions, and what the open ones did so far.
    :ivar sessions: open sessions.
    :ivar target_sessions: the same by target.
    :ivar target_failures: how often each target could not be reached.
    :ivar target_dials: how often each was dialled.
    :ivar target_states: the state of each that is judged.
    :ivar target_changes: how often that changed.
    :ivar target_checks: seconds of the last check, by target and check.
    :ivar refused: how often each limit was reached.
    :ivar pauses: how often accepting paused, by cause.
    :ivar dropped: datagrams that were dropped at its listeners, by cause.
    :ivar filter_failures: how often a filter raised.
    :ivar seen: what was added, by identity: a rule that a reload replaced shares it with its successor.
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
        """Sessions that were ever begun."""
        return self.sessions + sum(self.tally.reasons.values())

    def add_closed(self, tally: RuleTally) -> None:
        """Closed sessions."""
        self.tally.merge(tally)
        for name, target in tally.targets.items():
            self.tally.targets.setdefault(name, TargetTally()).merge(target)
        self.tally.dial.merge(tally.dial)
        self.tally.first_byte.merge(tally.first_byte)
        self.tally.duration.merge(tally.duration)
        self.tally.dropped.update(tally.dropped)
        self.tally.retransmits.update(tally.retransmits)

    def add_open(self, target: str, to_upstream: FlowSummary, to_client: FlowSummary) -> None:
        """An open session, at `target` if that is not empty."""
        self.tally.to_upstream.add(to_upstream)
        self.tally.to_client.add(to_client)
        if target:
            label = self.tally.label(target)
            there = self.tally.target(target)
            there.to_upstream.add(to_upstream)
            there.to_client.add(to_client)
            self.target_sessions[label] += 1

    def take_open(self, target: str, to_upstream: FlowSummary, to_client: FlowSummary) -> None:
        """The opposite of `add_open`: it has closed meanwhile."""
        self.add_open(target, _less(to_upstream), _less(to_client))
        if target:
            self.target_sessions[self.tally.label(target)] -= 2


def _less(flow: FlowSummary) -> FlowSummary:
    return FlowSummary(-flow.bytes, -flow.reads, -flow.writes, -flow.spliced, -flow.paused)


@define
class Figures:
    """
    All of them.

    :ivar version: portfwd's.
    :ivar started_at: seconds since the epoch.
    :ivar rules: by label.
    :ivar listeners: how many are in each state.
    :ivar descriptors: those that are counted as taken.
    :ivar descriptor_limit: of the process; 0 for none.
    :ivar pipes: those that flows have now.
    :ivar pipe_bytes: the size of all, idle ones included.
    :ivar pipes_refused: how often there was none to lend.
    :ivar sources: addresses that are remembered for their limits.
    :ivar sources_forgotten: those that were forgotten too early, for want of room.
    :ivar reloaded_at: of the last one that succeeded; None for never.
    :ivar certificates: files of certificates to when these end, since the epoch; `MOST_CERTIFICATES` at most.
    :ivar lags: how late the reactor was.
    :ivar filters: what filters have defined.
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
        """The figures of the rule `name`, or of all beyond the bound."""
        found = self.rules.get(name)
        if found is None:
            if len(self.rules) >= MOST_RULES:
                name = OTHERS
            found = self.rules.setdefault(name, RuleFigures())
        return found

    def was_added(self, rule: RuleFigures) -> None:
        """`rule` has all of one rule: what are the targets of all those beyond the bound is added up now."""
        if rule is self.rules.get(OTHERS):
            _merge_targets(rule, _names(rule))

    def add_certificates(self, ends: Iterable[tuple[str, float]]) -> None:
        """Tell of certificates: their files, and when they end."""
        soonest = nsmallest(MOST_CERTIFICATES, dict(ends).items(), key=lambda one: one[1])
        self.certificates = dict(sorted(soonest))

    def bound_targets(self) -> None:
        """Add up under one label the targets that are too many; once, when all rules are there."""
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
        # The state of a target that has no label cannot be told.
        rule.target_states.pop(name, None)
        for counts in (rule.target_sessions, rule.target_failures, rule.target_dials, rule.target_changes):
            count = counts.pop(name, 0)
            if count:
                counts[OTHERS] += count
    gone = set(names)
    rule.target_checks = {key: seconds for key, seconds in rule.target_checks.items() if key[0] not in gone}
    rule.tally.targets[OTHERS] = others
