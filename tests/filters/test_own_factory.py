"""Tests of `portfwd.filters.own_factory`: a filter class as plug-in and factory."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from portfwd.filters import (
    API_VERSION,
    BOTH,
    MAX_HOLD,
    Connection,
    IFilterFactory,
    IFilterPlugin,
    RouteClause,
)
from portfwd.filters.own_factory import Arguments, ClassPlugin, first_line, missing_methods
from tests.filters.plugins import Annotated, Bare, Declaring, FromTheFuture, Unfinished

CONNECTION = Connection(1, "web", Logger())


class PluginTests(SynchronousTestCase):
    """What a class says as a plug-in."""

    def test_interface(self) -> None:
        """It is a plug-in like any other."""
        plugin = ClassPlugin("bare", Bare)
        verifyObject(IFilterPlugin, plugin)
        self.assertEqual((plugin.name, plugin.api_version), ("bare", API_VERSION))
        self.assertEqual(ClassPlugin("future", FromTheFuture).api_version, 99)

    def test_summary(self) -> None:
        """The one line of help is the docstring's first paragraph."""
        self.assertEqual(
            ClassPlugin("bare", Bare).summary, "Passes everything, and says so. It has no options."
        )
        self.assertEqual(first_line(object.__new__(type("Silent", (), {}))), "")

    def test_clauses_are_no_option(self) -> None:
        """A class that takes route lines has an argument for them, which no clause can say."""
        plugin = ClassPlugin("a", Annotated)
        self.assertTrue(plugin.takes_routes)
        self.assertNotIn("clauses", [one.key for one in plugin.declared])
        self.assertFalse(ClassPlugin("b", Bare).takes_routes)

    def test_missing_methods(self) -> None:
        """What a class lacks to be a filter is known by name."""
        self.assertEqual(missing_methods(Bare), [])
        missing = missing_methods(Unfinished)
        self.assertIn("opened", missing)
        self.assertNotIn("received", missing)


class FactoryTests(SynchronousTestCase):
    """What a class does as a factory."""

    def test_bare(self) -> None:
        """Every connection gets an instance of its own; what the class does not say is as usual."""
        factory = ClassPlugin("bare", Bare).configure(Arguments(), ())
        verifyObject(IFilterFactory, factory)
        one, two = factory.build(CONNECTION), factory.build(CONNECTION)
        self.assertIsInstance(one, Bare)
        self.assertIsNot(one, two)
        self.assertEqual(
            (factory.directions, factory.routes, factory.max_hold, factory.hold_timeout, factory.on_timeout),
            (BOTH, False, MAX_HOLD, None, "close"),
        )

    def test_values(self) -> None:
        """The clause's values and the rule's routes are its arguments."""
        clause = RouteClause(("*",), None)
        factory = ClassPlugin("a", Annotated).configure(Arguments({"greeting": "hi", "limit": 4}), [clause])
        self.assertTrue(factory.routes)
        self.assertEqual(factory.build(CONNECTION).said, ("hi", 4, 0.5, False, b"", None, (clause,)))

    def test_instance_speaks(self) -> None:
        """What an option sets of the factory's own attributes holds."""
        factory = ClassPlugin("d", Declaring).configure(Arguments({"max_hold": 64}), ())
        self.assertEqual(factory.max_hold, 64)

    def test_refuses_at_once(self) -> None:
        """Values that the class refuses are refused when the rules are read."""
        plugin = ClassPlugin("a", Annotated)
        error = self.assertRaises(
            ValueError, plugin.configure, Arguments({"greeting": "hi", "limit": 101}), ()
        )
        self.assertEqual(str(error), "nobody greets a hundred times")
