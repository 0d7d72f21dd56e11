"""Tests for the order of targets: one question, one object."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import ConnectRefused, NotPermitted, OutOfResources, TargetsDown, TargetsFull
from portfwd.relay.destination import Destination
from portfwd.relay.target_order import Balanced, InOrder
from portfwd.rules.model import Options
from portfwd.upstreams.health import TargetState, Verdict
from portfwd.upstreams.pool import Member, Pool
from portfwd.upstreams.states import TargetStates


class InOrderTests(SynchronousTestCase):
    """`InOrder`."""

    def test_order(self) -> None:
        """Each target once, in the order given, then none."""
        targets = [Destination(label, Options()) for label in "abc"]
        order = InOrder(targets)
        self.assertEqual(repr(order), "<InOrder 3 left>")
        self.assertEqual([order.next() for _ in range(4)], [*targets, None])

    def test_slots(self) -> None:
        """A chosen target has a slot taken; a full one is an error that names the limit."""
        one = Destination("a", Options(max_conns_per_target=1))
        self.assertIs(InOrder([one]).next(), one)
        self.assertEqual(one.occupancy.taken, 1)
        order = InOrder([one])
        refused = order.next()
        self.assertIsInstance(refused, TargetsFull)
        self.assertEqual(str(refused), "a: max-conns-per-target=1")
        self.assertIsNone(order.next())

    def test_again(self) -> None:
        """After `renew` each target is tried once more; outcomes do not matter here."""
        targets = [Destination(label, Options()) for label in "ab"]
        order = InOrder(targets)
        for target in targets:
            self.assertIs(order.next(), target)
            order.failed(target, ConnectRefused("no"))
            order.reached(target)
            order.answered(target)
        order.renew()
        self.assertEqual([order.next() for _ in range(3)], [*targets, None])


class BalancedTests(SynchronousTestCase):
    """`Balanced`."""

    def setUp(self) -> None:
        """Three targets."""
        self.clock = Clock()
        self.states = TargetStates(self.clock.seconds)
        self.options: dict[str, Any] = {"max_fails": 1}
        self.make()

    def make(self, count: int = 3, *, datagrams: bool = False, **options: Any) -> None:
        """So many."""
        own = Options(**self.options, **options)
        self.targets = [Destination(f"t{number}", own, datagrams=datagrams) for number in range(count)]
        members = [
            Member(one.key, one.label, one, own, self.states.of(one.key, one.label, ()), one.occupancy)
            for one in self.targets
        ]
        self.pool = Pool(members, own, lambda: 0.5)

    def order(self, tries: int | None = None, **more: Any) -> Balanced:
        """The order of one more session."""
        for one in self.pool.members:
            one.health.watchers.add(self)  # type: ignore[attr-defined]
        return Balanced(self.pool, self.states, "192.0.2.7", tries, **more)

    name = "web"

    def health_changed(self, health: object, change: object) -> None:
        """As a rule does."""
        self.pool.stale()

    def labels(self, order: Balanced) -> list[str]:
        """The labels of all that it gives."""
        found = []
        while isinstance(chosen := order.next(), Destination):
            found.append(chosen.label)
        return found

    def test_outcomes(self) -> None:
        """A failed dial ejects, a reached target is readmitted; our own trouble does not count."""
        order = self.order()
        first, second = order.next(), order.next()
        assert isinstance(first, Destination)
        assert isinstance(second, Destination)
        order.failed(second, OutOfResources("no descriptor"))
        order.failed(second, NotPermitted("a filter"))
        order.failed(first, ConnectRefused("refused"))
        self.assertEqual(self.labels(self.order()), ["t1", "t2", "t0"])
        order.reached(first)
        self.assertEqual(self.labels(self.order()), ["t0", "t1", "t2"])
        self.assertEqual(repr(order), "<Balanced 2 given of <Pool first, 3 of 3 fit>>")

    def test_stranger(self) -> None:
        """Of a target that it did not give nothing is told."""
        order = self.order()
        for tell in (order.reached, order.answered):
            tell(self.targets[0])
        order.failed(self.targets[0], ConnectRefused("refused"))
        self.assertEqual(self.labels(self.order()), ["t0", "t1", "t2"])

    def test_tries(self) -> None:
        """``tries=`` bounds the targets of one session; after `renew` it may try as many again."""
        order = self.order(2)
        self.assertEqual(self.labels(order), ["t0", "t1"])
        order.renew()
        self.assertEqual(self.labels(order), ["t0", "t1"])

    def test_full(self) -> None:
        """A full target is an error, counts as no try, and the next one has its turn."""
        self.make(2, max_conns_per_target=1)
        self.assertEqual(self.labels(self.order(1)), ["t0"])
        order = self.order(1)
        self.assertIsInstance(order.next(), TargetsFull)
        self.assertEqual(self.labels(order), ["t1"])

    def test_all_down(self) -> None:
        """With all down and ``all-down=close`` there is one answer: that they are."""
        from portfwd.rules.model import AllDown as Word

        self.make(2, all_down=Word.CLOSE)
        for one in self.pool.members:
            self.states.failed(one, "refused")
        order = self.order()
        self.assertIsInstance(order.next(), TargetsDown)
        self.assertIsNone(order.next())

    def test_drained(self) -> None:
        """The same is said where an operator has drained them all, whatever ``all-down=`` says."""
        for one in self.pool.members:
            self.pool.order(one.label, TargetState.DRAIN, 0)
        order = self.order()
        self.assertIsInstance(order.next(), TargetsDown)
        self.assertIsNone(order.next())

    def test_single(self) -> None:
        """A single target's failures are not counted."""
        self.make(1)
        order = self.order()
        self.assertEqual(self.labels(order), ["t0"])
        order.failed(self.targets[0], ConnectRefused("refused"))
        self.assertIs(self.pool.members[0].health.state, TargetState.UP)

    def test_datagrams(self) -> None:
        """Only an answer shows that somebody takes datagrams; unreachable ones come last."""
        self.make(datagrams=True)
        order = self.order(unreachable=lambda one: one is self.targets[0])
        self.assertEqual([one.key for one in self.targets], ["t0/udp", "t1/udp", "t2/udp"])
        self.assertEqual(self.labels(order), ["t1", "t2", "t0"])
        order.failed(self.targets[1], ConnectRefused("port unreachable"))
        health = self.pool.members[1].health
        order.reached(self.targets[1])
        self.assertIs(health.state, TargetState.DOWN)
        order.answered(self.targets[1])
        self.assertIs(health.state, TargetState.UP)
        self.assertEqual(order.targets, self.targets)

    def test_checked(self) -> None:
        """A verdict is told to the rules that have the target."""
        health = self.states.of("t0", "t0", ("tcp",))
        health.watchers.add(self)
        self.states.checked(health, "tcp", Verdict(False, "refused"), 0.1, 2, 3)
        self.assertTrue(self.pool.is_stale)
