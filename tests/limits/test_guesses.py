"""Tests of `portfwd.limits.guesses`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.guesses import (
    AT_ONCE,
    FIRST_DELAY,
    FORGET,
    LONGEST_DELAY,
    MOST_OF_SOURCE,
    MOST_WAITING,
    Guesses,
)


class GuessesTests(SynchronousTestCase):
    """Which check begins when."""

    def test_one_of_a_source(self) -> None:
        """A source has one check under way; another source's begins beside it."""
        guesses: Guesses[int] = Guesses()
        for source, job in (("a", 1), ("a", 2), ("b", 3)):
            self.assertTrue(guesses.add(source, job))
        self.assertEqual([guesses.next(0), guesses.next(0), guesses.next(0)], [("a", 1), ("b", 3), None])
        guesses.done("a", True, 0)
        self.assertEqual(guesses.next(0), ("a", 2))

    def test_at_once(self) -> None:
        """No more than `AT_ONCE` are under way, whoever asks."""
        guesses: Guesses[int] = Guesses()
        for number in range(AT_ONCE + 1):
            guesses.add(str(number), number)
        begun = [guesses.next(0) for _ in range(AT_ONCE + 1)]
        self.assertEqual(begun[-1], None)
        self.assertNotIn(None, begun[:-1])

    def test_turns(self) -> None:
        """A source with many checks delays another one by one check only."""
        guesses: Guesses[str] = Guesses()
        for number in range(MOST_OF_SOURCE):
            guesses.add("many", f"many {number}")
        guesses.next(0)
        guesses.add("one", "one 0")
        guesses.done("many", True, 0)
        self.assertEqual(guesses.next(0), ("many", "many 1"))
        self.assertEqual(guesses.next(0), ("one", "one 0"))

    def test_delay(self) -> None:
        """Each failure doubles the delay of the source, up to a limit; other sources have none."""
        guesses: Guesses[int] = Guesses()
        now, delays = 0.0, []
        for number in range(8):
            guesses.add("a", number)
            wait = guesses.next(now)
            if isinstance(wait, float):
                delays.append(wait)
                now += wait
                guesses.add("b", 0)
                self.assertEqual(guesses.next(now - wait / 2), ("b", 0))
                guesses.done("b", True, now)
                self.assertEqual(guesses.next(now), ("a", number))
            guesses.done("a", False, now)
        self.assertEqual(delays[:3], [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY])
        self.assertEqual(delays[-1], LONGEST_DELAY)

    def test_success_takes_nothing_back(self) -> None:
        """A right password between wrong ones does not make the delays short again."""
        guesses: Guesses[int] = Guesses()
        now = 0.0
        for right in (False, True, False, True, False):
            guesses.add("a", 0)
            wait = guesses.next(now)
            if isinstance(wait, float):
                now += wait
                guesses.next(now)
            guesses.done("a", right, now)
        guesses.add("a", 0)
        self.assertEqual(guesses.next(now), 4 * FIRST_DELAY)

    def test_forgotten(self) -> None:
        """Failures are forgotten some time after the last one."""
        guesses: Guesses[int] = Guesses()
        for now in (0.0, FORGET + 1):
            guesses.add("a", 0)
            self.assertEqual(guesses.next(now), ("a", 0))
            guesses.done("a", False, now)
            self.assertFalse(guesses.is_free("a", now))
            self.assertTrue(guesses.is_free("a", now + FIRST_DELAY))

    def test_bounds(self) -> None:
        """One source cannot fill the queue, all of them together no more than it holds."""
        guesses: Guesses[int] = Guesses()
        taken = [guesses.add("a", number) for number in range(MOST_OF_SOURCE + 1)]
        self.assertEqual(taken.count(True), MOST_OF_SOURCE)
        taken = [guesses.add(str(number), number) for number in range(MOST_WAITING)]
        self.assertEqual(taken.count(True), MOST_WAITING - MOST_OF_SOURCE)

    def test_most_sources(self) -> None:
        """The failures of a bounded number of sources are remembered, the latest."""
        guesses: Guesses[int] = Guesses(most_sources=2)
        for source in ("a", "b", "c"):
            guesses.done(source, False, 0)
        self.assertEqual([guesses.is_free(source, 0) for source in "abc"], [True, False, False])

    def test_withdrawn(self) -> None:
        """A check that nobody waits for any more has no turn; one that has begun is left alone."""
        guesses: Guesses[int] = Guesses()
        guesses.add("a", 1)
        guesses.withdraw("a", 1)
        guesses.withdraw("a", 1)
        self.assertEqual((guesses.next(0), repr(guesses)), (None, "<Guesses 0 waiting, 0 under way>"))

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "next", "right", "wrong"]))))
    def test_never_lost(self, steps: list[tuple[str, str]]) -> None:
        """Whatever happens in whatever order, each check that was taken begins once, and the bounds hold."""
        guesses: Guesses[int] = Guesses()
        now, added, begun, under_way = 0.0, [], [], []

        def begin() -> None:
            found = guesses.next(now)
            if isinstance(found, tuple):
                begun.append(found[1])
                under_way.append(found[0])

        for number, (source, step) in enumerate(steps):
            now += 1
            if step == "add" and guesses.add(source, number):
                added.append(number)
            elif step == "next":
                begin()
            elif source in under_way:
                under_way.remove(source)
                guesses.done(source, step == "right", now)
            self.assertLessEqual(len(under_way), AT_ONCE)
            self.assertEqual(len(under_way), len(set(under_way)))
        while len(begun) < len(added):
            now += LONGEST_DELAY
            begin()
            if under_way:
                guesses.done(under_way.pop(), True, now)
        self.assertEqual(sorted(begun), added)
