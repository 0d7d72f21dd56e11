"""Tests of `portfwd.admin.web.step_queue`."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.web.step_queue import STEPS_PER_TURN, StepQueue
from tests.admin.fakes import TURN, Turning


class Worker:
    """Counts its steps."""

    def __init__(self, then: Callable[[Worker], None] = lambda worker: None) -> None:
        self.steps = 0
        self.then = then

    def step(self) -> None:
        self.steps += 1
        self.then(self)


class StepQueueTests(SynchronousTestCase):
    """Steps in turns."""

    def setUp(self) -> None:
        self.clock = Turning()
        self.queue = StepQueue(self.clock)

    def test_turns(self) -> None:
        """The first steps are done at once, later ones a few per turn, each worker after the others."""
        workers = [Worker(self.queue.add) for _ in range(4)]
        for worker in workers:
            self.queue.add(worker)
        for turn in range(1, 9):
            self.assertEqual(sum(worker.steps for worker in workers), turn * STEPS_PER_TURN)
            self.clock.advance(TURN)
        self.assertEqual({worker.steps for worker in workers[1:]}, {2})
        self.assertEqual(repr(self.queue), "<StepQueue 4 waiting>")

    def test_once(self) -> None:
        """A worker waits for one step only, and none after it was discarded."""
        first, second = Worker(), Worker()
        for _ in range(STEPS_PER_TURN):
            self.queue.add(Worker())
        for worker in (first, first, second):
            self.queue.add(worker)
        self.assertIn(second, self.queue)
        self.queue.discard(second)
        self.queue.discard(second)
        for _ in range(4):
            self.clock.advance(TURN)
        self.assertEqual((first.steps, second.steps), (1, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])
