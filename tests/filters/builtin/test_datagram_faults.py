"""Tests of `portfwd.filters.builtin.datagram_faults`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.api import DROP, Close, Forward, Wake
from portfwd.values import TO_CLIENT, TO_UPSTREAM
from tests.filters.asking import a_connection
from tests.filters.builtin.test_fault_kinds import struck


class DatagramFaultTests(SynchronousTestCase):
    """Datagrams that are lost, doubled and overtaken."""

    def test_loss(self) -> None:
        """So many do not come; an empty one is one."""
        _, one = struck("loss fraction=25%", network="udp")
        lost = sum(one.received(TO_UPSTREAM, b"") is DROP for _ in range(1000))
        self.assertTrue(200 < lost < 300, lost)
        _, all_ = struck("loss fraction=100%", network="udp")
        self.assertIs(all_.received(TO_CLIENT, b"x"), DROP)

    def test_duplicate(self) -> None:
        """A datagram comes twice, or as it is."""
        _, one = struck("duplicate fraction=100%", network="udp")
        self.assertEqual(one.received(TO_UPSTREAM, b"x"), (Forward(b"x"), Forward(b"x")))
        _, rarely = struck("duplicate fraction=0.0001%", network="udp")
        self.assertIsNone(rarely.received(TO_UPSTREAM, b"x"))

    def test_reorder(self) -> None:
        """A datagram waits for the next one, each direction by itself; only one waits at a time."""
        _, one = struck("reorder fraction=100%", network="udp")
        self.assertEqual(one.received(TO_UPSTREAM, b"a"), (DROP, Wake(0.1, TO_UPSTREAM)))
        self.assertEqual(one.received(TO_CLIENT, b"answer"), (DROP, Wake(0.1, TO_CLIENT)))
        self.assertEqual(one.received(TO_UPSTREAM, b"b"), (Forward(b"b"), Forward(b"a")))
        self.assertIsNone(one.woken(TO_UPSTREAM))
        self.assertEqual(one.woken(TO_CLIENT), Forward(b"answer"))
        self.assertIsNone(one.woken("something else"))

    def test_delay(self) -> None:
        """``delay=`` says how long it waits."""
        _, one = struck("reorder fraction=100% delay=2s", network="udp")
        self.assertEqual(one.received(TO_UPSTREAM, b"a")[1], Wake(2.0, TO_UPSTREAM))

    def test_streams(self) -> None:
        """A session that is no datagrams' is closed, also when the fault is switched on later."""
        for clause in ("loss fraction=1%", "duplicate fraction=1%", "reorder fraction=1%"):
            fault, one = struck(clause)
            verdicts: list[Any] = [one.opened(a_connection()), one.received(TO_UPSTREAM, b"x")]
            for verdict in verdicts:
                self.assertIsInstance(verdict, Close)
                self.assertIn("for datagrams", verdict.reason)
            fault.active = False
            self.assertIsNone(one.opened(a_connection()))
        _, one = struck("loss fraction=1%", network="udp")
        self.assertIsNone(one.opened(a_connection(network="udp")))
        self.assertIsNone(one.ended(TO_UPSTREAM, b""))

    def test_nothing_of_its_own(self) -> None:
        """What the kinds have in common strikes nothing."""
        from portfwd.filters.builtin.datagram_faults import DatagramFault

        fault, _ = struck("loss fraction=100%", network="udp")
        one = DatagramFault(fault, a_connection(network="udp"))
        self.assertIsNone(one.received(TO_UPSTREAM, b"x"))
