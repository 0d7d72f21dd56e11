"""Tests of what a manhole's prompt knows."""

from __future__ import annotations

import io
import sys
from typing import Any

from twisted.internet.defer import Deferred

from portfwd.admin.operator import OperatorError
from portfwd.service.operators.forwarder_operator import ForwarderOperator
from portfwd.service.operators.namespace import BANNER, SHOWN, LiveMapping, make_namespace
from tests.service.operated import OperatedTestCase
from tests.service.operators.test_forwarder_operator import Came


class NamespaceTests(OperatedTestCase):
    """The names of one log-in."""

    def setUp(self) -> None:
        super().setUp()
        self.names: dict[str, Any] = make_namespace(self.forwarder, self.operating, self.reactor)

    def test_banner(self) -> None:
        """Every name is told of at the log-in."""
        for name in self.names:
            self.assertIn(name, BANNER)

    def test_shelves(self) -> None:
        """Rules by name and sessions by number, as they are now."""
        rules, sessions = self.names["rules"], self.names["sessions"]
        self.assertEqual(list(rules), ["web", "lab"])
        self.assertEqual(repr(sessions), "nothing")
        self.client()
        self.assertEqual((len(sessions), list(sessions)), (1, [1]))
        self.assertIs(sessions[1], next(iter(rules["web"].sessions.values())))
        self.assertRegex(repr(sessions), r"^1: <Session 1 web .* relaying>$")

    def test_steering(self) -> None:
        """What an operator can do is done by calls."""
        self.client()
        self.assertEqual(self.names["status"]()["sessions"], 1)
        self.assertRaises(OperatorError, self.names["kill"], 1, 99)
        self.assertEqual(self.names["kill"](1), 1)
        self.turn()
        self.assertEqual(len(self.names["sessions"]), 0)
        self.assertEqual(self.names["pause"]("web"), ["web"])
        self.assertEqual(len(self.names["faults"]()), 1)
        self.assertEqual(self.names["faults"]("web"), [])

    def test_explain(self) -> None:
        """Explain prints what the command prints."""
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        self.names["explain"]("192.0.2.1", ":1")
        self.assertIn("192.0.2.1 to :1", out.getvalue())

    def test_reload(self) -> None:
        """A reload has its result later."""
        waiting: Deferred[Came] = Deferred()
        operating = ForwarderOperator(self.forwarder, self.reactor, reload=lambda dry_run, code: waiting)
        done = make_namespace(self.forwarder, operating, self.reactor)["reload"](dry_run=True)  # type: ignore[operator]
        self.assertNoResult(done)
        waiting.callback(Came())
        self.assertTrue(self.successResultOf(done)["applied"])

    def test_long_shelf(self) -> None:
        """Of very many a screen is shown, and how many more there are."""
        shelf = LiveMapping(lambda: dict.fromkeys(range(SHOWN + 7), "x"))
        lines = repr(shelf).split("\n")
        self.assertEqual((len(lines), lines[-1]), (SHOWN + 1, "and 7 more"))
