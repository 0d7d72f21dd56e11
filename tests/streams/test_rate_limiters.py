"""Tests of gates: tickets, queues of two kinds at once, and one timer that runs only for those who wait."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.pacing import MAX_SLICE
from portfwd.rules.model import Options
from portfwd.streams.rate_limiters import LEAST_WAIT, Gates, Ticket
from portfwd.values import InetAddress, Side, UnixAddress

#: Slices of 5000 bytes, of which two are there at once.
RATE = 100_000
ONE = InetAddress("192.0.2.1", 1)
ONE_AGAIN = InetAddress("::ffff:192.0.2.1", 2)
OTHER = InetAddress("192.0.2.2", 1)


class Traveller:
    """Writes down what it is granted."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def granted(self, count: int) -> None:
        self.got.append(count)


class GateCase(SynchronousTestCase):
    """A clock, and gates."""

    def setUp(self) -> None:
        self.clock = Clock()

    def gates(self, **options: int) -> Gates:
        """A rule's."""
        return Gates(self.clock, Options(**options))

    def ticket(
        self, gates: Gates, client: InetAddress | UnixAddress = ONE, side: Side = Side.CLIENT
    ) -> Ticket:
        """One for a limited direction."""
        ticket = gates.ticket(side, client)
        assert ticket is not None
        return ticket

    @property
    def timers(self) -> list[float]:
        """When timers are due."""
        return [round(call.getTime(), 6) for call in self.clock.getDelayedCalls()]


class TicketTests(GateCase):
    """One gate."""

    def test_at_once(self) -> None:
        """While there are bytes no timer is needed."""
        ticket, who = self.ticket(self.gates(bandwidth=RATE)), Traveller()
        self.assertEqual([ticket.ask(who), ticket.ask(who)], [5000, 5000])
        self.assertEqual((ticket.waits, ticket.waited, self.timers, who.got), (False, 0.0, [], []))

    def test_waits(self) -> None:
        """Who has to wait is told when it is his turn; the timer is gone with the last who waits."""
        gates = self.gates(bandwidth=RATE)
        ticket, who = self.ticket(gates), Traveller()
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
        gates = self.gates(bandwidth=RATE)
        people = [Traveller() for _ in range(5)]
        tickets = [self.ticket(gates) for _ in people]
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
        gates = self.gates(bandwidth=RATE, bandwidth_down=200_000)
        up, down = self.ticket(gates), self.ticket(gates, side=Side.UPSTREAM)
        up.settle(0, 10_000)
        self.assertEqual((up.is_open, up.ask(Traveller())), (True, 0))
        self.assertEqual((down.most, down.ask(Traveller())), (10_000, 10_000))

    def test_unlimited(self) -> None:
        """A direction that nothing limits needs no ticket."""
        self.assertIsNone(self.gates(bandwidth_down=RATE).ticket(Side.CLIENT, ONE))

    def test_given_back(self) -> None:
        """What one does not use is the next one's at once, without a timer in between."""
        gates = self.gates(bandwidth=RATE)
        one, other, who = self.ticket(gates), self.ticket(gates), Traveller()
        self.assertEqual([one.ask(who), one.ask(who), other.ask(who)], [5000, 5000, 0])
        one.settle(5000, 100)
        self.assertEqual(who.got, [])
        one.settle(5000, 4900)
        self.assertEqual((who.got, self.timers), ([5000], []))

    def test_leave(self) -> None:
        """Who leaves is not told, and leaves no timer; the next one's turn comes as it would have."""
        gates = self.gates(bandwidth=RATE)
        one, other, who, next_one = self.ticket(gates), self.ticket(gates), Traveller(), Traveller()
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
        gates = self.gates(bandwidth=RATE)
        ticket, who = self.ticket(gates), Traveller()
        ticket.settle(0, 20_000)
        self.assertEqual((ticket.is_open, ticket.ask(who), self.timers), (False, 0, [0.15]))

    def test_high_rates(self) -> None:
        """Where slices are due faster than timers should run, several pass at a time."""
        gates = self.gates(bandwidth=1024**3)
        people = [Traveller() for _ in range(40)]
        tickets = [self.ticket(gates) for _ in people]
        tickets[0].settle(0, 1024**3 // 10)
        for ticket, who in zip(tickets, people, strict=True):
            ticket.ask(who)
        self.assertEqual((tickets[0].most, self.timers), (MAX_SLICE, [LEAST_WAIT]))
        self.clock.advance(LEAST_WAIT)
        self.assertEqual(sum(len(who.got) for who in people), int(1024**3 * LEAST_WAIT // MAX_SLICE))

    def test_telling_leads_to_more(self) -> None:
        """Who is told may ask again, give back, or leave: each turn is somebody's, and only once."""
        gates = self.gates(bandwidth=RATE)
        tickets = [self.ticket(gates) for _ in range(3)]
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


class SourceTests(GateCase):
    """Gates of addresses."""

    def test_addresses_share(self) -> None:
        """Sessions of one address share, in whichever form it is written; others have their own."""
        gates, who = self.gates(bandwidth_per_source=RATE), Traveller()
        self.ticket(gates, ONE).settle(0, 10_000)
        self.assertEqual(self.ticket(gates, ONE_AGAIN).ask(who), 0)
        self.assertEqual(self.ticket(gates, OTHER).ask(who), 5000)
        self.assertEqual(self.ticket(gates, ONE, Side.UPSTREAM).ask(who), 5000)

    def test_no_address(self) -> None:
        """A client of a unix socket has none, so nothing is his own."""
        gates, who = self.gates(bandwidth_per_source=RATE), Traveller()
        ticket = self.ticket(gates, UnixAddress(""))
        self.assertEqual([ticket.ask(who) for _ in range(9)], [MAX_SLICE] * 9)

    def test_both(self) -> None:
        """Both limits hold: first the address's, then everybody's, and a slice is the smaller one's."""
        gates = self.gates(bandwidth=2 * RATE, bandwidth_per_source=RATE)
        self.assertEqual(gates.slice, 5000)
        one, other = self.ticket(gates, ONE), self.ticket(gates, OTHER)
        who, stranger = Traveller(), Traveller()
        self.assertEqual([one.ask(who) for _ in range(3)], [5000, 5000, 0])
        # His own bytes are used up; of everybody's there are some, and others get them.
        self.assertEqual([other.ask(stranger) for _ in range(3)], [5000, 5000, 0])
        self.assertEqual(self.timers, [0.05, 0.05])
        self.clock.advance(0.05)
        self.assertEqual((who.got, stranger.got), ([5000], [5000]))

    def test_waits_twice(self) -> None:
        """Who is through the first gate may wait at the second; leaving gives back what the first gave."""
        gates = self.gates(bandwidth=RATE, bandwidth_per_source=RATE)
        one, other, who = self.ticket(gates, ONE), self.ticket(gates, OTHER), Traveller()
        other.settle(0, 10_000)
        self.assertEqual((one.ask(who), self.timers), (0, [0.05]))
        one.leave()
        self.assertEqual(self.timers, [])
        one.ask(who)
        self.clock.advance(0.05)
        self.assertEqual((who.got, round(one.waited, 3)), ([5000], 0.05))
        own = gates._sources[Side.CLIENT].of(ONE.host)
        self.assertEqual(own._pace._bucket.level(self.clock.seconds()), 5000 + 5000)

    def test_another_address(self) -> None:
        """Who turns out to be somebody else waits no more, and counts for that address from then on."""
        gates, who = self.gates(bandwidth_per_source=RATE), Traveller()
        ticket = self.ticket(gates, ONE)
        ticket.settle(0, 10_000)
        self.assertEqual(ticket.ask(who), 0)
        ticket.go_as(OTHER)
        self.assertEqual((ticket.waits, self.timers, ticket.ask(who)), (False, [], 5000))
        self.assertEqual(self.ticket(gates, OTHER).ask(who), 5000)
        self.assertEqual(self.ticket(gates, OTHER).ask(who), 0)

    def test_connections(self) -> None:
        """Each direction of each connection has its own, also of a client without an address."""
        gates, who = self.gates(bandwidth_per_connection=RATE), Traveller()
        self.assertEqual(gates.slice, 5000)
        tickets = [self.ticket(gates, client, side) for client in (ONE, UnixAddress("")) for side in Side]
        for ticket in (*tickets, self.ticket(gates, ONE)):
            self.assertEqual([ticket.ask(who) for _ in range(3)], [5000, 5000, 0])
        self.assertEqual(self.timers, [0.05] * 5)
        for ticket in tickets:
            ticket.leave()
        self.assertEqual(self.timers, [0.05])

    def test_connection_first(self) -> None:
        """A connection that has used up its own share leaves those of address and rule to others."""
        gates = self.gates(bandwidth=RATE, bandwidth_per_source=RATE, bandwidth_per_connection=RATE // 2)
        one, other, who, stranger = self.ticket(gates), self.ticket(gates), Traveller(), Traveller()
        self.assertEqual([one.ask(who) for _ in range(3)], [2500, 2500, 0])
        self.assertEqual([other.ask(stranger) for _ in range(3)], [2500, 2500, 0])
        self.clock.advance(0.05)
        self.assertEqual((who.got, stranger.got), ([2500], [2500]))

    def test_connection_stays(self) -> None:
        """A client that turns out to be another has no fresh share for its connection."""
        gates, who = self.gates(bandwidth_per_connection=RATE), Traveller()
        ticket = self.ticket(gates, ONE)
        ticket.settle(0, 10_000)
        ticket.go_as(OTHER)
        self.assertEqual(ticket.ask(who), 0)

    def test_repr(self) -> None:
        """One line that says what there is."""
        gates = self.gates(bandwidth=RATE, bandwidth_per_source=RATE)
        self.ticket(gates, ONE)
        self.assertIn("100000/s, 0 waiting", repr(gates))
        self.assertIn("1 known", repr(gates))
        self.assertIn("at hand", repr(self.ticket(gates)))
