# -*- test-case-name: tests.bench.test_peers -*-
"""
The filters of the contestants that have some: they change nothing, so that only being asked is measured.

Imported by the forwarder, by the names in its rules; it takes nothing else of the lab along.
"""

from __future__ import annotations

from portfwd.filters import DONE, Direction, Filter, Verdict


class SeesAll(Filter):
    """Is shown every byte of both directions, and passes it."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """Pass."""
        return None


class DoneAtOnce(Filter):
    """Is shown what comes first in each direction, and nothing after that."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """Pass, and be done."""
        return DONE
