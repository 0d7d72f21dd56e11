"""The pool of pipes: bounded, clean, and small again when nobody splices."""

from __future__ import annotations

import os

from twisted.internet.task import Clock
from twisted.trial import unittest

from portfwd.kernel.pipes import (
    FRUGAL,
    MAX_IDLE,
    PIPE_DESCRIPTORS,
    SMALLEST,
    TRIM_INTERVAL,
    PipePool,
    pipe_allowance,
)
from portfwd.limits.descriptors import DescriptorBudget

SIZE = 256 * 1024


def open_descriptors() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/fd"))


class PoolTests(unittest.SynchronousTestCase):
    """A pool with a clock and a budget of its own."""

    def setUp(self) -> None:
        """Room for eight pipes."""
        self.clock = Clock()
        self.budget = DescriptorBudget(0, 0)
        self.pool = PipePool(8 * SIZE, self.budget, self.clock)
        self.addCleanup(self.pool.close)

    def test_a_pipe_has_the_size_that_it_says(self) -> None:
        """The size is read back; so many bytes fit."""
        pipe = self.pool.borrow(SIZE)
        assert pipe is not None
        self.assertEqual(pipe.size, SIZE)
        self.assertEqual(os.write(pipe.writer, bytes(SIZE)), SIZE)
        self.assertRaises(BlockingIOError, os.write, pipe.writer, b"x")
        self.assertIn(str(SIZE), repr(pipe))
        self.pool.discard(pipe)

    def test_an_empty_pipe_is_lent_again(self) -> None:
        """What is given back is the next one's."""
        pipe = self.pool.borrow(SIZE)
        assert pipe is not None
        self.pool.give_back(pipe)
        self.assertIs(self.pool.borrow(SIZE), pipe)
        self.assertEqual(self.pool.lent, 1)
        self.pool.discard(pipe)

    def test_a_dirty_pipe_is_never_lent_again(self) -> None:
        """A pipe with bytes in it is closed, and the next borrower gets another, empty one."""
        pipe = self.pool.borrow(SIZE)
        assert pipe is not None
        os.write(pipe.writer, b"somebody's")
        self.pool.discard(pipe)
        self.assertRaises(OSError, os.fstat, pipe.reader)
        self.assertEqual((self.pool.lent, self.pool.total_bytes, self.budget.spent), (0, 0, 0))
        fresh = self.pool.borrow(SIZE)
        assert fresh is not None
        self.assertRaises(BlockingIOError, os.read, fresh.reader, 1)
        self.pool.discard(fresh)

    def test_the_allowance_holds(self) -> None:
        """There is no ninth pipe where eight are allowed; it is counted, and comes when one is back."""
        pipes = [self.pool.borrow(SIZE) for _ in range(8)]
        self.assertNotIn(None, pipes)
        self.assertIsNone(self.pool.borrow(SIZE))
        self.assertEqual(self.pool.refused, 1)
        for pipe in pipes:
            assert pipe is not None
            self.pool.discard(pipe)
        pipe = self.pool.borrow(SIZE)
        assert pipe is not None
        self.pool.discard(pipe)

    def test_frugal_when_many_are_lent(self) -> None:
        """Large pipes are lent from the first half of the allowance, smaller ones from the rest."""
        large = 4 * FRUGAL
        pool = PipePool(4 * large, self.budget, self.clock)
        self.addCleanup(pool.close)
        pipes = [pool.borrow(large) for _ in range(11)]
        sizes = [pipe.size if pipe is not None else 0 for pipe in pipes]
        self.assertEqual(sizes, [large] * 2 + [FRUGAL] * 8 + [0])
        for pipe in pipes:
            if pipe is not None:
                pool.give_back(pipe)
        again = pool.borrow(large)
        assert again is not None
        self.assertEqual(again.size, large)
        pool.discard(again)

    def test_descriptors_are_budgeted(self) -> None:
        """A pipe costs two descriptors; without them there is none, and nothing is spent."""
        pipe = self.pool.borrow(SIZE)
        assert pipe is not None
        self.assertEqual(self.budget.spent, PIPE_DESCRIPTORS)
        self.pool.discard(pipe)
        self.budget.limit = 1
        self.assertIsNone(self.pool.borrow(SIZE))
        self.assertEqual(self.budget.spent, 0)

    def test_no_descriptor_in_the_kernel(self) -> None:
        """``EMFILE`` from the kernel means no pipe, and the budget gets its two back."""

        def no_pipe(flags: int) -> tuple[int, int]:
            raise OSError(24, "Too many open files")

        self.patch(os, "pipe2", no_pipe)
        self.assertIsNone(self.pool.borrow(SIZE))
        self.assertEqual((self.budget.spent, self.pool.lent), (0, 0))

    def test_a_pipe_that_stays_small_is_not_good(self) -> None:
        """Where the kernel gives a user no larger pipes any more (``EPERM``), flows copy."""
        before = open_descriptors()
        with open("/proc/sys/fs/pipe-max-size", encoding="ascii") as file:
            too_much = int(file.read()) * 1024
        pool = PipePool(too_much * 8, self.budget, self.clock)
        self.assertIsNone(pool.borrow(2**31 - 1 if too_much >= 2**31 else too_much + SMALLEST))
        self.assertEqual((open_descriptors(), pool.total_bytes), (before, 0))

    def test_few_idle_pipes_are_kept(self) -> None:
        """More than `MAX_IDLE` pipes that come back at once are closed."""
        pool = PipePool(SMALLEST * 2 * MAX_IDLE, self.budget, self.clock)
        self.addCleanup(pool.close)
        pipes = [pool.borrow(SMALLEST) for _ in range(MAX_IDLE + 3)]
        for pipe in pipes:
            assert pipe is not None
            pool.give_back(pipe)
        self.assertEqual(pool.total_bytes, MAX_IDLE * SMALLEST)

    def test_idle_pipes_go(self) -> None:
        """Two looks after the last flow no descriptor is left, and no timer."""
        before = open_descriptors()
        pipes = [self.pool.borrow(SIZE) for _ in range(4)]
        for pipe in pipes:
            assert pipe is not None
            self.pool.give_back(pipe)
        self.clock.advance(TRIM_INTERVAL)
        self.clock.advance(TRIM_INTERVAL)
        self.assertEqual((open_descriptors(), self.budget.spent), (before, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_pipes_in_use_stay(self) -> None:
        """A pipe that is borrowed between two looks is not trimmed."""
        pipe = self.pool.borrow(SIZE)
        assert pipe is not None
        self.pool.give_back(pipe)
        for _ in range(5):
            self.clock.advance(TRIM_INTERVAL)
            again = self.pool.borrow(SIZE)
            self.assertIs(again, pipe)
            self.pool.give_back(pipe)

    def test_close(self) -> None:
        """Closing closes what is idle; what is lent comes back through `discard`."""
        before = open_descriptors()
        idle, lent = self.pool.borrow(SIZE), self.pool.borrow(SIZE)
        assert idle is not None
        assert lent is not None
        self.pool.give_back(idle)
        self.pool.close()
        self.assertEqual(open_descriptors(), before + 2)
        self.pool.discard(lent)
        self.assertEqual(open_descriptors(), before)
        self.assertIn("lent=0", repr(self.pool))


class AllowanceTests(unittest.SynchronousTestCase):
    """What a process may have."""

    def test_below_the_kernel_s(self) -> None:
        """The allowance is below what the kernel gives an ordinary user."""
        with open("/proc/sys/fs/pipe-user-pages-soft", encoding="ascii") as file:
            pages = int(file.read())
        self.assertLess(pipe_allowance(), pages * os.sysconf("SC_PAGE_SIZE"))
        self.assertGreater(pipe_allowance(), SMALLEST)

    def test_without_limit(self) -> None:
        """No limit, or no such file: a bound of our own."""
        path = self.mktemp()
        self.assertEqual(pipe_allowance(path), 256 * 1024 * 1024)
        with open(path, "w", encoding="ascii") as file:
            file.write("0\n")
        self.assertEqual(pipe_allowance(path), 256 * 1024 * 1024)
