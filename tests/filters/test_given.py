"""Filters that come as objects."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import TO_UPSTREAM, Factory, Filter, FilterFactory, Plugin
from portfwd.filters.given import NoOptions, given
from portfwd.filters.options import OptionFiles
from portfwd.filters.registry import Unavailable

NO_FILES = OptionFiles(read=cast(Any, None), absolute=cast(Any, None), read_tight=cast(Any, None))


class Counting(Filter):
    """A filter with an argument."""

    directions = frozenset({TO_UPSTREAM})

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit


def build(thing: Any) -> tuple[Any, Any, Any]:
    """The factory of an object, and the filters of two connections."""
    found = given("it", thing)
    factory = found.plugin.configure(found.read((), (), NO_FILES), ())
    return factory, factory.build(cast(Any, None)), factory.build(cast(Any, None))


class GivenTests(SynchronousTestCase):
    """One case for each kind of object."""

    def test_class_and_function(self) -> None:
        """A class, or a function, makes a filter for each connection, and the factory says what that says."""
        for thing, limit in ((Counting, 3), (partial(Counting, limit=5), 5), (lambda: Counting(7), 7)):
            factory, one, other = build(thing)
            self.assertEqual((one.limit, other.limit), (limit, limit))
            self.assertIsNot(one, other)
            self.assertEqual(factory.directions, frozenset({TO_UPSTREAM}))

    def test_filter(self) -> None:
        """One filter serves all connections."""
        thing = Counting(9)
        factory, one, other = build(thing)
        self.assertIs(one, thing)
        self.assertIs(other, thing)
        self.assertEqual(factory.directions, frozenset({TO_UPSTREAM}))

    def test_factory(self) -> None:
        """A factory is used as it is."""
        thing = Factory(lambda connection: None)
        self.assertEqual(build(thing), (thing, None, None))

    def test_factory_class(self) -> None:
        """A class of factories makes one factory for the clause, which a rules file may name, too."""

        class Counts(FilterFactory):
            def __init__(self, limit: int = 3) -> None:
                self.limit = limit

            def build(self, connection: object) -> Filter:
                return Counting(self.limit)

        factory, one, other = build(Counts)
        self.assertIsInstance(factory, Counts)
        self.assertEqual((one.limit, other.limit), (3, 3))
        found = given("it", Counts)
        said = found.read((), (("limit", "5"),), NO_FILES)
        self.assertEqual(found.plugin.configure(said, ()).limit, 5)

    def test_plugin(self) -> None:
        """A plug-in is configured without options."""
        made = Factory(lambda connection: None)
        plugin = Plugin("p", "", NoOptions, lambda options, clauses: made)
        self.assertIs(build(plugin)[0], made)

    def test_other(self) -> None:
        """Everything else is refused."""
        self.assertRaises(Unavailable, given, "it", 5)
        self.assertRaises(ValueError, build, dict.copy.__get__({}))
