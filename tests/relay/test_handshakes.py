"""Tests of the counts of TLS handshakes: who is dropped for a new client."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.handshakes import SHARE, Handshakes


class Client:
    """A client in its handshake; dropped as a session is."""

    def __init__(self, counts: Handshakes) -> None:
        self._counts = counts
        self.why = ""

    def make_room(self, why: str) -> None:
        self.why = why
        self._counts.left(self)


class HandshakesTests(SynchronousTestCase):
    """Clients come, speak, get through and leave."""

    def setUp(self) -> None:
        """Bounds of 32: a share is 2."""
        self.counts = Handshakes(32, 32)
        self.assertEqual(int(32 * SHARE), 2)

    def come(self, source: str = "") -> Client:
        """A client that says nothing."""
        client = Client(self.counts)
        self.counts.arrived(client, source)
        return client

    def test_counted(self) -> None:
        """A client is silent, then in its handshake, then neither; leaving twice changes nothing."""
        client = self.come("192.0.2.1")
        self.assertEqual(repr(self.counts), "<Handshakes silent=1 begun=0>")
        self.counts.began(client)
        self.counts.began(client)
        self.assertEqual((self.counts.silent, self.counts.begun), (0, 1))
        self.counts.left(client)
        self.counts.left(client)
        self.assertEqual((self.counts.silent, self.counts.begun), (0, 0))
        self.assertEqual(client.why, "")

    def test_oldest_silent(self) -> None:
        """At the bound the oldest silent client goes and the new one stays."""
        clients = [self.come(f"192.0.2.{number}") for number in range(33)]
        self.assertIn("32 clients had not begun", clients[0].why)
        self.assertEqual([one.why for one in clients[1:]], [""] * 32)
        self.assertEqual(self.counts.silent, 32)

    def test_silent_do_not_count_as_handshakes(self) -> None:
        """Any number of silent clients leaves every place for handshakes."""
        for number in range(100):
            self.come(f"192.0.2.{number % 5}")
        speaker = self.come("198.51.100.1")
        self.counts.began(speaker)
        self.assertEqual((self.counts.begun, speaker.why), (1, ""))

    def test_oldest_begun(self) -> None:
        """At the bound of handshakes the one that began first goes."""
        clients = [self.come(f"192.0.2.{number}") for number in range(33)]
        for one in clients[1:]:
            self.counts.began(one)
        last = self.come("198.51.100.1")
        self.counts.began(last)
        self.assertIn("32 clients were in their", clients[1].why)
        self.assertEqual((last.why, self.counts.begun), ("", 32))

    def test_source_drops_its_own(self) -> None:
        """A source that has more than its share drops its own clients, not those of others."""
        other = self.come("198.51.100.1")
        flood = [self.come("192.0.2.1") for _ in range(100)]
        self.assertEqual(other.why, "")
        self.assertEqual([bool(one.why) for one in flood], [True] * 69 + [False] * 31)

    def test_unknown_sources(self) -> None:
        """Clients without a source of their own drop the oldest."""
        first = self.come("198.51.100.1")
        for _ in range(32):
            self.come("")
        self.assertTrue(first.why)

    def test_drop_silent(self) -> None:
        """The oldest silent client goes where something else has run out; a handshake is not dropped."""
        first, second = self.come(), self.come()
        self.counts.began(first)
        self.assertTrue(self.counts.drop_silent("there are no descriptors left"))
        self.assertFalse(self.counts.drop_silent("there are no descriptors left"))
        self.assertEqual(first.why, "")
        self.assertIn("no descriptors", second.why)

    @given(st.lists(st.tuples(st.sampled_from(["come", "begin", "leave"]), st.integers(0, 5))))
    def test_bounds_hold(self, steps: list[tuple[str, int]]) -> None:
        """Whatever happens, no bound is passed, the newest client stays and the counts come to nothing."""
        counts = Handshakes(4, 3)
        there: list[Client] = []
        for step, number in steps:
            if step == "come":
                there.append(Client(counts))
                counts.arrived(there[-1], f"192.0.2.{number}" if number else "")
                self.assertEqual(there[-1].why, "")
            elif there and step == "begin":
                counts.began(there[number % len(there)])
            elif there:
                counts.left(there.pop(number % len(there)))
            self.assertLessEqual(counts.silent, 4)
            self.assertLessEqual(counts.begun, 3)
        for one in there:
            counts.left(one)
        self.assertEqual((counts.silent, counts.begun), (0, 0))
