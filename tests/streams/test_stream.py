"""Tests of `portfwd.streams.stream`: what moved a session's bytes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.streams.stream import moved_by
from portfwd.values import FlowSummary


class MovedByTests(SynchronousTestCase):
    """The ``relay`` of the access log."""

    def test_most_of_the_bytes(self) -> None:
        """Streams that may splice have spliced if at least half of the bytes stayed in the kernel."""
        for up, down, relay in (
            (FlowSummary(100), FlowSummary(900, spliced=600), "splice"),
            (FlowSummary(500), FlowSummary(500, spliced=500), "splice"),
            (FlowSummary(600), FlowSummary(400, spliced=400), "copy"),
            (FlowSummary(5), FlowSummary(), "copy"),
        ):
            self.assertEqual(moved_by("splice", up, down), relay)

    def test_one_kind(self) -> None:
        """Other streams have one way to move bytes."""
        for kind in ("copy", "pair", "datagrams"):
            self.assertEqual(moved_by(kind, FlowSummary(1), FlowSummary()), kind)

    def test_nothing_moved(self) -> None:
        """A session without a byte has no relay."""
        self.assertEqual(moved_by("splice", FlowSummary(), FlowSummary()), "")
