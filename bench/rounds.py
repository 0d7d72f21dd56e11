# -*- test-case-name: tests.bench.test_rounds -*-
"""
Interleaving and what may be concluded from it: medians of ratios, and spreads.

Machines drift from minute to minute, so contestants take turns (A B C A B C …)
and are compared within a round; the figure is the median over the rounds. Only
arithmetic: nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from attrs import field, frozen


@frozen
class Sample:
    """
    What one contestant did in one round of one row.

    :ivar row: name of the row.
    :ivar peer: name of the contestant.
    :ivar round: counts from 0.
    :ivar figures: numbers by the names of `bench.figures.FIGURES`; empty after a failure.
    :ivar failed: why there is no figure, or empty.
    """

    row: str
    peer: str
    round: int
    figures: Mapping[str, float] = field(factory=dict)
    failed: str = ""


@frozen
class Spread:
    """Median, least and greatest of `count` numbers."""

    median: float
    low: float
    high: float
    count: int


def interleaved(peers: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """
    Who runs when: every contestant once in each round.

    The starting place moves on by one a round, so that nobody always follows the same neighbour's warm
    caches or is always the first after a pause.
    """
    for number in range(rounds):
        start = number % len(peers) if peers else 0
        for peer in (*peers[start:], *peers[:start]):
            yield number, peer


def spread(numbers: Sequence[float]) -> Spread | None:
    """Median and range of `numbers`; None when there are none."""
    if not numbers:
        return None
    return Spread(median(numbers), min(numbers), max(numbers), len(numbers))


def of_figure(samples: Sequence[Sample], row: str, peer: str, figure: str) -> Spread | None:
    """Median and range of one figure of one contestant in one row; None if it never had it."""
    return spread(
        [s.figures[figure] for s in samples if s.row == row and s.peer == peer and figure in s.figures]
    )


def ratio(
    samples: Sequence[Sample],
    row: str,
    figure: str,
    subject: str,
    others: Sequence[str],
    higher_is_better: bool,
) -> Spread | None:
    """
    Median and range over the rounds of `subject` divided by the best of `others`.

    Both sides of a division come from the same round. A round in which either is missing does not count,
    nor does one in which the peer's figure is 0, for which no ratio exists.

    :param others: names; the best of those present in the round is taken.
    :param higher_is_better: what "best" means.
    :returns: None when no round has both.
    """
    best = max if higher_is_better else min
    by_round: dict[int, dict[str, float]] = {}
    for sample in samples:
        if sample.row == row and figure in sample.figures:
            by_round.setdefault(sample.round, {})[sample.peer] = sample.figures[figure]
    ratios = []
    for values in by_round.values():
        rivals = [values[name] for name in others if name in values]
        if subject in values and rivals and best(rivals) > 0:
            ratios.append(values[subject] / best(rivals))
    return spread(ratios)
