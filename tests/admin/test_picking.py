"""Tests of which sessions a request means, and how fast they are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.operator import OperatorError
from portfwd.admin.picking import SORTS, Largest, Meter, SessionRate, Wanted
from portfwd.relay.states import State
from portfwd.values import FlowSummary, InetAddress, UnixAddress
from tests.admin.fakes import FakeSession


class WantedTests(SynchronousTestCase):
    """Sessions by client and state."""

    def test_everything(self) -> None:
        """Who asks for nothing special gets every session but those that are closed."""
        self.assertIn(FakeSession(1), Wanted())
        self.assertNotIn(FakeSession(1, State.CLOSED), Wanted())

    def test_client(self) -> None:
        """A client is meant by a pattern of ``allow``; those of unix sockets by ``unix``."""
        inet = FakeSession(1, client=InetAddress("192.0.2.1", 5))
        unix, nobody = FakeSession(2, client=UnixAddress("")), FakeSession(3, client=None)
        for pattern, expected in (
            ("192.0.2.0/24", [inet]),
            ("192.0.2.*", [inet]),
            ("192.0.2.9", []),
            ("unix", [unix]),
        ):
            wanted = Wanted(pattern)
            self.assertEqual([one for one in (inet, unix, nobody) if one in wanted], expected, pattern)

    def test_state(self) -> None:
        """A state is meant by its word."""
        self.assertIn(FakeSession(1, State.DIALING), Wanted(state="dialing"))
        self.assertNotIn(FakeSession(1), Wanted(state="dialing"))

    def test_bad_pattern(self) -> None:
        """What is no pattern is refused."""
        self.assertRaises(OperatorError, Wanted, "10.0.0.0/99")

    def test_repr(self) -> None:
        """It says what it wants."""
        self.assertEqual(repr(Wanted("unix", "dialing")), "<Wanted unix dialing>")
        self.assertIn("every client", repr(Wanted()))


class LargestTests(SynchronousTestCase):
    """The first of many."""

    @settings(max_examples=60)
    @given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 10), st.integers(0, 12))
    def test_as_sorted(self, keys: list[int], limit: int, start: int) -> None:
        """It keeps what sorting all of them and cutting would keep."""
        largest = Largest(limit, start)
        for number, key in enumerate(keys):
            largest.offer(key, number, (key, number))
        expected = sorted(
            ((key, number) for number, key in enumerate(keys)), key=lambda one: (-one[0], one[1])
        )
        self.assertEqual(repr(largest), f"<Largest {min(start + limit, len(keys))} of {len(keys)}>")
        self.assertEqual(largest.taken(), expected[start : start + limit])
        self.assertEqual(largest.offered, len(keys))

    def test_sorts(self) -> None:
        """Each word for an order is a number of a summary; the smallest id comes first."""
        summary = FakeSession(7, up=FlowSummary(10, paused=2.0), down=FlowSummary(30, paused=1.0)).summary()
        found = {word: sort(summary) for word, sort in SORTS.items()}
        self.assertEqual(
            found, {"id": -7, "age": 2.0, "bytes": 40, "to-upstream": 10, "to-client": 30, "paused": 3.0}
        )


class MeterTests(SynchronousTestCase):
    """From counters to rates."""

    def test_first_look(self) -> None:
        """At first a rate is over the session's whole time."""
        meter = Meter()
        meter.look(100.0)
        pace = meter.pace(FakeSession(1, duration=2.0).summary())
        self.assertEqual(pace, SessionRate(50.0, 100.0, 50.0))
        self.assertEqual(repr(meter), "<Meter 1>")

    def test_next_look(self) -> None:
        """Later it is over the time since the look before; what moved nothing has no size of a call."""
        meter, session = Meter(), FakeSession(1)
        meter.look(100.0)
        meter.pace(session.summary())
        meter.look(104.0)
        session.up = FlowSummary(500, 3, 1)
        self.assertEqual(meter.pace(session.summary()), SessionRate(100.0, 0.0, 200.0))
        meter.look(105.0)
        self.assertEqual(meter.pace(session.summary()), SessionRate(0.0, 0.0, None))

    def test_forgets(self) -> None:
        """Sessions that are gone are forgotten by the look after the next."""
        meter = Meter()
        meter.look(0.0)
        meter.pace(FakeSession(1).summary())
        meter.look(1.0)
        meter.look(2.0)
        self.assertEqual(meter.pace(FakeSession(1).summary()), SessionRate(100.0, 200.0, 50.0))
