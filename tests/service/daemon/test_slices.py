"""Long work between events, on a clock that the work moves on."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.steps import Steps
from portfwd.service.daemon.slices import SLICE, Slices


class SlicesTests(SynchronousTestCase):
    """Steps that take time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.now = 0.0
        self.done: list[int] = []
        self.closed = False

    def work(self, steps: int, each: float = SLICE / 4, error: BaseException | None = None) -> Slices[str]:
        """So many steps of so many seconds."""

        def run() -> Steps[str]:
            try:
                for number in range(steps):
                    self.now += each
                    self.done.append(number)
                    yield
                if error is not None:
                    raise error
                return "result"
            finally:
                self.closed = True

        return Slices(self.clock, run(), lambda: self.now)

    def test_slices(self) -> None:
        """As many steps as fit into a slice are done at once, the next ones after other events."""
        work = self.work(10)
        done = work.start()
        self.assertEqual(len(self.done), 4)
        self.assertNoResult(done)
        self.clock.advance(0)  # which goes on until nothing is left to do
        self.assertEqual(self.successResultOf(done), "result")
        self.assertEqual(len(self.done), 10)
        self.assertAlmostEqual(work.longest, SLICE)

    def test_short(self) -> None:
        """What fits into one slice is done at once."""
        self.assertEqual(self.successResultOf(self.work(2).start()), "result")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_error(self) -> None:
        """What the steps raise, the caller gets, in whichever slice it comes, and whatever it is."""
        for steps in (1, 9):
            for error in (KeyError("x"), SystemExit()):
                done = self.work(steps, error=error).start()
                self.clock.pump([0, 0, 0])
                self.failureResultOf(done, type(error))

    def test_give_up(self) -> None:
        """It stops between two steps, the generator is closed, and nothing is left to do."""
        work = self.work(100)
        done = work.start()
        work.give_up()
        self.failureResultOf(done, CancelledError)
        self.assertTrue(self.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        work.give_up()

    def test_finish(self) -> None:
        """The rest is done at once, errors too."""
        work = self.work(100)
        done = work.start()
        work.finish()
        self.assertEqual((self.successResultOf(done), len(self.done)), ("result", 100))
        work.finish()
        work = self.work(100, error=KeyError("x"))
        done = work.start()
        work.finish()
        self.failureResultOf(done, KeyError)
