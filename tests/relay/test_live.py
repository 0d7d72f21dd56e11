"""A rule at work: its sessions, their numbers, its limit."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.turn_clock import AT_ONCE
from portfwd.relay.live import LiveRule
from portfwd.values import CloseReason
from tests.kernel.turning import TurningClock
from tests.relay.fakes import UPSTREAM, FakeDial, FakeStream, SessionLines, a_live_rule, changed


class LiveRuleTests(SynchronousTestCase):
    """Sessions come and go."""

    def setUp(self) -> None:
        """A rule whose dials wait."""
        self.clock = Clock()
        self.lines = SessionLines()
        self.patch(LiveRule, "dial", lambda rule, owner, **named: FakeDial(rule, owner, **named))
        self.rule = a_live_rule(self.clock, self.lines, changed(None, max_conns=2))

    def accept(self) -> FakeStream:
        """One more client."""
        stream = FakeStream(self.clock)
        self.rule.accept(stream, lambda: None)
        return stream

    def test_numbers(self) -> None:
        """Sessions count from 1 and are known while they live."""
        first = self.accept()
        self.accept()
        self.assertEqual(list(self.rule.sessions), [1, 2])
        first.resets()
        self.assertEqual(list(self.rule.sessions), [2])
        self.assertEqual(self.rule.counts.total, 2)

    def test_full(self) -> None:
        """The limit counts those that were let in and have not left."""
        first, second, third = self.accept(), self.accept(), self.accept()
        self.assertEqual([one.reading for one in (first, second, third)], [False, False, True])
        third.ends()
        self.assertEqual(self.lines.reasons, [CloseReason.LIMIT])
        first.resets()
        fourth, fifth = self.accept(), self.accept()
        fifth.ends()
        self.assertEqual(
            self.lines.reasons, [CloseReason.LIMIT, CloseReason.CLIENT_GONE_EARLY, CloseReason.LIMIT]
        )
        second.resets()
        fourth.resets()
        self.assertEqual(repr(self.rule.limits), "<Admission web 0 in>")

    def test_no_limit(self) -> None:
        """Without limits nothing judges anybody."""
        self.rule = a_live_rule(self.clock, self.lines)
        self.assertIs(self.rule.limits, None)
        for _ in range(50):
            self.accept()
        self.assertEqual(self.lines.closed_lines, [])

    def test_when_empty(self) -> None:
        """Who waits for the last session is called once it has closed, and not before."""
        calls: list[int] = []
        first, second = self.accept(), self.accept()
        self.rule.when_empty = lambda: calls.append(len(self.rule.sessions))
        first.resets()
        self.assertEqual(calls, [])
        second.resets()
        self.assertEqual(calls, [0])

    def test_cut_in_turns(self) -> None:
        """Thousands of sessions that are cut do not keep others waiting: some end at once, then the next."""
        self.rule = a_live_rule(self.clock, self.lines)
        for _ in range(2 * AT_ONCE + 1):
            self.accept()
        self.rule.cut_in_turns(CloseReason.DRAIN)
        self.assertEqual(self.lines.reasons, [CloseReason.DRAIN] * AT_ONCE)
        self.clock.advance(0)
        self.assertEqual(self.lines.reasons, [CloseReason.DRAIN] * (2 * AT_ONCE + 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silent_together(self) -> None:
        """Sessions that become silent together end some in a turn of the reactor."""
        clock = TurningClock()
        self.rule = a_live_rule(clock, self.lines, changed(None, idle=10.0))
        for _ in range(2 * AT_ONCE):
            session = self.rule.accept(FakeStream(clock), lambda: None)
            session.dialled(FakeStream(clock, UPSTREAM), self.rule.destinations[0])
        for _ in range(10):  # the looks at send queues
            clock.turn()
        clock.rightNow += 10
        ended = []
        while clock.calls:
            before = len(self.lines.reasons)
            clock.turn(clock.calls[0].getTime() - clock.rightNow)
            ended.append(len(self.lines.reasons) - before)
        self.assertEqual((sum(ended), max(ended)), (2 * AT_ONCE, AT_ONCE))

    def test_close_all(self) -> None:
        """Every session is reset with the reason given, also when closing one lets others go."""
        streams = [self.accept(), self.accept()]
        self.rule.close_all(CloseReason.DRAIN)
        self.assertTrue(all(stream.is_lost for stream in streams))
        self.assertEqual(self.lines.reasons, [CloseReason.DRAIN] * 2)
        self.assertEqual(self.rule.sessions, {})

    def test_written(self) -> None:
        """Without addresses of its own a live rule has those of the file."""
        self.assertEqual(self.rule.written, self.rule.rule.written)

    def test_repr(self) -> None:
        """One line with the counts."""
        self.accept()
        self.assertEqual(repr(self.rule), "<LiveRule web sessions=1 total=1>")

    def test_streams(self) -> None:
        """Its own maker of streams is used, or the context's."""
        marker: Any = object()
        self.assertIs(self.rule.streams, self.rule.context.streams)
        from portfwd.relay.live import LiveRule

        rule = self.rule
        other = LiveRule(
            rule.rule, "other", rule.destinations, rule.access, rule.context, self.lines, lambda: 0.0,
            streams=marker,
        )  # fmt: skip
        self.assertIs(other.streams, marker)
