"""Tests of `portfwd.relay.balancing`, by rules at work: pools, orders, sessions of targets that go down."""

from __future__ import annotations

from typing import Any, cast

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.platform import Platform
from portfwd.relay.context import RelayContext
from portfwd.relay.destination import Destination
from portfwd.relay.live import LiveRule
from portfwd.rules import parse
from portfwd.rules.access import AccessList
from portfwd.rules.model import TargetSpec
from portfwd.service.build.targets import destination
from portfwd.upstreams.health import TargetState
from portfwd.upstreams.pool import Order
from portfwd.values import CloseReason
from tests.relay.fakes import FakeDial, FakeStream, SessionLines


class RuleCase(SynchronousTestCase):
    """Rules whose dials the test answers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.lines = SessionLines()
        self.dials: list[FakeDial] = []
        self.context = RelayContext(
            reactor=cast(Any, self.clock),
            platform=Platform(own_sockets=True, epoll=False),
            names=cast(Any, None),
            streams=cast(Any, None),
        )

    def rule(self, text: str) -> LiveRule:
        """A rule from its text."""
        (rule,) = parse(text, "f").rules
        ready: dict[object, Destination] = {
            one: destination(one, 0, self.context) for one in rule.every_target()
        }
        return LiveRule(
            rule,
            rule.name,
            [ready[one] for one in rule.targets],
            AccessList(()),
            self.context,
            self.lines,
            lambda: 0.0,
            routes=ready,
        )

    def session(self, rule: LiveRule, number: int = 0) -> FakeStream:
        """A session that has reached the rule's target of that number."""
        self.patch(LiveRule, "dial", lambda rule, owner, **named: self.dial(rule, owner))
        client = FakeStream(self.clock)
        rule.accept(client, lambda: None)
        target = rule.destinations[number]
        target.take()
        self.dials[-1].owner.dialled(FakeStream(self.clock), target)
        return client

    def dial(self, rule: LiveRule, owner: Any) -> FakeDial:
        """A dial that the test answers."""
        self.dials.append(FakeDial(rule, owner))
        return self.dials[-1]


class PoolTests(RuleCase):
    """Which rules have pools."""

    def test_one_target(self) -> None:
        """A rule with one target has none, and counts no sessions."""
        rule = self.rule("web: :80 -> 10.0.0.1:80")
        self.assertIsNone(rule.balancing.pool())
        self.assertFalse(rule.counts_targets)
        self.assertEqual([view for *_, view in rule.balancing.views()], [None])

    def test_several(self) -> None:
        """Several have one; the same target twice is one."""
        rule = self.rule("web: :80 -> 10.0.0.1:80, 10.0.0.2:80, 10.0.0.1:80 balance=leastconn")
        pool = rule.balancing.pool()
        assert pool is not None
        self.assertEqual([one.label for one in pool.members], ["10.0.0.1:80", "10.0.0.2:80"])
        self.assertTrue(rule.counts_targets)
        self.assertEqual(repr(rule.balancing), "<Balancing of web, 1 pools>")

    def test_routes(self) -> None:
        """A name that routes lead to may stand for several targets; one that a client chose has no pool."""
        rule = self.rule(
            "web: :80 -> 10.0.0.1:80\n filter sni\n route * -> git\n"
            " target git=10.0.0.2:80\n target git=10.0.0.3:80"
        )
        first, second = rule.rule.named_targets
        self.assertIsNone(rule.balancing.pool())
        pool = rule.balancing.pool(first)
        assert pool is not None
        self.assertIs(rule.balancing.pool(second), pool)
        self.assertEqual([one.label for one in pool.members], ["10.0.0.2:80", "10.0.0.3:80"])
        self.assertIsNone(rule.balancing.pool(evolve(first, name="x")))
        self.assertEqual(
            [(name, one.label) for name, one, _ in rule.balancing.views()],
            [("", "10.0.0.1:80"), ("git", "10.0.0.2:80"), ("git", "10.0.0.3:80")],
        )
        self.assertIsInstance(first, TargetSpec)

    def test_shared_state(self) -> None:
        """Rules with the same target share its health; a rule in another's place finds it again."""
        web = self.rule("web: :80 -> 10.0.0.1:80, 10.0.0.2:80 max-fails=1")
        app = self.rule("app: :81 -> 10.0.0.1:80, 10.0.0.3:80")
        pools = [rule.balancing.pool() for rule in (web, app)]
        assert pools[0] is not None
        assert pools[1] is not None
        self.context.targets.failed(pools[0].members[0], "refused")
        self.assertEqual([pool.members[0].health.state for pool in pools if pool], [TargetState.DOWN] * 2)
        again = self.rule("web: :80 -> 10.0.0.9:80, 10.0.0.1:80").balancing.pool()
        assert again is not None
        chosen = [Order(again).next(0.0) for _ in range(2)]
        self.assertEqual([one.label for one in chosen if one], ["10.0.0.9:80"] * 2)
        self.assertIs(again.members[1].health.state, TargetState.DOWN)


class OrderTests(RuleCase):
    """What operators say."""

    def test_order(self) -> None:
        """An order holds over reloads until it is taken back, and gives a rule with one target a pool."""
        rule = self.rule("web: :80 -> 10.0.0.1:80")
        self.assertFalse(rule.order_target("10.0.0.2:80", TargetState.DRAIN))
        self.assertTrue(rule.order_target("10.0.0.1:80", TargetState.DRAIN))
        for one in (rule, self.rule("web: :80 -> 10.0.0.1:80 idle=5m")):
            pool = one.balancing.pool()
            assert pool is not None
            self.assertIs(pool.members[0].ordered, TargetState.DRAIN)
            self.assertIsNone(Order(pool).next(0.0))
        rule.order_target("10.0.0.1:80", None)
        self.assertIsNone(self.rule("web: :80 -> 10.0.0.1:80").balancing.pool())

    def test_healths(self) -> None:
        """Every target with a health is listed once."""
        rule = self.rule(
            "web: :80 -> 10.0.0.1:80, 10.0.0.2:80\n filter sni\n route * -> git\n"
            " target git=10.0.0.2:80\n target git=10.0.0.3:80"
        )
        labels = [one.label for one, _ in rule.balancing.healths()]
        self.assertEqual(labels, ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"])


class DownTests(RuleCase):
    """``on-down=close``."""

    def test_closed(self) -> None:
        """The sessions of that target are closed within a second, bit by bit, with ``UD``; others stay."""
        rule = self.rule("web: :80 -> 10.0.0.1:80, 10.0.0.2:80 max-fails=1 on-down=close")
        gone = [self.session(rule) for _ in range(100)]
        kept = self.session(rule, 1)
        pool = rule.balancing.pool()
        assert pool is not None
        self.context.targets.failed(pool.members[0], "refused")
        closed = sum(one.is_lost for one in gone)
        self.assertLessEqual(closed, 2)
        for _ in range(50):
            self.clock.advance(0.02)
            now = sum(one.is_lost for one in gone)
            self.assertLessEqual(now - closed, 2)
            closed = now
        self.assertEqual(closed, 100)
        self.assertFalse(kept.is_lost)
        self.assertEqual(set(self.lines.reasons), {CloseReason.TARGET_DOWN})

    def test_kept(self) -> None:
        """Without it, and for a target that drains, sessions stay."""
        rule = self.rule("web: :80 -> 10.0.0.1:80, 10.0.0.2:80 max-fails=1")
        client = self.session(rule)
        pool = rule.balancing.pool()
        assert pool is not None
        self.context.targets.failed(pool.members[0], "refused")
        self.assertFalse(client.is_lost)
        draining = self.rule("app: :80 -> 10.0.0.1:80, 10.0.0.2:80 on-down=close")
        client = self.session(draining)
        draining.order_target("10.0.0.1:80", TargetState.DRAIN)
        self.assertFalse(client.is_lost)
        draining.order_target("10.0.0.1:80", TargetState.DOWN)
        self.clock.advance(1)
        self.assertTrue(client.is_lost)

    def test_of_an_older_rule(self) -> None:
        """Sessions that began before a reload are closed too; their counts go on in the heir's pool."""
        text = "web: :80 -> 10.0.0.1:80, 10.0.0.2:80 balance=leastconn max-fails=1 on-down=close"
        old = self.rule(text)
        client = self.session(old)
        heir = self.rule(text + " idle=5m")
        heir.inherit(old)
        for _ in old.count_for(heir):
            pass
        pool = heir.balancing.pool()
        assert pool is not None
        self.assertEqual([one.taken for one in pool.members], [1, 0])
        self.context.targets.failed(pool.members[0], "refused")
        self.clock.advance(1)
        self.assertTrue(client.is_lost)
        self.assertEqual([one.taken for one in pool.members], [0, 0])

    def succeeded(self, before: str, after: str) -> tuple[LiveRule, FakeStream, LiveRule]:
        """A rule with a session at its first target, and the rule that takes its place."""
        self.lines = SessionLines()
        old = self.rule(f"web: :80 -> {before}")
        client = self.session(old)
        heir = self.rule(f"web: :80 -> {after}")
        heir.inherit(old)
        heir.succeed(old)
        return old, client, heir

    def goes_down(self, rule: LiveRule) -> None:
        """The first target of `rule` fails."""
        pool = rule.balancing.pool()
        assert pool is not None
        self.context.targets.failed(pool.members[0], "refused")
        self.clock.advance(1)

    def test_newest_options(self) -> None:
        """For older sessions counts what the rule in the place of theirs says, if it has their target."""
        two = "10.0.0.1:80, 10.0.0.2:80 max-fails=1"
        _, client, heir = self.succeeded(two, f"{two} on-down=close")
        self.assertFalse(client.is_lost)
        self.goes_down(heir)
        self.assertTrue(client.is_lost)
        two = two.replace("10.0.0", "10.0.1")
        _, client, heir = self.succeeded(f"{two} on-down=close", two)
        self.goes_down(heir)
        self.assertFalse(client.is_lost)
        two = two.replace("10.0.1", "10.0.2")
        old, client, _ = self.succeeded(f"{two} on-down=close", "10.0.3.1:80, 10.0.3.2:80")
        self.goes_down(old)
        self.assertTrue(client.is_lost, "the newer rule does not have that target")

    def test_down_already(self) -> None:
        """A new ``on-down=close`` closes older sessions at a target that is down; one of before does not."""
        two = "10.0.0.1:80, 10.0.0.2:80 max-fails=1"
        old = self.rule(f"web: :80 -> {two}")
        client = self.session(old)
        self.goes_down(old)
        heir = self.rule(f"web: :80 -> {two} on-down=close")
        heir.succeed(old)
        self.assertTrue(client.is_lost)
        heir.log = SessionLines()
        again = self.session(heir)  # all-down=try
        last = self.rule(f"web: :80 -> {two} on-down=close idle=5m")
        last.succeed(heir)
        self.clock.advance(1)
        self.assertFalse(again.is_lost)

    def test_ordered_down(self) -> None:
        """An operator's order closes older sessions once, as the newest rule says."""
        two = "10.0.0.1:80, 10.0.0.2:80"
        old, client, heir = self.succeeded(f"{two} on-down=close", two)
        heir.order_target("10.0.0.1:80", TargetState.DOWN)
        old.obey_order("10.0.0.1:80", TargetState.DOWN)
        self.clock.advance(1)
        self.assertFalse(client.is_lost)

    def test_gone_meanwhile(self) -> None:
        """Nothing is left to do when the sessions have gone by themselves."""
        rule = self.rule("web: :80 -> 10.0.0.1:80, 10.0.0.2:80 max-fails=1 on-down=close")
        clients = [self.session(rule) for _ in range(60)]
        pool = rule.balancing.pool()
        assert pool is not None
        self.context.targets.failed(pool.members[0], "refused")
        rule.close_all(CloseReason.KILLED, now=True)
        self.assertTrue(all(one.is_lost for one in clients))
        self.assertEqual(self.clock.getDelayedCalls(), [])
