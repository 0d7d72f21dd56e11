"""Rules that are leaving, on a clock."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.live import LiveRule
from portfwd.rules.model import OnRemove
from portfwd.service.run.retired_rules import RetiredRules
from portfwd.values import CloseReason
from tests.relay.fakes import FakeDial, FakeStream, SessionLines, a_live_rule, changed


class RetiredRulesTests(SynchronousTestCase):
    """Sessions that stay, drain, or are cut."""

    def setUp(self) -> None:
        """A rule whose dials wait, with one session."""
        self.clock = Clock()
        self.lines = SessionLines()
        self.patch(LiveRule, "dial", lambda rule, owner, **named: FakeDial(rule, owner, **named))
        self.rule = a_live_rule(self.clock, self.lines, changed(None))
        self.stream = FakeStream(self.clock)
        self.rule.accept(self.stream, lambda: None)
        # The session waits for its dial on the same clock: no longer than this test wants.
        self.retired_rules = RetiredRules(self.clock, 3.0)
        self.left: list[LiveRule] = []
        self.retired_rules.gone = self.left.append

    def test_stay(self) -> None:
        """The rule is there until its last session is over."""
        self.retired_rules.leave(self.rule, OnRemove.STAY)
        self.assertEqual((list(self.retired_rules), len(self.retired_rules)), ([self.rule], 1))
        self.assertEqual(repr(self.retired_rules), "<RetiredRules rules=1 deadlines=0>")
        self.assertEqual(self.lines.reasons, [])
        self.stream.resets()
        self.assertEqual((list(self.retired_rules), self.left), ([], [self.rule]))
        self.assertIsNone(self.rule.when_empty)

    def test_drain(self) -> None:
        """At the deadline the sessions that are left end with TD."""
        self.retired_rules.leave(self.rule, OnRemove.DRAIN)
        self.clock.advance(2.9)
        self.assertEqual(self.lines.reasons, [])
        self.clock.advance(0.2)
        self.assertEqual(self.lines.reasons, [CloseReason.DRAIN])
        self.assertEqual(self.left, [self.rule])

    def test_drained_in_time(self) -> None:
        """A deadline that is not needed any more is gone."""
        self.retired_rules.leave(self.rule, OnRemove.DRAIN)
        self.stream.resets()
        self.assertEqual(self.retired_rules.deadlines, {})
        self.assertEqual(self.lines.reasons, [CloseReason.CLIENT_GONE_EARLY])

    def test_cut(self) -> None:
        """Sessions end with KD at once."""
        self.retired_rules.leave(self.rule, OnRemove.CUT)
        self.assertEqual(self.lines.reasons, [CloseReason.KILLED])
        self.assertEqual((len(self.retired_rules), self.left), (0, [self.rule]))

    def test_without_sessions(self) -> None:
        """A rule that has none is gone at once, whether somebody wants to know or not."""
        self.stream.resets()
        self.retired_rules.leave(self.rule, OnRemove.STAY)
        self.assertEqual((len(self.retired_rules), self.left), (0, [self.rule]))
        self.retired_rules.gone = None
        self.retired_rules.leave(self.rule, OnRemove.STAY)

    def test_drain_at_work(self) -> None:
        """A rule that is not leaving may drain too; the first deadline counts, and it can be spared."""
        self.retired_rules.drain(self.rule, operator=True)
        self.clock.advance(2)
        self.retired_rules.drain(self.rule, operator=True)
        self.assertEqual(len(self.retired_rules), 0)
        self.retired_rules.spare(self.rule)
        self.retired_rules.spare(self.rule)
        self.clock.advance(2)
        self.assertEqual(self.lines.reasons, [])
        self.retired_rules.drain(self.rule, operator=True)
        self.stream.resets()
        self.assertEqual(self.retired_rules.deadlines, {})
        self.retired_rules.drain(self.rule, operator=True)
        self.assertEqual(self.retired_rules.deadlines, {})

    def test_removed_while_draining(self) -> None:
        """The deadline that it has stays."""
        self.retired_rules.drain(self.rule, operator=True)
        self.clock.advance(2)
        self.retired_rules.leave(self.rule, OnRemove.STAY)
        self.clock.advance(1)
        self.assertEqual(self.lines.reasons, [CloseReason.DRAIN])

    def test_stop(self) -> None:
        """A forwarder that stops has a deadline of its own."""
        self.retired_rules.leave(self.rule, OnRemove.DRAIN)
        self.retired_rules.stop()
        self.clock.advance(4)
        self.assertEqual(self.lines.reasons, [])

    def test_heir(self) -> None:
        """The rule that took the place knows the sessions that began before, until they are over."""
        heir = a_live_rule(self.clock, self.lines, changed(None))
        self.retired_rules.replace(self.rule, heir)
        last = a_live_rule(self.clock, self.lines, changed(None))
        self.assertEqual((list(heir.older), self.rule.heir), ([self.rule], heir))
        self.retired_rules.replace(heir, last)
        self.assertEqual((list(heir.older), list(last.older), self.rule.heir), ([], [self.rule], last))
        self.stream.resets()
        self.assertEqual((list(last.older), self.rule.heir), ([], None))

    def test_heir_removed(self) -> None:
        """When the rule that took the place is removed, the older one decides about its sessions again."""
        heir = a_live_rule(self.clock, self.lines, changed(None))
        self.retired_rules.replace(self.rule, heir)
        for _ in self.retired_rules.remove(heir):
            pass
        self.assertEqual((list(heir.older), self.rule.heir), ([], None))
        self.assertEqual(list(self.retired_rules), [self.rule])
