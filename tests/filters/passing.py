"""Filters that let everything pass, each in its own way; rules files of tests name them."""

from __future__ import annotations

from portfwd.filters import DONE, Direction, Filter, Verdict


class PassThrough(Filter):
    """Looks at every byte and lets it pass."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        return None


class DoneAtOnce(Filter):
    """Has seen enough with the first bytes."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        return DONE


class Blind(Filter):
    """Wants to see nothing at all."""

    directions = frozenset()
