"""Tests of `portfwd.relay.associations`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.associations import Associations


class Entry:
    """Leaves the table when it is told to."""

    def __init__(self, table: Associations[Entry], key: str) -> None:
        self.table, self.key = table, key
        self.evictions = 0

    def evict(self) -> None:
        self.evictions += 1
        self.table.forget(self.key, self)


class AssociationsTests(SynchronousTestCase):
    """A bounded table."""

    def setUp(self) -> None:
        self.table: Associations[Entry] = Associations(3)
        self.made = {key: Entry(self.table, key) for key in "abc"}
        for key, entry in self.made.items():
            self.table.add(key, entry)

    def test_the_longest_silent_goes(self) -> None:
        """Who spoke last stays longest."""
        self.table.entries.move_to_end("a")
        self.table.make_room()
        self.assertEqual([one.key for one in self.table], ["c", "a"])
        self.assertEqual((self.made["b"].evictions, self.table.evicted), (1, 1))

    def test_room(self) -> None:
        """Nobody goes where there is room; a smaller bound takes effect at the next one."""
        self.table.forget("a", self.made["a"])
        self.table.make_room()
        self.assertEqual(len(self.table), 2)
        self.table.most = 1
        self.table.make_room()
        self.assertEqual(len(self.table), 0)

    def test_none_to_evict(self) -> None:
        """An empty table says so."""
        table: Associations[Entry] = Associations(1)
        self.assertFalse(table.evict_oldest())
        self.assertTrue(self.table.evict_oldest())

    def test_another_of_the_same_client(self) -> None:
        """One that is over does not take a newer one of the same client with it."""
        self.table.add("a", Entry(self.table, "a"))
        self.table.forget("a", self.made["a"])
        self.assertIn("a", self.table.entries)

    def test_repr(self) -> None:
        """How full it is."""
        self.assertEqual(repr(self.table), "<Associations 3 of 3, 0 evicted>")
