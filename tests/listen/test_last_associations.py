"""Tests of `portfwd.listen.last_associations`."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.turn_clock import AT_ONCE
from portfwd.listen.last_associations import LAST_LOOK, LAST_SILENCE, LastAssociations
from portfwd.relay.associations import Associations
from portfwd.values import CloseReason


class LastAssociationsTests(SynchronousTestCase):
    """On a clock, with clients that say how long they are silent."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.table: Associations[Any] = Associations(1000)
        self.last = LastAssociations(self.table, self.clock)

    def client(self, silent_for: float) -> mock.Mock:
        """A client with an association."""
        one = mock.Mock()
        one.session.silent_for.return_value = silent_for
        one.end.side_effect = lambda reason: self.table.forget(one, one)
        self.table.add(one, one)
        return one

    def test_silent(self) -> None:
        """A silent association ends; one that is not silent stays, and is checked again."""
        silent, busy = self.client(LAST_SILENCE), self.client(0.0)
        self.last.begin()
        self.last.begin()
        self.clock.advance(LAST_LOOK)
        silent.end.assert_called_once_with(CloseReason.DRAIN)
        self.assertEqual((len(self.table), repr(self.last)), (1, "<LastAssociations 1 checked>"))
        busy.session.silent_for.return_value = LAST_SILENCE
        self.clock.advance(LAST_LOOK)
        self.assertEqual((len(self.table), repr(self.last)), (0, "<LastAssociations 0 idle>"))

    def test_many(self) -> None:
        """Many silent associations end in several turns, one after the other."""
        first, *_, last = [self.client(LAST_SILENCE) for _ in range(AT_ONCE + 1)]
        self.last.begin()
        self.clock.advance(LAST_LOOK)  # with the turns that follow without a delay
        self.assertEqual(len(self.table), 0)
        self.assertEqual((first.session.silent_for.call_count, last.session.silent_for.call_count), (1, 2))

    def test_cancelled(self) -> None:
        """After `cancel` no association ends, and nothing is left in the clock."""
        one = self.client(LAST_SILENCE)
        self.last.begin()
        self.last.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        one.end.assert_not_called()
