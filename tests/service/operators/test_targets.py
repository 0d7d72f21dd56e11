"""Tests of targets as operators see them, by a forwarder at work."""

from __future__ import annotations

from portfwd.admin.operator import CheckView, OperatorError
from portfwd.service.operators.targets import target_views
from portfwd.upstreams.health import CheckState, TargetState, Verdict
from tests.service.operated import OperatedTestCase


class TargetTests(OperatedTestCase):
    """Views, and orders."""

    def test_one(self) -> None:
        """A rule with one target has it, with its sessions and dials, and without a state of its own."""
        self.client("lab")
        views = [one for one in self.operating.targets(None) if one.rule == "lab"]
        self.assertEqual(
            [(one.state, one.since, one.sessions, one.dials) for one in views], [("up", None, 1, 1)]
        )

    def test_order(self) -> None:
        """An order is obeyed, shown, and remembered over a reload; an unknown target is refused."""
        label = next(self.operating.targets("web")).target
        self.assertEqual(self.operating.order_target("web", label, "drain"), ["web"])
        view = next(self.operating.targets("web"))
        self.assertEqual((view.state, view.ordered, view.cause), ("drain", True, "ordered by an operator"))
        self.assertIs(self.forwarder.targets.ordered("web", label), TargetState.DRAIN)
        self.operating.order_target("web", label, "auto")
        self.assertEqual(next(self.operating.targets("web")).state, "up")
        error = self.assertRaises(OperatorError, self.operating.order_target, "web", label + "0", "up")
        self.assertIn(f"did you mean '{label}'", str(error))
        self.assertRaises(OperatorError, self.operating.order_target, "nothing", label, "up")

    def test_down(self) -> None:
        """The status counts targets that are down; a view says why and since when."""
        live = self.forwarder.rules[0]
        label = live.destinations[0].label
        live.order_target(label, TargetState.UP)
        live.order_target(label, None)
        pool = live.balancing.pool()
        assert pool is not None
        health = pool.members[0].health
        health.state, health.cause, health.since = TargetState.DOWN, "refused", 5.0
        self.assertEqual(self.operating.status()["targets_down"], 1)
        health.checks["tcp"] = CheckState(False, 0, Verdict(False, "refused"), 0.002)
        (view,) = target_views(live, 0, 12.0)
        self.assertEqual((view.since, view.cause), (7.0, "refused"))
        self.assertEqual(view.checks, (CheckView("tcp", False, "refused", 0.002),))
