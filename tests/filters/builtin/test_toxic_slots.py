"""Tests of `portfwd.filters.builtin.toxic_slots`: toxics that come and go while a connection lasts."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from portfwd.filters.api import IFilter, IFilterFactory
from portfwd.filters.builtin.toxic_slots import LATENCY_SLOTS, OTHER_SLOTS, ToxicSet
from portfwd.filters.builtin.toxics import BadToxic, Toxic, read_toxic
from portfwd.testing import Pipe
from portfwd.values import TO_CLIENT, TO_UPSTREAM
from tests.filters.asking import a_connection


def toxic(kind: str, stream: str = "downstream", **attributes: Any) -> Toxic:
    """A toxic."""
    return read_toxic({"type": kind, "stream": stream, "attributes": attributes})


class SlotTests(SynchronousTestCase):
    """One connection and its toxics."""

    def setUp(self) -> None:
        self.toxics = ToxicSet()
        self.pipe = Pipe(*self.toxics.slots)

    def received(self, size: int = 100) -> int:
        """How many of so many bytes of the upstream are with the client at once."""
        before = len(self.pipe.to_client)
        self.pipe.send(TO_CLIENT, b"x" * size)
        return len(self.pipe.to_client) - before

    def test_contract(self) -> None:
        """Slots and their filters are as the contract has them."""
        for slot in self.toxics.slots:
            verifyObject(IFilterFactory, slot)
            verifyObject(IFilter, slot.build(a_connection()))

    def test_none(self) -> None:
        """Without toxics everything passes."""
        self.pipe.send(TO_UPSTREAM, b"question")
        self.assertEqual((self.pipe.to_upstream, self.received()), (b"question", 100))
        self.pipe.end(TO_UPSTREAM, TO_CLIENT)
        self.assertEqual(self.pipe.ended, {TO_UPSTREAM, TO_CLIENT})

    def test_added(self) -> None:
        """A toxic strikes connections that are open, in its direction only."""
        self.toxics.add(toxic("latency", latency=200))
        self.assertEqual(self.received(), 0)
        self.pipe.send(TO_UPSTREAM, b"question")
        self.assertEqual(self.pipe.to_upstream, b"question")
        self.pipe.advance(0.2)
        self.assertEqual(len(self.pipe.to_client), 100)

    def test_changed(self) -> None:
        """A change holds for what comes from then on; what waited goes on at once."""
        self.toxics.add(toxic("latency", latency=60_000))
        self.assertEqual(self.received(), 0)
        self.toxics.change(toxic("latency", latency=200))
        self.assertEqual((len(self.pipe.to_client), self.received()), (100, 0))
        self.pipe.advance(0.2)
        self.assertEqual(len(self.pipe.to_client), 200)

    def test_changed_time(self) -> None:
        """The time of a toxic that closes counts anew from a change; bytes that are lost stay lost."""
        self.toxics.add(toxic("timeout", timeout=1000))
        self.assertEqual(self.received(), 0)
        self.toxics.change(toxic("timeout", timeout=5000))
        self.pipe.advance(4.9)
        self.assertIsNone(self.pipe.finished)
        self.pipe.advance(0.2)
        self.assertIsNotNone(self.pipe.finished)
        self.toxics.change(toxic("timeout", timeout=0))

    def test_changed_limit(self) -> None:
        """What has passed counts for a limit that is changed."""
        self.toxics.add(toxic("limit_data", bytes=1000))
        self.assertEqual(self.received(600), 600)
        self.toxics.change(toxic("limit_data", bytes=700))
        self.assertEqual(self.received(600), 100)
        self.assertIsNotNone(self.pipe.finished)

    def test_removed(self) -> None:
        """What waited because of it goes on at once."""
        self.toxics.add(toxic("latency", latency=60_000))
        self.assertEqual(self.received(), 0)
        self.toxics.remove("latency_downstream")
        self.assertEqual((len(self.pipe.to_client), self.received()), (100, 100))

    def test_pieces_of_a_removed_one(self) -> None:
        """Bytes that a slow line had not sent yet come complete; wakes of the removed toxic do nothing."""
        self.toxics.add(toxic("bandwidth", rate=1))
        self.assertEqual(self.received(5000), 0)
        self.pipe.advance(1.0)
        self.assertTrue(0 < len(self.pipe.to_client) < 5000)
        self.toxics.clear()
        self.toxics.add(toxic("latency", latency=0))
        self.assertTrue(self.pipe.rest())
        self.assertEqual(self.pipe.to_client, b"x" * 5000)

    def test_rate_of_zero(self) -> None:
        """
        All bytes wait, an end behind them too, and nothing more is read; they come complete and in order when
        the toxic is removed, or has a rate.
        """
        for stream, direction in (("downstream", TO_CLIENT), ("upstream", TO_UPSTREAM)):
            for rate in (None, 5):
                toxics = ToxicSet()
                pipe = Pipe(*toxics.slots)
                toxics.add(toxic("bandwidth", stream, rate=0))
                pipe.send(direction, b"one ", b"two ")
                pipe.end(direction)
                pipe.advance(86_400)
                self.assertEqual((pipe.output(direction), pipe.ended), (b"", set()))
                self.assertEqual((pipe.stopped, pipe.finished), ({direction}, None))
                if rate is None:
                    toxics.clear()
                else:
                    toxics.change(toxic("bandwidth", stream, rate=rate))
                self.assertTrue(pipe.rest())
                self.assertEqual((pipe.output(direction), pipe.ended), (b"one two ", {direction}))
                self.assertEqual(pipe.stopped, set())

    def test_rate_becomes_zero(self) -> None:
        """What a slow line had not sent yet comes; what comes after the change waits."""
        self.toxics.add(toxic("bandwidth", rate=1))
        self.assertEqual(self.received(5000), 0)
        self.toxics.change(toxic("bandwidth", rate=0))
        self.assertEqual((len(self.pipe.to_client), self.received()), (5000, 0))
        self.pipe.advance(86_400)
        self.assertEqual(len(self.pipe.to_client), 5000)
        self.toxics.clear()
        self.assertEqual(len(self.pipe.to_client), 5100)

    def test_without_attributes(self) -> None:
        """Toxics whose numbers are 0 do no harm, except those that then hold or end everything."""
        for kind in ("latency", "slow_close", "slicer", "noop", "corrupt"):
            for stream, direction in (("downstream", TO_CLIENT), ("upstream", TO_UPSTREAM)):
                toxics = ToxicSet()
                pipe = Pipe(*toxics.slots)
                toxics.add(toxic(kind, stream))
                pipe.send(direction, b"x" * 5000)
                pipe.end(direction)
                self.assertEqual(pipe.output(direction), b"x" * 5000, kind)
                self.assertEqual((pipe.ended, pipe.finished), ({direction}, None), kind)

    def test_attributes_later(self) -> None:
        """A slicer that came without attributes cuts when it is told how."""
        self.toxics.add(toxic("slicer"))
        self.assertEqual(self.received(), 100)
        self.toxics.change(toxic("slicer", average_size=10))
        self.assertEqual(self.received(), 100)
        self.assertEqual({len(piece) for piece in self.pipe.writes[TO_CLIENT][1:]}, {10})

    def test_timeout(self) -> None:
        """Bytes vanish; without it a connection that has lost none goes on, another one is reset."""
        self.toxics.add(toxic("timeout", timeout=0))
        self.toxics.remove("timeout_downstream")
        self.assertEqual(self.received(), 100)
        self.toxics.add(toxic("timeout", timeout=0))
        self.assertEqual(self.received(), 0)
        self.assertIsNone(self.pipe.finished)
        self.toxics.remove("timeout_downstream")
        assert self.pipe.finished is not None
        self.assertTrue(self.pipe.finished.abort)

    def test_times(self) -> None:
        """A toxic with a time counts it from when it came, and not any more when it is gone."""
        self.pipe.advance(5.0)
        self.toxics.add(toxic("reset_peer", timeout=2000))
        self.pipe.advance(1.9)
        self.assertIsNone(self.pipe.finished)
        self.toxics.clear()
        self.pipe.advance(1.0)
        self.assertIsNone(self.pipe.finished)
        self.toxics.add(toxic("reset_peer", timeout=1000))
        self.pipe.advance(1.1)
        assert self.pipe.finished is not None
        self.assertTrue(self.pipe.finished.abort)

    def test_from_the_beginning(self) -> None:
        """A toxic that is there when a connection opens has it from the beginning; so has its end."""
        self.toxics.add(toxic("slow_close", delay=1000))
        self.toxics.add(toxic("reset_peer", "upstream", timeout=5000))
        pipe = Pipe(*self.toxics.slots)
        pipe.end(TO_CLIENT)
        self.assertEqual(pipe.ended, set())
        pipe.advance(1.0)
        self.assertEqual(pipe.ended, {TO_CLIENT})
        pipe.advance(4.0)
        self.assertIsNotNone(pipe.finished)

    def test_refuse(self) -> None:
        """New connections are refused; those that are open stay."""
        self.toxics.add(toxic("refuse"))
        self.assertEqual((self.pipe.finished, self.received()), (None, 100))
        assert Pipe(*self.toxics.slots).finished is not None

    def test_several(self) -> None:
        """Several of one type combine."""
        for name in ("one", "two"):
            self.toxics.add(read_toxic({"type": "latency", "name": name, "attributes": {"latency": 100}}))
        self.assertEqual(self.received(), 0)
        self.pipe.advance(0.1)
        self.assertEqual(self.pipe.to_client, b"")
        self.pipe.advance(0.1)
        self.assertEqual(len(self.pipe.to_client), 100)

    def test_closed(self) -> None:
        """A connection that is over hears of nothing, and its faults forget it."""
        self.toxics.add(toxic("latency", latency=200))
        self.pipe.close()
        self.toxics.clear()
        self.assertEqual(self.pipe.to_client, b"")
        for slot in self.toxics.slots:
            self.assertIsNone(slot.fault)

    def test_switched(self) -> None:
        """An operator who switches the fault off lets go what waits, as with ``filter faults``."""
        self.toxics.add(toxic("latency", latency=60_000))
        self.received()
        fault = self.toxics.slots[0].fault
        assert fault is not None
        fault.active = False
        self.assertEqual((len(self.pipe.to_client), self.received()), (100, 100))

    def test_repr(self) -> None:
        """One line says which they are."""
        self.assertEqual(repr(self.toxics), "<ToxicSet empty>")
        self.toxics.add(toxic("refuse"))
        self.assertEqual(repr(self.toxics), "<ToxicSet refuse_downstream>")
        self.assertIn("SlotFilter", repr(self.toxics.slots[0].build(a_connection())))


class SetTests(SynchronousTestCase):
    """The toxics of a proxy."""

    def test_order(self) -> None:
        """Those toward the upstream are told first, as toxiproxy does."""
        toxics = ToxicSet()
        toxics.add(toxic("latency"))
        toxics.add(toxic("latency", "Upstream"))
        self.assertEqual([one.name for one in toxics], ["latency_Upstream", "latency_downstream"])
        self.assertIsNone(toxics.get("other"))

    def test_bounds(self) -> None:
        """There are only so many; one that is removed makes room."""
        toxics = ToxicSet()
        for kind, most in (("latency", LATENCY_SLOTS), ("limit_data", OTHER_SLOTS)):
            for number in range(most):
                toxics.add(read_toxic({"type": kind, "name": f"{kind} {number}"}))
            error = self.assertRaises(BadToxic, toxics.add, read_toxic({"type": kind}))
            self.assertIn(f"at most {most}", str(error))
            toxics.remove(f"{kind} 0")
            toxics.add(read_toxic({"type": kind}))

    def test_toxicity(self) -> None:
        """Another toxicity is another choice among the connections."""
        toxics = ToxicSet()
        pipe = Pipe(*toxics.slots)
        toxics.add(read_toxic({"type": "timeout", "toxicity": 0, "attributes": {"timeout": 0}}))
        pipe.send(TO_CLIENT, b"spared")
        toxics.change(read_toxic({"type": "timeout", "toxicity": 1, "attributes": {"timeout": 0}}))
        pipe.send(TO_CLIENT, b"struck")
        self.assertEqual(pipe.to_client, b"spared")

    def test_datagrams(self) -> None:
        """What only datagrams have needs a proxy for them."""
        loss = toxic("loss", fraction=1)
        self.assertIn('"protocol": "udp"', str(self.assertRaises(BadToxic, ToxicSet().add, loss)))
        toxics = ToxicSet(datagrams=True)
        pipe = Pipe(*toxics.slots, connection=a_connection(1, network="udp"), datagrams=True)
        pipe.send(TO_UPSTREAM, b"comes")
        toxics.add(read_toxic({"type": "loss", "stream": "upstream", "attributes": {"fraction": 1}}))
        pipe.send(TO_UPSTREAM, b"is lost")
        self.assertEqual(pipe.writes[TO_UPSTREAM], [b"comes"])
