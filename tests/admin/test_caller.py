"""Tests of one client of a control socket, as commands see it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.caller import SLICE
from portfwd.admin.operator import OperatorError
from portfwd.rules.admin_lines import Level
from tests.admin.fakes import Client, FakeOperator


class CallerTests(SynchronousTestCase):
    """Levels, slices, events and pauses."""

    def setUp(self) -> None:
        self.client = Client(FakeOperator())
        self.caller = self.client.caller

    def test_level(self) -> None:
        """Operators may steer, which is noted; who may only look is refused, and nothing is noted."""
        self.caller.require_operator()
        self.assertEqual(self.client.steered, 1)
        reader = Client(FakeOperator(), Level.READ)
        error = self.assertRaises(OperatorError, reader.caller.require_operator)
        self.assertEqual((error.code, reader.steered), ("forbidden", 0))
        self.assertEqual(repr(reader.caller), "<Caller read>")

    def test_slices(self) -> None:
        """Long work stops when its slice is over, and goes on in the next turn."""
        seen: list[int] = []
        clock = self.client.clock

        def visit(number: int) -> None:
            seen.append(number)
            clock.rightNow += SLICE / 2

        turns: list[int] = []
        call_later = clock.callLater

        def turn(*arguments: Any) -> Any:
            turns.append(len(seen))
            return call_later(*arguments)

        self.patch(clock, "callLater", turn)
        done = Deferred.fromCoroutine(self.caller.each(range(5), visit))
        clock.advance(0)
        self.successResultOf(done)
        self.assertEqual(seen, [0, 1, 2, 3, 4])
        self.assertEqual(turns, [0, 2, 4])

    def test_tell(self) -> None:
        """Events are sent to who reads, and to nobody else."""
        self.assertTrue(self.caller.tell({"a": 1}))
        self.client.listening = False
        self.assertFalse(self.caller.tell({"a": 2}))
        self.assertEqual(self.client.events, [{"a": 1}])

    def test_pause(self) -> None:
        """A pause takes its time, and ends with 'go on'."""
        pause = self.caller.pause(2.0)
        self.client.clock.advance(1.9)
        self.assertNoResult(pause)
        self.client.clock.advance(0.2)
        self.assertFalse(self.successResultOf(pause))

    def test_interrupt(self) -> None:
        """An interruption ends a pause at once, and the next ones, until another request begins."""
        pause = self.caller.pause(2.0)
        self.caller.interrupt()
        self.assertTrue(self.successResultOf(pause))
        pause = self.caller.pause(2.0)
        self.client.clock.advance(0)
        self.assertTrue(self.successResultOf(pause))
        self.caller.begin()
        self.caller.pause(2.0).addErrback(lambda _: None)
        self.assertEqual(len(self.client.clock.getDelayedCalls()), 1)

    def test_cancel(self) -> None:
        """A pause that is cancelled leaves no timer behind."""
        pause = self.caller.pause(2.0)
        pause.cancel()
        self.failureResultOf(pause)
        self.assertEqual(self.client.clock.getDelayedCalls(), [])
        self.caller.interrupt()
