"""Tests of `portfwd.filters.builtin.faults`: the clause, the choice of connections, the switch."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from portfwd.filters.api import BOTH, IFilter, IFilterFactory
from portfwd.filters.builtin.fault_clause import NEEDS, FaultsOptions
from portfwd.filters.builtin.faults import KINDS, PLUGIN, FaultFactory
from portfwd.filters.clause_reading import read_options
from portfwd.filters.options import OptionError, OptionFiles
from portfwd.values import TO_CLIENT
from tests.filters.asking import a_connection

#: A clause of every kind.
CLAUSES = (
    "latency delay=100ms jitter=20ms",
    "bandwidth rate=64KiB/s direction=down",
    "slow-close delay=1s",
    "timeout after=0",
    "reset after=2s",
    "slicer size=10 variation=5 delay=1ms",
    "limit-data size=1KiB abort=on",
    "noop",
    "limit-time after=1m",
    "corrupt fraction=0.1%",
    "refuse probability=50%",
    "loss fraction=5%",
    "duplicate fraction=5%",
    "reorder fraction=5% delay=50ms",
)


def read(clause: str) -> Any:
    """The options of a clause, or what is wrong with them."""
    words = clause.split()
    pairs = [word.partition("=") for word in words if "=" in word]
    plain = [word for word in words if "=" not in word]
    return read_options(
        FaultsOptions, plain, [(key, value) for key, _, value in pairs], OptionFiles(str, str)
    )


def a_factory(clause: str) -> FaultFactory:
    """The factory of a clause."""
    made = PLUGIN.configure(read(clause), ())
    assert isinstance(made, FaultFactory)
    return made


class ClauseTests(SynchronousTestCase):
    """What may be written."""

    def test_every_kind(self) -> None:
        """Every kind has a clause that makes a filter of the contract."""
        kinds = [clause.split()[0] for clause in CLAUSES]
        self.assertEqual(set(kinds), set(KINDS))
        self.assertEqual(set(NEEDS), set(KINDS))
        for clause in CLAUSES:
            factory = a_factory(clause)
            verifyObject(IFilterFactory, factory)
            made = [factory.build(a_connection(number)) for number in range(20)]
            for one in made:
                if one is not None:
                    verifyObject(IFilter, one)
            self.assertTrue(any(made))

    def test_directions(self) -> None:
        """A fault of one direction need not see the other."""
        self.assertEqual(a_factory("bandwidth rate=1KiB/s direction=down").directions, {TO_CLIENT})
        self.assertEqual(a_factory("bandwidth rate=1KiB/s").directions, BOTH)

    def test_refused(self) -> None:
        """What does not fit the kind is refused, and what would fit is said."""
        for clause, attribute, text in (
            ("latency", "kind", "latency needs delay="),
            ("latency delay=1s rate=1KiB/s", "rate", "its options are delay=, direction=, jitter="),
            ("refuse after=1s", "after", "none of its own"),
            ("reset after=1s abort=on", "abort", "reset has no abort="),
            ("limit-time after=1s direction=up", "direction", "limit-time has no direction="),
            ("slicer size=10 variation=10", "variation", "less than size="),
        ):
            error = self.assertRaises(OptionError, a_factory, clause)
            self.assertEqual(error.attribute, attribute, clause)
            self.assertIn(text, str(error))
        error = self.assertRaises(OptionError, PLUGIN.configure, FaultsOptions(kind="flood"), ())
        self.assertIn("one of latency, bandwidth", str(error))


class ChoiceTests(SynchronousTestCase):
    """Which connections are struck."""

    def struck(self, clause: str) -> list[bool]:
        """Which of the first thousand."""
        factory = a_factory(clause)
        return [factory.build(a_connection(number)) is not None for number in range(1000)]

    def test_all_or_none(self) -> None:
        """Without a probability all are; with none, none."""
        self.assertTrue(all(self.struck("timeout after=0")))
        self.assertFalse(any(self.struck("timeout after=0 probability=0")))

    def test_reproducible(self) -> None:
        """The same clause strikes the same ones, whatever its other options; another seed or kind, others."""
        some = self.struck("timeout after=0 probability=30%")
        self.assertTrue(250 < sum(some) < 350)
        self.assertEqual(some, self.struck("timeout after=1s probability=30%"))
        self.assertNotEqual(some, self.struck("timeout after=0 probability=30% seed=1"))
        self.assertNotEqual(some, self.struck("reset after=0 probability=30%"))


class SwitchTests(SynchronousTestCase):
    """What can be changed while connections last."""

    def test_repr(self) -> None:
        """The fault says what it is, whether it is on and how many connections it affects."""
        factory = a_factory("reset after=0 probability=0 active=off")
        factory.build(a_connection())
        self.assertEqual(repr(factory.fault), "<Fault reset off, 0 of 0 connections>")
        factory.fault.active = True
        factory.build(a_connection())
        self.assertEqual(repr(factory.fault), "<Fault reset on, 0 of 1 connections>")

    def test_counts(self) -> None:
        """Connections count while the fault is on; open ones when it is switched on, and once."""
        factory = a_factory("latency delay=1s active=off")
        fault = factory.fault
        first = [factory.build(a_connection(number)) for number in range(3)]
        self.assertEqual((fault.affected, fault.connections), (0, 0))
        assert first[0] is not None
        first[0].leave()
        for active in (True, False, True):
            fault.active = active
            self.assertEqual((fault.affected, fault.connections), (2, 2))
        factory.build(a_connection(4))
        self.assertEqual((fault.affected, fault.connections), (3, 3))

    def test_options(self) -> None:
        """It can become stronger, but not another fault, nor what the clause could not be."""
        fault = a_factory("latency delay=1s").fault
        fault.options = evolve(fault.options, delay=2.0)
        self.assertEqual(fault.options.delay, 2.0)
        for changes in ({"kind": "slow-close"}, {"direction": "up"}, {"delay": None}):
            self.assertRaises(ValueError, setattr, fault, "options", evolve(fault.options, **changes))
        self.assertEqual(fault.options.delay, 2.0)
