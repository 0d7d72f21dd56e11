"""Tests of `portfwd.metrics.figures`: what one scrape tells, and its bounds."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.metrics import figures as metrics_figures
from portfwd.metrics.figures import MOST_RULES, MOST_TARGETS, OTHERS, Figures, RuleFigures
from portfwd.metrics.tally import RuleTally
from portfwd.values import CloseReason, FlowSummary
from tests.metrics.test_tally import CLOSED

FLOWS = (FlowSummary(10, 1, 1), FlowSummary(20, 1, 1))


def a_tally(*targets: str) -> RuleTally:
    """A rule that had one session at each of its targets."""
    tally = RuleTally()
    tally.known(*targets)
    for target in targets:
        tally.closed(CLOSED, target)
    return tally


class RuleFiguresTests(SynchronousTestCase):
    """One rule."""

    def test_open_and_closed(self) -> None:
        """Bytes are those of closed sessions and of open ones; so are the sessions begun."""
        rule = RuleFigures()
        rule.add_closed(a_tally("a:1"))
        rule.sessions = 2
        rule.add_open("a:1", *FLOWS)
        rule.add_open("", *FLOWS)
        self.assertEqual((rule.total, rule.tally.to_client.bytes), (3, 240))
        self.assertEqual(rule.tally.targets["a:1"].to_client.bytes, 220)
        self.assertEqual(rule.target_sessions, {"a:1": 1})
        self.assertEqual(sum(rule.tally.dial.counts), 1)

    def test_take_open(self) -> None:
        """A session that has closed while others were read leaves nothing behind."""
        rule = RuleFigures()
        rule.tally.known("a:1")
        for target in ("a:1", ""):
            rule.add_open(target, *FLOWS)
            rule.take_open(target, *FLOWS)
        self.assertEqual((rule.tally.to_client.bytes, rule.tally.targets["a:1"].to_client.bytes), (0, 0))
        self.assertEqual(rule.target_sessions["a:1"], 0)


class BoundTests(SynchronousTestCase):
    """Labels are bounded."""

    def test_rules(self) -> None:
        """Of ten thousand rules the first have labels, all others one."""
        figures = Figures()
        for number in range(10_000):
            figures.rule(f"rule {number}").sessions += 1
        self.assertEqual(len(figures.rules), MOST_RULES + 1)
        self.assertEqual(figures.rules[OTHERS].sessions, 10_000 - MOST_RULES)
        self.assertEqual(figures.rule("rule 3").sessions, 1)

    def test_targets_of_the_others(self) -> None:
        """Of the rules beyond the bound all targets are one, and added up as each of them is added."""
        figures = Figures()
        for number in range(MOST_RULES + 3):
            rule = figures.rule(f"rule {number}")
            rule.add_closed(a_tally(f"a:{number}"))
            rule.target_failures[f"a:{number}"] += 1
            figures.was_added(rule)
        others = figures.rules[OTHERS]
        self.assertEqual(list(others.tally.targets), [OTHERS])
        self.assertEqual(others.tally.targets[OTHERS].reasons, {CloseReason.NORMAL: 3})
        self.assertEqual(others.target_failures, {OTHERS: 3})
        self.assertEqual(list(figures.rules["rule 0"].tally.targets), ["a:0"])
        self.patch(metrics_figures, "MOST_TARGETS", 10)
        figures.bound_targets()
        self.assertEqual(others.tally.targets[OTHERS].reasons, {CloseReason.NORMAL: 3})
        self.assertEqual(list(figures.rules["rule 9"].tally.targets), ["a:9"])
        self.assertEqual(list(figures.rules["rule 10"].tally.targets), [OTHERS])

    def test_targets(self) -> None:
        """Targets beyond the bound are added up, of each rule by itself; nothing is lost."""
        figures = Figures()
        for name in ("few", "many", "more"):
            targets = [f"{name}:{number}" for number in range(3 if name == "few" else MOST_TARGETS)]
            rule = figures.rule(name)
            rule.add_closed(a_tally(*targets))
            rule.target_sessions.update(targets)
            rule.target_failures.update(targets[-1:])
        figures.bound_targets()
        self.assertEqual(len(figures.rules["few"].tally.targets), 3)
        many, more = figures.rules["many"], figures.rules["more"]
        self.assertEqual(len(many.tally.targets), MOST_TARGETS - 3 + 1)
        self.assertEqual(many.tally.targets[OTHERS].reasons, {CloseReason.NORMAL: 3})
        self.assertEqual((many.target_sessions[OTHERS], many.target_failures), (3, {OTHERS: 1}))
        self.assertEqual(list(more.tally.targets), [OTHERS])
        self.assertEqual(more.target_sessions, {OTHERS: MOST_TARGETS})
