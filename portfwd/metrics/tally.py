# -*- test-case-name: tests.metrics.test_tally -*-
"""
What the closed sessions of a rule did, added up: integers, at the end of each session.

What open sessions did so far is read from them when somebody asks; nothing is counted while bytes
move. Where nobody asks for metrics there is no `Ledger`, and nothing is counted at all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final
from weakref import WeakValueDictionary

from portfwd.values import CloseReason, FlowSummary, SessionSummary, Side
from portfwd.wire.tcp_info import retransmits_of

#: Upper bounds in seconds of the times that a network takes: from one machine's next to the dial limit.
NETWORK_TIMES: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0,
)  # fmt: skip
#: The same of the lives of sessions: from one answer to days.
SESSION_TIMES: Final = (0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0, 172800.0)

#: The label of targets that a filter chose by their address: there may be any number of them.
CHOSEN: Final = "(chosen)"


class Histogram:
    """
    How many times were how long.

    :ivar bounds: upper bounds of the buckets, each included, in seconds.
    :ivar counts: times in each bucket and no lower one; the last is of those beyond all bounds.
    :ivar total: the sum of all, in seconds.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def __repr__(self) -> str:
        return f"<Histogram {sum(self.counts)} times, {self.total:g} s>"

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def merge(self, other: Histogram) -> None:
        """Everything that `other`, which has the same bounds, has as well."""
        for index, count in enumerate(other.counts):
            self.counts[index] += count
        self.total += other.total


class FlowTally:
    """What flows of one direction did; the fields are `FlowSummary`'s."""

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
        """One more flow, or several."""
        self.bytes += flow.bytes
        self.reads += flow.reads
        self.writes += flow.writes
        self.spliced += flow.spliced
        self.paused += flow.paused


class TargetTally:
    """
    One target's sessions.

    :ivar reasons: how many were closed for each reason.
    """

    __slots__ = ("reasons", "to_client", "to_upstream")

    def __init__(self) -> None:
        self.reasons: Counter[CloseReason] = Counter()
        self.to_upstream = FlowTally()
        self.to_client = FlowTally()

    def closed(self, summary: SessionSummary) -> None:
        """A session is over."""
        if summary.reason is not None:
            self.reasons[summary.reason] += 1
        self.to_upstream.add(summary.to_upstream)
        self.to_client.add(summary.to_client)

    def merge(self, other: TargetTally) -> None:
        """Everything that `other` has as well."""
        self.reasons.update(other.reasons)
        self.to_upstream.add(other.to_upstream)
        self.to_client.add(other.to_client)


class RuleTally(TargetTally):
    """
    One rule's sessions.

    :ivar targets: by target as the file writes it, or `CHOSEN`.
    :ivar dial: how long it took to reach an upstream.
    :ivar first_byte: how long an upstream took to say something.
    :ivar duration: how long sessions lasted.
    :ivar dropped: datagrams that sessions dropped, by cause.
    :ivar retransmits: segments that were sent again, by side.
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
        """These are targets of the rule, and counted by their names from here on."""
        for target in targets:
            self.targets.setdefault(target, TargetTally())

    def closed(self, summary: SessionSummary, target: str = "") -> None:
        """A session is over, which had reached `target`; empty for none."""
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
        """Count what the kernel told of a session's two connections."""
        for side, data in zip(Side, told, strict=True):
            self.retransmits[side.value] += retransmits_of(data)

    def label(self, target: str) -> str:
        """What the sessions of `target` are counted under."""
        return target if target in self.targets else CHOSEN

    def target(self, target: str) -> TargetTally:
        """Where the sessions of `target` are counted."""
        return self.targets.setdefault(self.label(target), TargetTally())


class Ledger:
    """The tallies of all rules, by name: a rule that a reload replaces goes on where the old one was."""

    def __init__(self) -> None:
        self._rules: WeakValueDictionary[str, RuleTally] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<Ledger of {len(self._rules)} rules>"

    def rule(self, name: str) -> RuleTally:
        """The tally of the rule `name`; kept as long as somebody has it."""
        tally = self._rules.get(name)
        if tally is None:
            tally = self._rules[name] = RuleTally()
        return tally
