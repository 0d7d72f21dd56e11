"""Tests of one client of a control socket, as commands see it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

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

    def test_work(self) -> None:
        """What is asked for is done when it is the client's turn, and not at once."""
        seen: list[int] = []
        done = Deferred.fromCoroutine(self.caller.each(range(3), seen.append))
        turn = Deferred.fromCoroutine(self.caller.turn())
        self.assertEqual(seen, [])
        self.assertNoResult(turn)
        self.client.clock.advance(0)
        self.successResultOf(done)
        self.successResultOf(turn)
        self.assertEqual(seen, [0, 1, 2])

    def test_tell(self) -> None:
        """Events are sent only while the client reads."""
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
