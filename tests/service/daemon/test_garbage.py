"""Tests for `portfwd.service.daemon.garbage`, with this process's collector."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.usage import lowest_free_descriptor, resident_bytes
from portfwd.service.daemon.garbage import (
    CHECK_INTERVAL,
    FEW_SESSIONS,
    GROWTH,
    MOST_SCANNED,
    QUIET,
    RULE_BLOCKS,
    SESSION_BLOCKS,
    SHARE,
    FullRounds,
    Use,
    collector_off,
    collector_unchanged,
    uses_of_process,
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
        self.service = self.full_rounds(lambda: uses_of_process()[:1])
        self.service.startService()
        self.addCleanup(self.stop)
        self.base = sys.getallocatedblocks()
        self.rounds = 0
        gc.callbacks.append(self.count)
        self.addCleanup(gc.callbacks.remove, self.count)

    def full_rounds(self, uses: Callable[[], tuple[Use, ...]]) -> FullRounds:
        """A service whose collections take no time."""
        return FullRounds(
            self.clock, lambda: self.rules, lambda: self.sessions, uses=uses, seconds=lambda: 0.0
        )

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

    def test_share(self) -> None:
        """The longer a collection takes, the later the next one follows."""
        self.stop()
        now = [0.0]

        def seconds() -> float:
            now[0] += 0.5
            return now[0]

        numbers = iter(range(1_000_000, 10**9, 1_000_000))
        growing = Use(lambda: next(numbers), 0, 0)
        service = FullRounds(self.clock, lambda: 0, lambda: MANY, uses=lambda: (growing,), seconds=seconds)
        service.startService()
        self.addCleanup(service.stopService)
        self.clock.pump([CHECK_INTERVAL] * int(0.5 / SHARE + 1))
        self.assertEqual(service.rounds, 1)
        self.clock.advance(CHECK_INTERVAL)
        self.assertEqual(service.rounds, 2)


class BigKnot(Knot):
    """A cycle of few small objects that keeps a buffer and an open file."""

    SIZE = 1 << 20

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytes(self.SIZE)
        self.descriptor = os.dup(2)

    def __del__(self) -> None:
        """Close it, as a file does."""
        os.close(self.descriptor)


class UsesTests(CollectorCase):
    """What cycles may keep besides small objects."""

    def setUp(self) -> None:
        """A service with a session more than the few, whose collections take no time."""
        super().setUp()
        self.clock = Clock()

    def start(self, number: int, per_session: int) -> FullRounds:
        """A service that checks one of the numbers."""
        use = uses_of_process()[number]
        use.per_session = per_session
        service = FullRounds(self.clock, lambda: 1, lambda: MANY, uses=lambda: (use,), seconds=lambda: 0.0)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def end_sessions(self, count: int) -> None:
        """Sessions whose filter leaves a cycle each, old when they end."""
        knots = [BigKnot() for _ in range(count)]
        age()
        knots.clear()
        self.clock.advance(CHECK_INTERVAL)

    def test_bytes(self) -> None:
        """Large buffers in cycles are bounded by bytes, not by blocks."""
        self.start(1, 1024)
        before = resident_bytes()
        for _ in range(20):
            self.end_sessions(30)
        self.assertLess(resident_bytes() - before, before * (GROWTH - 1) + 100 * BigKnot.SIZE)

    def test_counted_when_needed(self) -> None:
        """Rules and sessions are counted only after growth: there may be ten thousand of each."""
        asked: list[str] = []
        number = [100]
        use = Use(lambda: number[0], 1, 1)
        use.start()

        def count(what: str) -> int:
            asked.append(what)
            return 0

        self.assertFalse(use.is_excessive(lambda: count("rules"), lambda: count("sessions")))
        self.assertEqual(asked, [])
        number[0] = 200
        self.assertTrue(use.is_excessive(lambda: count("rules"), lambda: count("sessions")))
        self.assertEqual(asked, ["rules", "sessions"])

    def test_not_told(self) -> None:
        """Where the system does not tell a number, Python's own full collections stay on."""
        service = FullRounds(self.clock, lambda: 1, lambda: MANY, uses=lambda: (Use(lambda: 0, 1, 1),))
        service.startService()
        self.addCleanup(service.stopService)
        self.assertEqual(gc.get_threshold(), self.threshold)

    def test_descriptors(self) -> None:
        """So are descriptors."""
        service = self.start(2, 1)
        before = lowest_free_descriptor()
        for _ in range(20):
            self.end_sessions(30)
        self.assertLess(lowest_free_descriptor(), before * GROWTH + MANY + 70)
        self.assertGreater(service.rounds, 2)
