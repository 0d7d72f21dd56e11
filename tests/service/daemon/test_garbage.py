"""Tests for `portfwd.service.daemon.garbage`, with this process's collector."""

from __future__ import annotations

import gc
import sys

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.daemon.garbage import (
    CHECK_INTERVAL,
    FEW_SESSIONS,
    GROWTH,
    MOST_SCANNED,
    QUIET,
    RULE_BLOCKS,
    SESSION_BLOCKS,
    FullRounds,
    collector_off,
    collector_unchanged,
)

MANY = FEW_SESSIONS + 1


class Knot:
    """An object with a reference to itself."""

    def __init__(self) -> None:
        self.knot = self


def age() -> None:
    """Let what is alive become old, as in a process that has been running."""
    gc.collect(1)


class CollectorCase(SynchronousTestCase):
    """What the tests change for the whole process is put back."""

    def setUp(self) -> None:
        """See the class."""
        self.threshold = gc.get_threshold()
        self.addCleanup(gc.set_threshold, *self.threshold)
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.enable)
        gc.collect()


class KeptTests(CollectorCase):
    """What is made while rules become listeners."""

    def test_frozen(self) -> None:
        """The collector is off meanwhile; what was made is frozen, and no short round sees it."""
        before = gc.get_freeze_count()
        with collector_off():
            self.assertFalse(gc.isenabled())
            made = [[] for _ in range(1000)]  # type: ignore[var-annotated]
        self.assertTrue(gc.isenabled())
        self.assertGreaterEqual(gc.get_freeze_count() - before, len(made))

    def test_few_rules(self) -> None:
        """A reload of few rules freezes nothing: cycles that are in use then would stay for ever."""
        for rules, frozen in ((MOST_SCANNED, False), (MOST_SCANNED + 1, True)):
            before = gc.get_freeze_count()
            with collector_off(lambda rules=rules: rules):  # type: ignore[misc]
                made = [[] for _ in range(1000)]  # type: ignore[var-annotated]
            self.assertEqual(gc.get_freeze_count() - before >= len(made), frozen)

    def test_after_an_error(self) -> None:
        """An exception passes, and the collector is on again."""
        with self.assertRaises(ZeroDivisionError), collector_off():
            raise ZeroDivisionError
        self.assertTrue(gc.isenabled())

    def test_off_before(self) -> None:
        """A collector that somebody else turned off stays off."""
        gc.disable()
        with collector_off():
            """Nothing to keep."""
        self.assertFalse(gc.isenabled())

    def test_as_usual(self) -> None:
        """Inside another program nothing is turned off or frozen."""
        before = gc.get_freeze_count()
        with collector_unchanged(lambda: 5000):
            self.assertTrue(gc.isenabled())
        self.assertEqual(gc.get_freeze_count(), before)


class FullRoundsTests(CollectorCase):
    """When there is a full round."""

    def setUp(self) -> None:
        """A daemon's service, and rules and sessions that it counts."""
        super().setUp()
        self.clock = Clock()
        self.rules, self.sessions = 1, MANY
        self.service = FullRounds(self.clock, lambda: self.rules, lambda: self.sessions)
        self.service.startService()
        self.addCleanup(self.stop)
        self.base = sys.getallocatedblocks()
        self.rounds = 0
        gc.callbacks.append(self.count)
        self.addCleanup(gc.callbacks.remove, self.count)

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.service.running:
            self.service.stopService()

    def count(self, phase: str, info: dict[str, int]) -> None:
        """Count full rounds."""
        if phase == "stop" and info["generation"] == 2:
            self.rounds += 1

    def garbage_of(self, blocks: float) -> None:
        """Make cycles of at least so many blocks, that are old when they become garbage."""
        end = sys.getallocatedblocks() + blocks
        knots = []
        while sys.getallocatedblocks() < end:
            knots += [Knot() for _ in range(1000)]
        age()

    def test_none_of_pythons(self) -> None:
        """Objects that stay cause no full round, however many there are."""
        stay = [[] for _ in range(400_000)]  # type: ignore[var-annotated]
        self.assertEqual(self.rounds, 0)
        self.assertEqual(len(stay), 400_000)

    def test_nothing_to_find(self) -> None:
        """Nor do rules and sessions, for as long as they have what they may."""
        self.sessions = 2000
        stay = [[] for _ in range(int(0.9 * SESSION_BLOCKS * self.sessions))]  # type: ignore[var-annotated]
        self.clock.pump([CHECK_INTERVAL] * 100)
        self.assertEqual(self.rounds, 0)
        self.rules = 1000
        stay += [[] for _ in range(int(0.9 * RULE_BLOCKS * self.rules))]
        self.clock.pump([CHECK_INTERVAL] * 100)
        self.assertEqual(self.rounds, 0)

    def test_bounded(self) -> None:
        """A filter may make a cycle for each session, for ever: memory stays within the bound."""
        self.sessions = 100
        bound = self.base * GROWTH + SESSION_BLOCKS * self.sessions + RULE_BLOCKS
        for _ in range(50):
            self.garbage_of(self.base * 0.05)
            self.clock.advance(CHECK_INTERVAL)
            self.assertLess(sys.getallocatedblocks(), bound)
        self.assertGreater(self.rounds, 2)

    def test_frozen_garbage(self) -> None:
        """Cycles that were alive when a reload froze them are found when they are too many."""
        with collector_off():
            self.garbage_of(self.base * (GROWTH - 1) + (SESSION_BLOCKS + RULE_BLOCKS) * MANY)
        self.clock.advance(CHECK_INTERVAL)
        self.assertLess(sys.getallocatedblocks(), self.base * 1.1)
        self.assertGreater(gc.get_freeze_count(), 0)

    def test_growth_in_use(self) -> None:
        """What grows and is in use costs a round for each quarter, not one for each look."""
        self.sessions = 0
        stay = [[] for _ in range(int(self.base * (GROWTH - 0.9)) + RULE_BLOCKS)]  # type: ignore[var-annotated]
        self.clock.pump([CHECK_INTERVAL] * 10)
        self.assertEqual(self.service.rounds, 1)
        self.assertTrue(stay)

    def test_few_sessions(self) -> None:
        """With few sessions there is a round a minute, so that no cycle holds a descriptor for long."""
        self.sessions = FEW_SESSIONS
        self.garbage_of(1)
        self.clock.pump([CHECK_INTERVAL] * int(QUIET / CHECK_INTERVAL - 1))
        self.assertEqual(self.rounds, 0)
        self.clock.advance(CHECK_INTERVAL)
        self.assertEqual(self.rounds, 1)

    def test_while_rules_are_made(self) -> None:
        """There is none while a reload makes rules."""
        self.sessions = 0
        gc.disable()
        self.garbage_of(self.base)
        self.clock.advance(QUIET)
        self.assertEqual(self.rounds, 0)
        gc.enable()
        self.clock.advance(CHECK_INTERVAL)
        self.assertGreater(self.rounds, 0)

    def test_stop(self) -> None:
        """A daemon that stops leaves the collector as it was."""
        self.service.stopService()
        self.assertEqual(gc.get_threshold(), self.threshold)
        self.assertEqual(self.clock.getDelayedCalls(), [])
