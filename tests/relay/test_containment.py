"""Exceptions of a contained method go to `broke` and nowhere else."""

from __future__ import annotations

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.containment import contained


class Thing:
    """An object with contained methods."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.seen: list[tuple[int, str]] = []

    def broke(self, failure: Failure) -> None:
        self.failures.append(failure)

    @contained
    def work(self, number: int, text: str = "") -> None:
        """What it does."""
        self.seen.append((number, text))
        if number < 0:
            raise ValueError(number)
        if number == 0:
            raise KeyboardInterrupt


class ContainmentTests(SynchronousTestCase):
    """What is let through, and what is not."""

    def test_passes_arguments(self) -> None:
        """A method that does not raise is called as it stands."""
        thing = Thing()
        thing.work(1, "a")
        self.assertEqual((thing.seen, thing.failures), ([(1, "a")], []))
        self.assertEqual((thing.work.__name__, thing.work.__doc__), ("work", "What it does."))

    def test_exceptions_are_contained(self) -> None:
        """`broke` gets the exception with its traceback; the caller nothing."""
        thing = Thing()
        thing.work(-1)
        (failure,) = thing.failures
        self.assertIsInstance(failure.value, ValueError)
        self.assertIn("in work", failure.getTraceback())

    def test_so_is_what_would_end_the_process(self) -> None:
        """What ends a process elsewhere ends no more here than any other exception."""
        thing = Thing()
        thing.work(0)
        self.assertIsInstance(thing.failures[0].value, KeyboardInterrupt)
