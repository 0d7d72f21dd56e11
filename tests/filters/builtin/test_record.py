"""Tests of `portfwd.filters.builtin.record`."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.api import DONE, Copy, Sink
from portfwd.filters.builtin.record import PLUGIN, RecordOptions
from portfwd.values import TO_CLIENT, TO_UPSTREAM, InetAddress
from tests.filters.asking import a_connection


class RecordTests(SynchronousTestCase):
    """What is recorded of a connection."""

    def test_conversation(self) -> None:
        """The opening with who it is, the bytes with their direction, and the ends; all is passed."""
        factory = PLUGIN.configure(RecordOptions(file="/x", limit=99), ())
        connection = a_connection(announced=InetAddress("2001:db8::1", 7))
        one = factory.build(connection)
        sink = Sink("record", "/x", 99)
        notes = (("rule", "web"), ("network", "tcp"), ("client", "[2001:db8::1]:7"))
        self.assertEqual(one.opened(connection), Copy(evolve(sink, mark="opened", notes=notes), b""))
        for direction in (TO_UPSTREAM, TO_CLIENT):
            way = evolve(sink, direction=direction)
            self.assertEqual(one.received(direction, b"x"), (Copy(way, b"x"), None))
            self.assertEqual(one.ended(direction, b""), (Copy(evolve(way, mark="ended"), b""), None))

    def test_one_direction(self) -> None:
        """A filter for one direction records nothing of the other."""
        factory = PLUGIN.configure(RecordOptions(file="/x", direction="up"), ())
        self.assertEqual(factory.directions, {TO_UPSTREAM})
        one = factory.build(a_connection())
        opening = one.opened(a_connection())
        assert isinstance(opening, Copy)
        self.assertEqual(dict(opening.sink.notes)["only"], "to-upstream")
        self.assertIs(one.received(TO_CLIENT, b"x"), DONE)
        self.assertIsNone(one.ended(TO_CLIENT, b""))

    def test_refused(self) -> None:
        """A limit of nothing is refused."""
        self.assertIn("limit=0", str(self.assertRaises(ValueError, RecordOptions, file="/x", limit=0)))
