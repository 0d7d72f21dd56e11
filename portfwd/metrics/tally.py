# -*- test-case-name: tests.metrics.test_tally -*-
"""
Sums over the closed sessions of a rule, updated at the end of each session.

The values of open sessions are read for each scrape, so nothing is counted while bytes are moved. Without a
listener for metrics there is no `Ledger`, and nothing is counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final
from weakref import WeakValueDictionary

from portfwd.values import CloseReason, FlowSummary, SessionSummary, Side
from portfwd.wire.tcp_info import retransmits_of

#: Upper bounds of network times in seconds: from a neighbouring machine to the limit of dials.
NETWORK_TIMES: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0,
)  # fmt: skip
#: Upper bounds of the duration of sessions in seconds: from one answer to days.
SESSION_TIMES: Final = (0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0, 172800.0)

#: The common label of targets that a filter chose by address, whose number is not bounded.
CHOSEN: Final = "(chosen)"


class Histogram:
    """
    A histogram of durations.

    :ivar bounds: inclusive upper bounds of the buckets, in seconds.
    :ivar counts: number of values in each bucket, not cumulative; the last one is for values above all.
    :ivar total: the sum of all values, in seconds.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def __repr__(self) -> str:
        return f"<Histogram {sum(self.counts)} times, {self.total:g} s>"

    def add(self, seconds: float) -> None:
        """Add one value."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def merge(self, other: Histogram) -> None:
        """Add the values of `other`, which has the same bounds."""
        for index, count in enumerate(other.counts):
            self.counts[index] += count
        self.total += other.total


class FlowTally:
    """Sums over flows of one direction; the fields are those of `FlowSummary`."""

    __slots__ = ("bytes", "paused", "reads", "spliced", "writes")

    def __init__(self) -> None:
        self.bytes = 0
        self.reads = 0
        self.writes = 0
        self.spliced = 0
        self.paused = 0.0

    def __repr__(self) -> str:
        return f"<FlowTally {self.bytes} bytes>"

    def add(self, flow: FlowSummary | FlowTally) -> None:
        """Add one flow, or the sums of several."""
        self.bytes += flow.bytes
        self.reads += flow.reads
        self.writes += flow.writes
        self.spliced += flow.spliced
        self.paused += flow.paused


class TargetTally:
    """
    Sums over the sessions of one target.

    :ivar reasons: number of closed sessions by reason.
    """

    __slots__ = ("reasons", "to_client", "to_upstream")

    def __init__(self) -> None:
        self.reasons: Counter[CloseReason] = Counter()
        self.to_upstream = FlowTally()
        self.to_client = FlowTally()

    def closed(self, summary: SessionSummary) -> None:
        """Add a closed session."""
        if summary.reason is not None:
            self.reasons[summary.reason] += 1
        self.to_upstream.add(summary.to_upstream)
        self.to_client.add(summary.to_client)

    def merge(self, other: TargetTally) -> None:
        """Add the sums of `other`."""
        self.reasons.update(other.reasons)
        self.to_upstream.add(other.to_upstream)
        self.to_client.add(other.to_client)


class RuleTally(TargetTally):
    """
    Sums over the sessions of one rule.

    :ivar targets: sums by target as written in the file, or `CHOSEN`.
    :ivar dial: seconds until an upstream was reached.
    :ivar first_byte: seconds from then until the upstream's first byte.
    :ivar duration: durations of sessions.
    :ivar dropped: datagrams that sessions dropped, by cause.
    :ivar retransmits: retransmitted segments, by side.
    """

    __slots__ = ("__weakref__", "dial", "dropped", "duration", "first_byte", "retransmits", "targets")

    def __init__(self) -> None:
        super().__init__()
        self.targets: dict[str, TargetTally] = {}
        self.dropped: Counter[str] = Counter()
        self.retransmits: Counter[str] = Counter()
        self.dial = Histogram(NETWORK_TIMES)
        self.first_byte = Histogram(NETWORK_TIMES)
        self.duration = Histogram(SESSION_TIMES)

    def __repr__(self) -> str:
        return f"<RuleTally {sum(self.reasons.values())} closed>"

    def known(self, *targets: str) -> None:
        """Count these targets by their names."""
        for target in targets:
            self.targets.setdefault(target, TargetTally())

    def closed(self, summary: SessionSummary, target: str = "") -> None:
        """Add a closed session; `target` is empty if it has reached none."""
        super().closed(summary)
        self.duration.add(summary.duration)
        if summary.dropped:
            self.dropped.update(dict(summary.dropped))
        if summary.tcp_info is not None:
            self.sent_again(summary.tcp_info)
        if summary.connect_time is not None:
            self.dial.add(summary.connect_time)
        if summary.first_byte is not None:
            self.first_byte.add(summary.first_byte)
        if target:
            self.target(target).closed(summary)

    def sent_again(self, told: tuple[bytes, bytes]) -> None:
        """Add the retransmits in the ``TCP_INFO`` of a session's two connections."""
        for side, data in zip(Side, told, strict=True):
            self.retransmits[side.value] += retransmits_of(data)

    def label(self, target: str) -> str:
        """Return the label under which sessions of `target` are counted."""
        return target if target in self.targets else CHOSEN

    def target(self, target: str) -> TargetTally:
        """Return the sums for `target`."""
        return self.targets.setdefault(self.label(target), TargetTally())


class Ledger:
    """The tallies of all rules by name, so the successor of a rule after a reload continues its counts."""

    def __init__(self) -> None:
        self._rules: WeakValueDictionary[str, RuleTally] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<Ledger of {len(self._rules)} rules>"

    def rule(self, name: str) -> RuleTally:
        """Return the tally of the rule `name`; it is kept while there is a reference to it."""
        tally = self._rules.get(name)
        if tally is None:
            tally = self._rules[name] = RuleTally()
        return tally
