"""Clients of a listener that is closed: they wait for limits and descriptors, and are served in turns."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.descriptors import PER_SESSION, RESERVE, DescriptorBudget
from portfwd.listen.accept_limit import Accept
from portfwd.listen.late_clients import BATCH, LateClients
from portfwd.values import Address


class OneSlot:
    """A gate that lets nobody in while it is closed."""

    def __init__(self) -> None:
        self.closed = 0.0
        self.waiting: list[Callable[[], None]] = []

    def closed_for(self, now: float) -> float:
        return self.closed

    def wait(self, wake: Callable[[], None]) -> None:
        self.waiting.append(wake)

    def forget(self, wake: Callable[[], None]) -> None:
        if wake in self.waiting:
            self.waiting.remove(wake)

    def pass_on(self) -> None:
        """Nobody else is here."""


class LateClientsTests(SynchronousTestCase):
    """`LateClients`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.budget = DescriptorBudget(0, 0)
        self.accept_limit = OneSlot()
        self.served: list[socket.socket] = []
        self.over: list[int] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        self.addCleanup(self.listening.close)

    def late(self, count: int, accept: Accept | None = None) -> LateClients:
        """So many clients that were accepted late."""
        self.clients = [socket.create_connection(self.listening.getsockname()) for _ in range(count)]
        for client in self.clients:
            client.settimeout(10)
            self.addCleanup(client.close)
        late = LateClients("a", self.clock, self.budget, accept or self.accept, self.accept_limit)
        late.take(self.listening, int(socket.AF_INET), 1000)
        late.over = lambda: self.over.append(1)
        return late

    def accept(self, client: socket.socket, address: Address | None) -> None:
        """A session begins."""
        self.served.append(client)
        self.addCleanup(client.close)

    def test_batches(self) -> None:
        """All are served, a batch in each turn, and each has the descriptors of a session."""
        late = self.late(BATCH + 3)
        self.assertEqual((len(late), self.budget.spent), (BATCH + 3, BATCH + 3))
        late.serve()
        self.assertEqual((len(self.served), self.over), (BATCH, []))
        self.clock.advance(0)
        self.assertEqual((len(self.served), self.over), (BATCH + 3, [1]))
        self.assertEqual(self.budget.spent, (BATCH + 3) * PER_SESSION)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_most(self) -> None:
        """No more are taken than were asked for: others come meanwhile."""
        late = self.late(0)
        for _ in range(3):
            self.addCleanup(socket.create_connection(self.listening.getsockname()).close)
        late.take(self.listening, int(socket.AF_INET), 2)
        self.assertEqual(len(late), 2)
        late.stop()

    def test_limit(self) -> None:
        """Who waits for a limit is served when it lets somebody in; a rate is asked again in time."""
        late = self.late(2)
        self.accept_limit.closed = math.inf
        late.serve()
        self.assertEqual((self.served, len(self.accept_limit.waiting)), ([], 1))
        self.accept_limit.closed = 2.0
        self.accept_limit.waiting.pop()()
        self.assertEqual(self.served, [])
        self.accept_limit.closed = 0.0
        self.clock.advance(2.0)
        self.assertEqual((len(self.served), self.over), (2, [1]))

    def test_descriptors(self) -> None:
        """Who waits for descriptors is served when some are given back; others are left in the backlog."""
        self.budget = DescriptorBudget(RESERVE + 2, 0)
        late = self.late(3)
        self.assertEqual(len(late), 2)
        late.serve()
        self.assertEqual(self.served, [])
        self.budget.limit += 2
        self.budget.give_back(0)
        self.assertEqual(len(self.served), 2)

    def test_stop(self) -> None:
        """Who still waits at the end is reset."""
        late = self.late(2)
        self.accept_limit.closed = math.inf
        late.serve()
        late.stop()
        self.assertEqual(
            (self.accept_limit.waiting, self.over, self.budget.spent, len(late)), ([], [1], 0, 0)
        )
        for client in self.clients:
            self.assertRaises(ConnectionResetError, client.recv, 1)
        self.assertEqual(repr(late), "<LateClients of a: 0 waiting>")

    def test_accident(self) -> None:
        """One client's accident is not the others'."""

        def accept(client: socket.socket, address: Address | None) -> None:
            if not self.served:
                self.served.append(client)
                raise ZeroDivisionError
            self.accept(client, address)

        late = self.late(2, accept)
        late.serve()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((len(self.served), self.over, self.budget.spent), (2, [1], PER_SESSION))
