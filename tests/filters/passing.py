"""Filters that let everything pass, each in its own way; rules files of tests name them."""

from __future__ import annotations

from portfwd.filters import DONE, Close, Direction, Filter, Verdict


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


class Closer(Filter):
    """Says much before the upstream's end, and ends the session in order when the client speaks."""

    #: More than the sockets take.
    MUCH = bytes(2_000_000)

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        return Close("the client spoke") if direction is Direction.TO_UPSTREAM else None

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        return self.MUCH if direction is Direction.TO_CLIENT else None
