"""Tests of `portfwd.filters.services` and of `Connection.note`."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import Connection, FilterFactory, Services
from portfwd.filters.api import MAX_NOTE, MOST_NOTES
from portfwd.testing.outcome import Notes


class ServicesTests(SynchronousTestCase):
    """What a factory is given."""

    def test_alone(self) -> None:
        """A test of a factory needs no forwarder."""
        clock = Clock()
        services = Services(clock, clock, Notes(), "web", "auth")
        services.counter("asked", "questions").inc()
        services.clock.callLater(1.0, services.log.info, "later")
        clock.advance(1)
        self.assertEqual(services.log.lines, [("info", "later")])  # type: ignore[attr-defined]

    def test_base_class(self) -> None:
        """A factory that is derived from `FilterFactory` has to say how filters are built."""
        self.assertRaises(NotImplementedError, FilterFactory().build, Connection(1, "web", Notes()))


class NoteTests(SynchronousTestCase):
    """`Connection.note`."""

    def setUp(self) -> None:
        self.connection = Connection(1, "web", Notes())

    def test_values(self) -> None:
        """Text is cut; numbers, truth and None stay as they are; the last value of a key counts."""
        for key, value in (("a", "x" * 1000), ("b", 7), ("c", 0.5), ("d", True), ("e", None), ("b", 8)):
            self.connection.note(key, value)
        expected = {"a": "x" * MAX_NOTE, "b": 8, "c": 0.5, "d": True, "e": None}
        self.assertEqual(self.connection.notes, expected)

    def test_bounded(self) -> None:
        """What is beyond the bound is left out; known keys can still change."""
        for number in range(MOST_NOTES + 5):
            self.connection.note(f"k{number}", number)
        self.connection.note("k0", "again")
        self.assertEqual(len(self.connection.notes), MOST_NOTES)
        self.assertEqual(self.connection.notes["k0"], "again")

    def test_wrong_use(self) -> None:
        """Keys are words, values can be written in JSON."""
        wrong: list[tuple[Any, Any]] = [("", 1), ("A", 1), ("a b", 1), ("a" * 33, 1), (None, 1)]
        for key, value in [*wrong, ("a", float("nan"))]:
            self.assertRaises(ValueError, self.connection.note, key, value)
        for value in (b"x", [1], object()):
            self.assertRaises(TypeError, self.connection.note, "a", value)
