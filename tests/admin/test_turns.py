"""Tests of who works when."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.turns import SLICE, Turns
from tests.admin.fakes import one_turn


class TurnTests(SynchronousTestCase):
    """Work of several clients, in slices that they share."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.seen: list[str] = []

    def visitor(self, name: str) -> Callable[[int], None]:
        """A client whose steps each take half a slice."""

        def visit(number: int) -> None:
            self.seen.append(f"{name}{number}")
            self.clock.rightNow += SLICE / 2

        return visit

    def test_slices(self) -> None:
        """Work stops when the slice is over, and goes on in the next turn."""
        done = Deferred.fromCoroutine(self.turns.each(range(5), self.visitor("a")))
        for count in (0, 2, 4):
            self.assertEqual(len(self.seen), count)
            one_turn(self.clock)
        self.successResultOf(done)
        self.assertEqual(self.seen, ["a0", "a1", "a2", "a3", "a4"])

    def test_shared(self) -> None:
        """Several who work have no more time together than one, and none waits until another has done all."""
        for name in "abc":
            Deferred.fromCoroutine(self.turns.each(range(2), self.visitor(name)))
        begun = self.clock.seconds()
        one_turn(self.clock)
        self.assertEqual(self.clock.seconds() - begun, SLICE)
        self.assertEqual({one[0] for one in self.seen}, {"a", "b"})

    def test_take(self) -> None:
        """A turn comes, but never at once."""
        turn = Deferred.fromCoroutine(self.turns.take())
        self.assertNoResult(turn)
        self.clock.advance(0)
        self.successResultOf(turn)
        self.assertEqual(repr(self.turns), "<Turns>")

    def test_leave(self) -> None:
        """A cancelled client does not block the turns of others."""
        turn = Deferred.fromCoroutine(self.turns.take())
        other = Deferred.fromCoroutine(self.turns.take())
        turn.cancel()
        self.failureResultOf(turn)
        self.clock.advance(0)
        self.successResultOf(other)
