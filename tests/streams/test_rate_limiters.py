"""Tests of rate limiters: tickets, queues of two kinds at once, a timer that runs while a flow waits."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.pacing import MAX_SLICE
from portfwd.rules.model import Options
from portfwd.streams.rate_limiters import LEAST_WAIT, RateLimiters, Ticket
from portfwd.values import InetAddress, Side, UnixAddress

#: Slices of 5000 bytes, of which two are there at once.
RATE = 100_000
ONE = InetAddress("192.0.2.1", 1)
ONE_AGAIN = InetAddress("::ffff:192.0.2.1", 2)
OTHER = InetAddress("192.0.2.2", 1)


class FakeWaiter:
    """Writes down what it is granted."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def granted(self, count: int) -> None:
        self.got.append(count)


class LimiterCase(SynchronousTestCase):
    """A clock, and rate limiters."""

    def setUp(self) -> None:
        self.clock = Clock()

    def limiters(self, **options: int) -> RateLimiters:
        """A rule's."""
        return RateLimiters(self.clock, Options(**options))

    def ticket(
        self, limiters: RateLimiters, client: InetAddress | UnixAddress = ONE, side: Side = Side.CLIENT
    ) -> Ticket:
        """One for a limited direction."""
        ticket = limiters.ticket(side, client)
        assert ticket is not None
        return ticket

    @property
    def timers(self) -> list[float]:
        """When timers are due."""
        return [round(call.getTime(), 6) for call in self.clock.getDelayedCalls()]


class TicketTests(LimiterCase):
    """One rate limiter."""

    def test_at_once(self) -> None:
        """While there are bytes no timer is needed."""
        ticket, who = self.ticket(self.limiters(bandwidth=RATE)), FakeWaiter()
        self.assertEqual([ticket.ask(who), ticket.ask(who)], [5000, 5000])
        self.assertEqual((ticket.waits, ticket.waited, self.timers, who.got), (False, 0.0, [], []))

    def test_waits(self) -> None:
        """Who has to wait is told when it is his turn; the timer is gone with the last who waits."""
        limiters = self.limiters(bandwidth=RATE)
        ticket, who = self.ticket(limiters), FakeWaiter()
        self.assertEqual([ticket.ask(who) for _ in range(4)], [5000, 5000, 0, 0])
        self.assertEqual((ticket.waits, self.timers), (True, [0.05]))
        self.assertIn("waits", repr(ticket))
        self.clock.advance(0.04)
        self.assertEqual((who.got, round(ticket.waited, 3)), ([], 0.04))
        self.clock.advance(0.01)
        self.assertEqual((who.got, ticket.waits, round(ticket.waited, 3)), ([5000], False, 0.05))
        self.assertEqual(self.timers, [])

    def test_one_timer(self) -> None:
        """However many wait there is one timer, and each has his turn."""
        limiters = self.limiters(bandwidth=RATE)
        people = [FakeWaiter() for _ in range(5)]
        tickets = [self.ticket(limiters) for _ in people]
        tickets[0].settle(0, 10_000)
        for ticket, who in zip(tickets, people, strict=True):
            self.assertEqual(ticket.ask(who), 0)
        for number in range(5):
            self.assertEqual(len(self.timers), 1)
            self.clock.advance(0.05)
            self.assertEqual([len(who.got) for who in people], [1] * (number + 1) + [0] * (4 - number))
        self.assertEqual(self.timers, [])

    def test_directions_apart(self) -> None:
        """Each direction has its own bytes, and its own rate where one is given."""
        limiters = self.limiters(bandwidth=RATE, bandwidth_down=200_000)
        up, down = self.ticket(limiters), self.ticket(limiters, side=Side.UPSTREAM)
        up.settle(0, 10_000)
        self.assertEqual((up.is_open, up.ask(FakeWaiter())), (True, 0))
        self.assertEqual((down.most, down.ask(FakeWaiter())), (10_000, 10_000))

    def test_unlimited(self) -> None:
        """A direction that nothing limits needs no ticket."""
        self.assertIsNone(self.limiters(bandwidth_down=RATE).ticket(Side.CLIENT, ONE))

    def test_given_back(self) -> None:
        """What one does not use is the next one's at once, without a timer in between."""
        limiters = self.limiters(bandwidth=RATE)
        one, other, who = self.ticket(limiters), self.ticket(limiters), FakeWaiter()
        self.assertEqual([one.ask(who), one.ask(who), other.ask(who)], [5000, 5000, 0])
        one.settle(5000, 100)
        self.assertEqual(who.got, [])
        one.settle(5000, 4900)
        self.assertEqual((who.got, self.timers), ([5000], []))

    def test_leave(self) -> None:
        """Who leaves is not told, and leaves no timer; the next one's turn comes as it would have."""
        limiters = self.limiters(bandwidth=RATE)
        one, other, who, next_one = self.ticket(limiters), self.ticket(limiters), FakeWaiter(), FakeWaiter()
        one.settle(0, 10_000)
        one.leave()
        self.assertEqual([one.ask(who), other.ask(next_one)], [0, 0])
        one.leave()
        self.clock.advance(0.05)
        self.assertEqual((who.got, next_one.got), ([], [5000]))
        other.ask(next_one)
        self.assertEqual(len(self.timers), 1)
        other.leave()
        self.assertEqual((self.timers, next_one.got), ([], [5000]))

    def test_owed(self) -> None:
        """What was read without a grant is owed by all: nothing is open until it is paid."""
        limiters = self.limiters(bandwidth=RATE)
        ticket, who = self.ticket(limiters), FakeWaiter()
        ticket.settle(0, 20_000)
        self.assertEqual((ticket.is_open, ticket.ask(who), self.timers), (False, 0, [0.15]))

    def test_high_rates(self) -> None:
        """Where slices are due faster than timers should run, several pass at a time."""
        limiters = self.limiters(bandwidth=1024**3)
        people = [FakeWaiter() for _ in range(40)]
        tickets = [self.ticket(limiters) for _ in people]
        tickets[0].settle(0, 1024**3 // 10)
        for ticket, who in zip(tickets, people, strict=True):
            ticket.ask(who)
        self.assertEqual((tickets[0].most, self.timers), (MAX_SLICE, [LEAST_WAIT]))
        self.clock.advance(LEAST_WAIT)
        self.assertEqual(sum(len(who.got) for who in people), int(1024**3 * LEAST_WAIT // MAX_SLICE))

    def test_telling_leads_to_more(self) -> None:
        """Who is told may ask again, give back, or leave: each turn is somebody's, and only once."""
        limiters = self.limiters(bandwidth=RATE)
        tickets = [self.ticket(limiters) for _ in range(3)]
        told: list[int] = []

        class Busy:
            def __init__(self, number: int) -> None:
                self.number = number

            def granted(self, count: int) -> None:
                told.append(self.number)
                tickets[self.number].settle(count, 0)
                tickets[2].leave()
                if len(told) < 4:
                    tickets[self.number].ask(self)

        tickets[0].settle(0, 10_000)
        for number, ticket in enumerate(tickets):
            ticket.ask(Busy(number))
        self.clock.advance(0.05)
        self.assertEqual((told, self.timers), ([0, 1, 0, 1, 0], []))


class SourceTests(LimiterCase):
    """Gates of addresses."""

    def test_addresses_share(self) -> None:
        """Sessions of one address share, in whichever form it is written; others have their own."""
        limiters, who = self.limiters(bandwidth_per_source=RATE), FakeWaiter()
        self.ticket(limiters, ONE).settle(0, 10_000)
        self.assertEqual(self.ticket(limiters, ONE_AGAIN).ask(who), 0)
        self.assertEqual(self.ticket(limiters, OTHER).ask(who), 5000)
        self.assertEqual(self.ticket(limiters, ONE, Side.UPSTREAM).ask(who), 5000)

    def test_no_address(self) -> None:
        """A client of a unix socket has none, so nothing is his own."""
        limiters, who = self.limiters(bandwidth_per_source=RATE), FakeWaiter()
        ticket = self.ticket(limiters, UnixAddress(""))
        self.assertEqual([ticket.ask(who) for _ in range(9)], [MAX_SLICE] * 9)

    def test_both(self) -> None:
        """Both limits hold: first the address's, then everybody's, and a slice is the smaller one's."""
        limiters = self.limiters(bandwidth=2 * RATE, bandwidth_per_source=RATE)
        self.assertEqual(limiters.slice, 5000)
        one, other = self.ticket(limiters, ONE), self.ticket(limiters, OTHER)
        who, stranger = FakeWaiter(), FakeWaiter()
        self.assertEqual([one.ask(who) for _ in range(3)], [5000, 5000, 0])
        # His own bytes are used up; of everybody's there are some, and others get them.
        self.assertEqual([other.ask(stranger) for _ in range(3)], [5000, 5000, 0])
        self.assertEqual(self.timers, [0.05, 0.05])
        self.clock.advance(0.05)
        self.assertEqual((who.got, stranger.got), ([5000], [5000]))

    def test_waits_twice(self) -> None:
        """A flow that the first limiter let pass may wait at the second; leaving returns the first grant."""
        limiters = self.limiters(bandwidth=RATE, bandwidth_per_source=RATE)
        one, other, who = self.ticket(limiters, ONE), self.ticket(limiters, OTHER), FakeWaiter()
        other.settle(0, 10_000)
        self.assertEqual((one.ask(who), self.timers), (0, [0.05]))
        one.leave()
        self.assertEqual(self.timers, [])
        one.ask(who)
        self.clock.advance(0.05)
        self.assertEqual((who.got, round(one.waited, 3)), ([5000], 0.05))
        self.assertEqual(limiters.limiters_for(Side.CLIENT, ONE)[0].level, 5000 + 5000)

    def test_another_address(self) -> None:
        """Who turns out to be somebody else waits no more, and counts for that address from then on."""
        limiters, who = self.limiters(bandwidth_per_source=RATE), FakeWaiter()
        ticket = self.ticket(limiters, ONE)
        ticket.settle(0, 10_000)
        self.assertEqual(ticket.ask(who), 0)
        ticket.go_as(OTHER)
        self.assertEqual((ticket.waits, self.timers, ticket.ask(who)), (False, [], 5000))
        self.assertEqual(self.ticket(limiters, OTHER).ask(who), 5000)
        self.assertEqual(self.ticket(limiters, OTHER).ask(who), 0)

    def test_connections(self) -> None:
        """Each direction of each connection has its own, also of a client without an address."""
        limiters, who = self.limiters(bandwidth_per_connection=RATE), FakeWaiter()
        self.assertEqual(limiters.slice, 5000)
        tickets = [self.ticket(limiters, client, side) for client in (ONE, UnixAddress("")) for side in Side]
        for ticket in (*tickets, self.ticket(limiters, ONE)):
            self.assertEqual([ticket.ask(who) for _ in range(3)], [5000, 5000, 0])
        self.assertEqual(self.timers, [0.05] * 5)
        for ticket in tickets:
            ticket.leave()
        self.assertEqual(self.timers, [0.05])

    def test_connection_first(self) -> None:
        """A connection that has used up its own share leaves those of address and rule to others."""
        limiters = self.limiters(
            bandwidth=RATE, bandwidth_per_source=RATE, bandwidth_per_connection=RATE // 2
        )
        one, other, who, stranger = self.ticket(limiters), self.ticket(limiters), FakeWaiter(), FakeWaiter()
        self.assertEqual([one.ask(who) for _ in range(3)], [2500, 2500, 0])
        self.assertEqual([other.ask(stranger) for _ in range(3)], [2500, 2500, 0])
        self.clock.advance(0.05)
        self.assertEqual((who.got, stranger.got), ([2500], [2500]))

    def test_connection_stays(self) -> None:
        """A client that turns out to be another has no fresh share for its connection."""
        limiters, who = self.limiters(bandwidth_per_connection=RATE), FakeWaiter()
        ticket = self.ticket(limiters, ONE)
        ticket.settle(0, 10_000)
        ticket.go_as(OTHER)
        self.assertEqual(ticket.ask(who), 0)

    def test_repr(self) -> None:
        """One line that says what there is."""
        limiters = self.limiters(bandwidth=RATE, bandwidth_per_source=RATE)
        self.ticket(limiters, ONE)
        self.assertIn("100000/s, 0 waiting", repr(limiters))
        self.assertIn("1 known", repr(limiters))
        self.assertIn("at hand", repr(self.ticket(limiters)))
