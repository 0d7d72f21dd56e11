# -*- test-case-name: tests.bench.test_compared -*-
"""
Two checkouts beside each other: the ratio of every figure in interleaved rounds.

``python -m bench --beside CHECKOUT`` lets each contestant of this project take part twice, from this checkout
and from the other one. A ratio above 1 says that this checkout is better, whichever way the figure counts.
"""

from __future__ import annotations

from typing import Final

from bench.figures import FIGURES
from bench.report import shown, table
from bench.results import Results
from bench.rounds import Spread, ratio

#: Is added to the names of contestants from the other checkout.
SUFFIX: Final = "-beside"


def better(spread: Spread, higher_is_better: bool) -> Spread:
    """The ratio turned so that more is better."""
    if higher_is_better:
        return spread
    median, low, high = (1 / one if one else 0.0 for one in (spread.median, spread.high, spread.low))
    return Spread(median, low, high, spread.count)


def compared(results: Results) -> str:
    """A table in Markdown of all figures that both checkouts have."""
    lines = []
    for row in results.rows:
        peers = dict.fromkeys(one.peer for one in results.samples if one.row == row.name)
        for name in peers:
            if name + SUFFIX not in peers:
                continue
            for key, figure in FIGURES.items():
                if figure.higher_is_better is None:
                    continue
                found = ratio(results.samples, row.name, key, name, (name + SUFFIX,), figure.higher_is_better)
                if found is not None:
                    said = shown(better(found, figure.higher_is_better), 2)
                    lines.append((row.name, name, figure.title, said))
    return table(("row", "contestant", "figure", "this / other (more is better)"), lines)
