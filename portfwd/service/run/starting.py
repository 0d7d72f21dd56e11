# -*- test-case-name: tests.service.run.test_forwarder -*-
"""The start of listeners, with one line for each failure."""

from __future__ import annotations

from collections.abc import Sequence

from portfwd.limits.descriptors import PER_SESSION, RESERVE, DescriptorBudget, Share
from portfwd.service.build.bind_failures import address_label, cannot_listen
from portfwd.service.build.bound import Bound
from portfwd.values import counted


def start_listeners(bound: Sequence[Bound]) -> list[str]:
    """Start all listeners."""
    failures = []
    for one in bound:
        for listener in one.listeners:
            try:
                listener.start()
            except OSError as problem:
                spec = one.live.rule.listen
                label = address_label(spec, listener.address)
                failures.append(cannot_listen(one.live.name, label, problem, spec.where))
    return failures


def too_few_descriptors(budget: DescriptorBudget) -> list[str]:
    """Whether there are too few descriptors for a single session."""
    if Share("", budget).has_room(PER_SESSION):
        return []
    return [
        f"{counted(budget.limit, 'descriptor')} are too few: {budget.spent} are open before any"
        f" client comes, and {RESERVE} are kept free; raise 'ulimit -n'"
    ]
