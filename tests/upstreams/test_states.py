"""Tests of `portfwd.upstreams.states`: one health for each address, and the rules that are told."""

from __future__ import annotations

import gc

from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.upstreams.health import Health, StateChange, TargetState, Verdict
from portfwd.upstreams.states import TargetStates
from tests.upstreams.targets import member


class Watcher:
    """A rule."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.changes: list[StateChange] = []

    def health_changed(self, health: Health, change: StateChange) -> None:
        self.changes.append(change)


class StatesTests(SynchronousTestCase):
    """`TargetStates`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.states = TargetStates(self.clock.seconds)
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    @property
    def lines(self) -> list[str]:
        """What was logged."""
        return [formatEvent(one) for one in self.events if "target" in one]

    def test_shared(self) -> None:
        """The same address with the same checks has one health, for as long as it is in use."""
        one = self.states.of("a", "a", ("tcp",))
        self.assertIs(self.states.of("a", "a", ("tcp",)), one)
        self.assertIsNot(self.states.of("b", "b", ("tcp",)), one)
        other = self.states.of("a", "a", ())
        self.assertIsNot(other, one)
        self.assertEqual(repr(self.states), "<TargetStates 2 known, 0 ordered>")
        del one, other
        gc.collect()
        self.assertEqual(repr(self.states), "<TargetStates 0 known, 0 ordered>")

    def test_other_checks(self) -> None:
        """With other checks it begins as the address is known."""
        one = self.states.of("a", "a", ("tcp",))
        one.checked("tcp", Verdict(False, "refused"), 1, 0.1)
        self.assertIs(self.states.of("a", "a", ("tcp", "http")).state, TargetState.DOWN)

    def test_one_line(self) -> None:
        """A change is logged once, with its cause and the rules, and all of these are told."""
        watchers = [Watcher(name) for name in ("web", "app", "app")]
        health = self.states.of("a", "a", ("tcp",))
        for watcher in watchers:
            health.watchers.add(watcher)
        self.states.checked(health, "tcp", Verdict(False, "refused"), 0.1, 2, 3)
        self.states.checked(health, "tcp", Verdict(False, "refused"), 0.1, 2, 3)
        self.assertEqual(self.lines, ["app, web: target a is down: refused"])
        event = self.events[-1]
        self.assertEqual((event["before"], event["state"], event["cause"]), ("up", "down", "refused"))
        self.assertEqual([len(one.changes) for one in watchers], [1, 1, 1])
        many = self.states.of("b", "b", ("tcp",))
        kept = [Watcher(str(number)) for number in range(9)]
        for watcher in kept:
            many.watchers.add(watcher)
        self.states.checked(many, "tcp", Verdict(False, "refused"), 0.1, 2, 3)
        self.assertEqual(self.lines[-1], "0, 1, 2, 3, and 5 more: target b is down: refused")

    def test_unanswered(self) -> None:
        """A check without a verdict keeps the state, and is logged once until there is a verdict."""
        health = self.states.of("a", "a", ("agent",))
        check = health.checks["agent"]
        for cause in ("refused", "refused", "no answer"):
            self.states.unanswered(health, "agent", cause)
            self.assertEqual((check.problem, health.state), (cause, TargetState.UP))
        verdict = Verdict(True, "up")
        self.states.checked(health, "agent", verdict, 0.1, 1, 1)
        self.states.unanswered(health, "agent", "refused")
        self.states.checked(health, "agent", verdict, 0.1, 1, 1)
        self.assertEqual(check.problem, "")
        self.assertEqual(
            self.lines,
            [
                "-: target a stays up: refused",
                "-: target a: there are verdicts again: up",
                "-: target a stays up: refused",
                "-: target a: there are verdicts again: up",
            ],
        )

    def test_problem(self) -> None:
        """A check that fails, but not often enough to count, has a problem."""
        health = self.states.of("a", "a", ("tcp",))
        check = health.checks["tcp"]
        self.states.checked(health, "tcp", Verdict(True, "connected"), 0.1, 2, 2)
        self.assertEqual(check.problem, "")
        self.states.checked(health, "tcp", Verdict(False, "refused"), 0.1, 2, 2)
        self.assertEqual((check.problem, health.state), ("refused", TargetState.UP))
        self.states.checked(health, "tcp", Verdict(False, "refused"), 0.1, 2, 2)
        self.assertEqual((check.problem, health.state), ("", TargetState.DOWN))

    def test_share(self) -> None:
        """A share that a check asks for is a change of its own."""
        health = self.states.of("a", "a", ("agent",))
        watcher = Watcher("web")
        health.watchers.add(watcher)
        self.states.checked(health, "agent", Verdict(True, "agent: 50%", share=0.5), 0.1, 2, 3)
        self.assertEqual(self.lines, ["web: target a is now up: agent: 50%"])
        self.assertEqual(watcher.changes, [StateChange(TargetState.UP, TargetState.UP, "agent: 50%")])

    def test_dials(self) -> None:
        """Dials count by the options of the target that was dialled."""
        one = member("a", max_fails=1, fail_timeout=5.0)
        self.states.failed(one, "refused")
        self.assertEqual((one.health.state, one.health.trial_at), (TargetState.DOWN, 5))
        self.clock.advance(6)
        self.states.reached(one)
        self.assertEqual(
            self.lines, ["-: target a is down: a dial failed: refused", "-: target a is up: a dial succeeded"]
        )

    def test_orders(self) -> None:
        """An operator's order is remembered by rule and target until it is taken back."""
        self.states.order("web", "a", TargetState.DRAIN)
        self.assertIs(self.states.ordered("web", "a"), TargetState.DRAIN)
        self.assertIsNone(self.states.ordered("app", "a"))
        self.states.order("web", "a", None)
        self.states.order("web", "a", None)
        self.assertIsNone(self.states.ordered("web", "a"))
        self.assertEqual(self.lines[0], "web: target a: drain, ordered by an operator")
