"""Tests of ``top`` and ``tap``."""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin import watching
from portfwd.admin.picking import Wanted
from portfwd.admin.turns import SLICE
from portfwd.relay.states import State
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction, FlowSummary, SessionSummary
from tests.admin.fakes import Client, FakeOperator, FakeSession, one_turn


class SlowSession(FakeSession):
    """A session of which each look takes a slice."""

    def __init__(self, number: int, clock: Clock) -> None:
        super().__init__(number)
        self.clock = clock

    def tcp_info(self) -> tuple[bytes, bytes]:
        """See `LiveSession`."""
        self.clock.rightNow += SLICE
        return super().tcp_info()

    def summary(self) -> SessionSummary:
        """See `LiveSession`."""
        self.clock.rightNow += SLICE
        return super().summary()


class TopTests(SynchronousTestCase):
    """``top``: looks, once an interval."""

    def setUp(self) -> None:
        self.one, self.two = FakeSession(1), FakeSession(2)
        self.client = Client(FakeOperator(self.one, self.two))

    def watch(self, sort: str = "rate", count: int = 0, limit: int = 10) -> Deferred[dict[str, Any]]:
        """Begin to watch, and take the first look."""
        watching_ = Deferred.fromCoroutine(
            watching.watch_top(self.client.caller, 1.0, sort, limit, None, Wanted(), count)
        )
        self.turn()
        return watching_

    def turn(self) -> None:
        """Let the work of a look be done."""
        for _ in range(4):
            self.client.clock.advance(0)

    def test_looks(self) -> None:
        """Each look has rates since the one before, the fastest first, and sums of all."""
        watch = self.watch()
        self.two.info = (bytes(100) + b"\7\0\0\0", b"")
        self.two.up = FlowSummary(1100, 2, 2)
        self.client.clock.advance(1.0)
        self.turn()
        first, second = self.client.events
        self.assertEqual([row["id"] for row in first["rows"]], [1, 2])
        self.assertEqual([row["id"] for row in second["rows"]], [2, 1])
        self.assertEqual(
            (second["sessions"], second["to_upstream_rate"], second["to_client_rate"], second["sort"]),
            (2, 1000.0, 0.0, "rate"),
        )
        self.assertEqual(second["rows"][0]["bytes_per_call"], 500.0)
        self.assertIsNone(second["rows"][1]["bytes_per_call"])
        self.assertEqual(second["rows"][0]["rtt_us"], {"client": 0, "upstream": None})
        self.assertEqual(second["rows"][0]["retransmits"], {"client": 7, "upstream": None})
        self.assertEqual(second["status"], {"state": "running"})
        self.client.caller.interrupt()
        self.assertEqual(self.successResultOf(watch), {"looks": 2, "missed": 0})

    def test_count(self) -> None:
        """So many looks, and no more."""
        watch = self.watch(count=1)
        self.assertEqual(self.successResultOf(watch), {"looks": 1, "missed": 0})

    def test_slow(self) -> None:
        """Who does not read misses looks, and is told how many; they are not kept."""
        self.client.listening = False
        watch = self.watch(count=1)
        self.client.clock.advance(1.0)
        self.turn()
        self.client.listening = True
        self.client.clock.advance(1.0)
        self.turn()
        self.assertEqual(self.successResultOf(watch), {"looks": 1, "missed": 2})
        self.assertEqual(len(self.client.events), 1)

    def test_sorts(self) -> None:
        """Every word that it sorts by puts the largest first."""
        self.two.up, self.two.down = FlowSummary(450, 1, 1, paused=3.0), FlowSummary(700, 2, 2)
        self.two.duration = 2.5
        for sort in watching.top_sorts():
            self.client.events.clear()
            self.successResultOf(self.watch(sort, count=1, limit=1))
            expected = 1 if sort == "id" else 2
            self.assertEqual([row["id"] for row in self.client.events[0]["rows"]], [expected], sort)

    def test_turns(self) -> None:
        """Each session and each row is a step: traffic waits for the time of a slice and of one step."""
        operator = FakeOperator()
        client = Client(operator)
        clock = client.clock
        operator.open = [SlowSession(number, clock) for number in range(100)]
        Deferred.fromCoroutine(watching.watch_top(client.caller, 1.0, "rate", 50, None, Wanted(), 1))
        longest = 0.0
        while clock.getDelayedCalls():
            begun = clock.seconds()
            one_turn(clock)
            longest = max(longest, clock.seconds() - begun)
        self.assertEqual(len(client.events[0]["rows"]), 50)
        self.assertLess(longest, 2.5 * SLICE)

    def test_unwanted(self) -> None:
        """Sessions that do not fit, or were closed meanwhile, are not counted."""
        self.two.state = State.CLOSED
        self.watch(count=1)
        self.assertEqual(self.client.events[0]["sessions"], 1)


class TapTests(SynchronousTestCase):
    """``tap``: the bytes of one session."""

    def setUp(self) -> None:
        self.session = FakeSession(1)
        self.operator = FakeOperator(self.session)
        self.client = Client(self.operator)

    def tap(self, limit: int = 100, *ways: Direction) -> Deferred[dict[str, Any]]:
        """Begin to tap."""
        chosen = frozenset(ways or tuple(Direction))
        return Deferred.fromCoroutine(watching.watch_bytes(self.client.caller, self.session, limit, chosen))

    def saw(self, direction: Direction, data: bytes) -> None:
        """The session has moved something."""
        assert self.operator.saw is not None
        self.operator.saw(direction, data)

    def told(self) -> list[tuple[str, int, bytes]]:
        """The events so far."""
        return [
            (one["direction"], one["offset"], base64.b64decode(one["data"])) for one in self.client.events
        ]

    def test_both_ways(self) -> None:
        """Bytes are told a tenth of a second later, with their direction and their place in it."""
        tap = self.tap()
        self.saw(TO_UPSTREAM, b"GET ")
        self.saw(TO_CLIENT, b"200")
        self.saw(TO_UPSTREAM, b"/")
        self.assertEqual(self.told(), [])
        self.client.clock.advance(watching.TAP_INTERVAL)
        self.assertEqual(
            self.told(), [("to-upstream", 0, b"GET "), ("to-client", 0, b"200"), ("to-upstream", 4, b"/")]
        )
        self.client.caller.interrupt()
        result = self.successResultOf(tap)
        self.assertEqual(result, {"ended": "interrupted", "missed": 0, "to_upstream": 5, "to_client": 3})
        self.assertIsNone(self.operator.saw)

    def test_limit(self) -> None:
        """Of both directions together no more than the limit is told; then it is over."""
        tap = self.tap(5)
        self.saw(TO_UPSTREAM, b"abc")
        self.client.clock.advance(watching.TAP_INTERVAL)
        self.assertNoResult(tap)
        self.saw(TO_CLIENT, b"xyz")
        self.saw(TO_UPSTREAM, b"d")
        self.client.clock.advance(watching.TAP_INTERVAL)
        result = self.successResultOf(tap)
        self.assertEqual((result["ended"], result["to_upstream"], result["to_client"]), ("limit", 3, 2))
        self.assertEqual(self.told(), [("to-upstream", 0, b"abc"), ("to-client", 0, b"xy")])

    def test_limit_of_one_direction(self) -> None:
        """A session that moves bytes in one direction only reaches the limit."""
        tap = self.tap(3)
        self.saw(TO_CLIENT, b"uvwxyz")
        self.client.clock.advance(watching.TAP_INTERVAL)
        self.assertEqual(self.successResultOf(tap)["ended"], "limit")
        self.assertEqual(self.told(), [("to-client", 0, b"uvw")])

    def test_one_way(self) -> None:
        """Only the direction that was asked for is told, and counts."""
        tap = self.tap(3, TO_CLIENT)
        self.saw(TO_UPSTREAM, b"abc")
        self.saw(TO_CLIENT, b"xyz")
        self.client.clock.advance(watching.TAP_INTERVAL)
        self.assertEqual(self.successResultOf(tap)["ended"], "limit")
        self.assertEqual(self.told(), [("to-client", 0, b"xyz")])

    def test_session_ends(self) -> None:
        """The session's end ends it, when all that was seen is told."""
        tap = self.tap()
        self.saw(TO_CLIENT, b"bye")
        self.session.state = State.CLOSED
        self.client.listening = False
        self.client.clock.advance(watching.TAP_INTERVAL)
        self.assertNoResult(tap)
        self.client.listening = True
        self.client.clock.advance(watching.TAP_INTERVAL)
        self.assertEqual(self.successResultOf(tap)["ended"], "closed")
        self.assertEqual(self.told(), [("to-client", 0, b"bye")])

    def test_pieces(self) -> None:
        """A large read is told in pieces."""
        self.tap(10**6)
        self.saw(TO_CLIENT, bytes(watching.TAP_PIECE + 1))
        self.client.clock.advance(watching.TAP_INTERVAL)
        self.assertEqual(
            [(offset, len(data)) for _, offset, data in self.told()],
            [(0, watching.TAP_PIECE), (watching.TAP_PIECE, 1)],
        )

    def test_missed(self) -> None:
        """What does not fit into the memory for a slow client is missed, and counted; then it goes on."""
        tap = self.tap(10**7, TO_CLIENT)
        self.client.listening = False
        self.saw(TO_CLIENT, bytes(watching.TAP_WAITING))
        self.saw(TO_CLIENT, b"lost")
        self.client.clock.advance(watching.TAP_INTERVAL)
        self.client.listening = True
        self.client.clock.advance(watching.TAP_INTERVAL)
        self.saw(TO_CLIENT, b"here")
        self.client.clock.advance(watching.TAP_INTERVAL)
        self.assertEqual(self.told()[-1], ("to-client", watching.TAP_WAITING + 4, b"here"))
        self.client.caller.interrupt()
        self.assertEqual(self.successResultOf(tap)["missed"], 4)

    def test_missed_in_part(self) -> None:
        """Of a read that does not fit whole the beginning is told."""
        tap = self.tap(10**7, TO_CLIENT)
        self.saw(TO_CLIENT, bytes(watching.TAP_WAITING + 5))
        self.client.clock.advance(watching.TAP_INTERVAL)
        self.assertEqual(sum(len(data) for _, _, data in self.told()), watching.TAP_WAITING)
        self.client.caller.interrupt()
        self.assertEqual(self.successResultOf(tap)["missed"], 5)

    def test_left(self) -> None:
        """Who goes away ends it."""
        tap = self.tap()
        tap.cancel()
        self.failureResultOf(tap)
        self.assertIsNone(self.operator.saw)
