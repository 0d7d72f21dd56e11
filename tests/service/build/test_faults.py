"""Tests of the faults of rules at work."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.operator import FaultView, OperatorError
from portfwd.relay.live import LiveRule
from portfwd.service.build import faults
from portfwd.service.build.build import live_rules
from tests.service.contexts import Lines, a_context, rules

TEXT = """\
lab: :8000-8001 -> a:1-2
    filter faults latency delay=100ms
    filter record file=x
    filter faults limit-data size=1KiB probability=0.5 active=off
web: :80 -> a:1
    filter faults latency delay=1s jitter=10ms direction=up
"""


class FaultTests(SynchronousTestCase):
    """Found, shown, switched, set."""

    def setUp(self) -> None:
        planned = live_rules(rules(TEXT), a_context(Clock()), Lines())
        self.live: list[LiveRule] = [one.live for one in planned]

    def change(self, which: str, active: bool | None = None, **options: str) -> list[FaultView]:
        """Change those of the first rule."""
        lab = [live for live in self.live if live.rule.name == "lab"]
        return faults.change(lab, which, active, options)

    def test_views(self) -> None:
        """Each once, although all ports of a range have it; with its options as a file writes them."""
        self.assertEqual(
            faults.views(self.live),
            [
                FaultView("lab", 1, "latency", True, (("delay", "100ms"),), 0, 0),
                FaultView("lab", 2, "limit-data", False, (("size", "1KiB"), ("probability", "0.5")), 0, 0),
                FaultView(
                    "web",
                    1,
                    "latency",
                    True,
                    (("delay", "1s"), ("jitter", "10ms"), ("direction", "to-upstream")),
                    0,
                    0,
                ),
            ],
        )

    def test_switch(self) -> None:
        """By number, by kind, or all of them."""
        self.assertEqual([one.active for one in self.change("2", True)], [True])
        self.assertEqual([one.active for one in self.change("latency", False)], [False])
        self.assertEqual([one.active for one in faults.views(self.live)], [False, True, True])
        self.assertEqual([one.active for one in self.change("all", False)], [False, False])

    def test_set(self) -> None:
        """Options take effect at once; whether it is on stays as it was."""
        (view,) = self.change("1", delay="2s", jitter="5ms")
        self.assertEqual(view.options, (("delay", "2s"), ("jitter", "5ms")))
        self.assertTrue(view.active)

    def test_refused(self) -> None:
        """What does not fit one of them changes none of them."""
        before = faults.views(self.live)
        for which, options in (
            ("all", {"delay": "2s"}),
            ("1", {"delay": "soon"}),
            ("1", {"size": "5"}),
            ("1", {"colour": "red"}),
            ("1", {"direction": "up"}),
        ):
            error = self.assertRaises(OperatorError, self.change, which, None, **options)
            self.assertEqual(error.code, "bad-request", options)
        error = self.assertRaises(OperatorError, self.change, "7", True)
        self.assertEqual(error.code, "not-found")
        self.assertIn("it has 1 (latency)", str(error))
        self.assertEqual(faults.views(self.live), before)
        error = self.assertRaises(OperatorError, faults.change, [], "all", True, {})
        self.assertIn("it has no line 'filter faults'", str(error))

    def test_partly(self) -> None:
        """Where the second of several refuses, the first is as it was."""
        before = faults.views(self.live)
        self.assertRaises(OperatorError, self.change, "all", None, probability="0.1", jitter="1ms")
        self.assertEqual(faults.views(self.live), before)
