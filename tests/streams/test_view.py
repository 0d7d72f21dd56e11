"""Tests of `portfwd.streams.view`: what a viewer sees of a flow."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.streams.allowance import UNBOUND, Allowance
from portfwd.streams.view import View


class Flow:
    """What a view asks for."""

    def __init__(self, allowance: Allowance | None = None) -> None:
        self.allowance = allowance


class Seen:
    """Writes down what it is told; what it is shown, it is shown while its view says so."""

    def __init__(self, view: View) -> None:
        self.told: list[Any] = []
        self._view = view

    def shown(self, stream: object, data: bytes) -> None:
        self.told.append((data, self._view.showing))
        if data == b"fail":
            raise ValueError(data)

    def passed(self, stream: object, count: int) -> None:
        self.told.append(count)


class ViewTests(SynchronousTestCase):
    """Views of flows without and with limited bandwidth."""

    def setUp(self) -> None:
        self.view = View()
        self.seen = Seen(self.view)
        self.view.viewer = self.seen
        self.source: Any = object()

    def test_shown(self) -> None:
        """A viewer is shown bytes, and the view says so for as long, also after a failure."""
        self.view.show(self.source, b"bytes")
        self.assertRaises(ValueError, self.view.show, self.source, b"fail")
        self.assertEqual((self.seen.told, self.view.showing), ([(b"bytes", True), (b"fail", True)], False))

    def test_nobody(self) -> None:
        """Without a viewer nothing is shown, and nobody is told of a stretch."""
        view = View()
        view.show(self.source, b"bytes")
        view.stretch_passed(Flow(), self.source)
        self.assertEqual((view.is_shown, view.settle(Flow())), (False, 0))

    def test_a_stretch(self) -> None:
        """A counted stretch bounds a flow that had no bound; when it has passed, nothing does."""
        flow = Flow()
        self.view.pass_on(flow, 10)
        assert flow.allowance is not None
        self.assertEqual((self.view.is_shown, flow.allowance.left), (False, 10))
        flow.allowance.take(10)
        self.view.stretch_passed(flow, self.source)
        self.assertEqual((self.seen.told, self.view.is_shown, flow.allowance), ([10], True, None))

    def test_settle(self) -> None:
        """Settling in the middle says how much has passed, once."""
        flow = Flow()
        self.view.pass_on(flow, 10)
        assert flow.allowance is not None
        flow.allowance.take(4)
        self.assertEqual((self.view.settle(flow), self.view.settle(flow)), (4, 0))

    def test_all(self) -> None:
        """When all may pass there is no viewer, and no bound."""
        flow = Flow()
        self.view.pass_on(flow, 10)
        self.view.pass_on(flow, None)
        self.assertEqual((self.view.viewer, flow.allowance, self.view.is_shown), (None, None, False))
        self.assertIn("nothing", repr(self.view))

    def test_limited_bandwidth(self) -> None:
        """The bound of a stretch stands beside that of the bandwidth, which stays."""
        grants: Any = object()
        flow = Flow(Allowance(grants=grants))
        self.view.pass_on(flow, 10)
        assert flow.allowance is not None
        flow.allowance.granted = 4
        self.assertEqual((flow.allowance.counted, flow.allowance.left), (10, 4))
        self.assertEqual(self.view.settle(flow), 0)
        self.assertEqual(flow.allowance.counted, UNBOUND)

    def test_what_stops_reading(self) -> None:
        """A viewer that wants nothing, and an answer that is not taken yet; both are told apart."""
        for mark in ("on_hold", "unanswered"):
            view = View()
            self.assertFalse(view.stops_reading)
            setattr(view, mark, True)
            self.assertTrue(view.stops_reading, mark)
        self.view.on_hold = True
        self.assertEqual(repr(self.view), "<View all on hold>")
        self.view.pass_on(Flow(), 1)
        self.assertEqual(repr(self.view), "<View not a stretch on hold>")
