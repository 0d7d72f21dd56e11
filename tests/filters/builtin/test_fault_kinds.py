"""Tests of `portfwd.filters.builtin.fault_kinds`: what each fault does to a connection."""

from __future__ import annotations

from typing import Any
from unittest import mock

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.api import DONE, DROP, Close, Delay, Filter, Forward, Verdict, Wake
from portfwd.filters.builtin.fault_clause import Fault
from portfwd.filters.builtin.fault_kinds import BREATH, MAX_PIECES
from portfwd.filters.builtin.faults import LATENCY_HOLD, LATENCY_MOST, FaultFactory
from portfwd.testing import Pipe
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction
from tests.filters.asking import a_connection, parts, passed, the
from tests.filters.builtin.test_faults import CLAUSES, a_factory


def struck(clause: str, number: int = 1, network: str = "tcp") -> tuple[Fault, Any]:
    """A fault, and its filter in a connection."""
    factory: FaultFactory = a_factory(clause)
    one = factory.build(a_connection(number, network=network))
    assert isinstance(one, Filter)
    return factory.fault, one


def delays(verdict: Verdict) -> list[tuple[float, bytes]]:
    """The delayed bytes, and their seconds to three places."""
    return [(round(one.seconds, 3), one.data) for one in parts(verdict) if isinstance(one, Delay)]


class EveryKindTests(SynchronousTestCase):
    """What holds for all of them."""

    def test_switched_off(self) -> None:
        """A fault that is off passes everything, and is asked again when it is on."""
        for clause in CLAUSES:
            fault, one = struck(clause, 3)
            fault.active = False
            self.assertIsNone(one.opened(a_connection()), clause)
            for direction in fault.directions:
                verdict = one.received(direction, b"x" * 2000)
                self.assertIs(verdict, DONE if fault.kind == "refuse" else None)
                self.assertIsNone(one.ended(direction, b""), clause)
            self.assertIsNone(one.woken((TO_CLIENT, 1)), clause)

    def test_other_direction(self) -> None:
        """A fault of one direction does nothing to the other."""
        for clause in CLAUSES:
            kind = clause.split()[0]
            if kind in ("limit-time", "refuse"):
                continue
            _, one = struck(clause.replace("direction=down", "") + " direction=up")
            verdict = one.received(TO_CLIENT, b"x" * 2000)
            self.assertIs(verdict, None if kind == "slow-close" else DONE, clause)
            self.assertIsNone(one.ended(TO_CLIENT, b""), clause)


class SwitchedOffTests(SynchronousTestCase):
    """Faults that are switched off while a connection lasts."""

    def run_one(self, clause: str, **options: Any) -> tuple[Pipe, Fault]:
        """A connection that suffers from a fault, which is passed something both ways."""
        factory = a_factory(clause)
        pipe = Pipe(factory, **options)
        return pipe, factory.fault

    def test_what_waits(self) -> None:
        """What is delayed, or kept to be sent in pieces, goes on at once, before what comes later."""
        data = bytes(range(256)) * 50
        for clause in ("latency delay=3s", "bandwidth rate=100", "slicer size=1 delay=1s", "slicer size=1"):
            pipe, fault = self.run_one(clause)
            for direction in Direction:
                pipe.send(direction, data)
                self.assertLess(len(pipe.output(direction)), len(data), clause)
            fault.active = False
            for direction in Direction:
                self.assertEqual(pipe.output(direction), data, clause)
                pipe.send(direction, b"later")
                self.assertEqual(pipe.output(direction), data + b"later", clause)
            self.assertEqual(pipe.stopped, set(), clause)
            self.assertTrue(pipe.rest())
            pipe.end()
            self.assertEqual((len(pipe.to_upstream), pipe.ended), (len(data) + 5, set(Direction)))

    def test_on_again(self) -> None:
        """A fault that is switched on again begins anew."""
        pipe, fault = self.run_one("bandwidth rate=100")
        pipe.send(TO_UPSTREAM, bytes(500))
        fault.active = False
        fault.active = True
        pipe.send(TO_UPSTREAM, bytes(100))
        pipe.advance(0.5)
        self.assertTrue(540 < len(pipe.to_upstream) < 560, len(pipe.to_upstream))
        pipe.rest()
        self.assertEqual(len(pipe.to_upstream), 600)

    def test_end(self) -> None:
        """An end that waits goes on, too."""
        for clause in ("slow-close delay=1h", "latency delay=1h"):
            pipe, fault = self.run_one(clause)
            pipe.send(TO_UPSTREAM, b"last")
            pipe.end(TO_UPSTREAM)
            self.assertEqual(pipe.ended, set())
            fault.active = False
            self.assertEqual((pipe.to_upstream, pipe.ended), (b"last", {TO_UPSTREAM}))

    def test_timeout(self) -> None:
        """A stream that has lost bytes is reset; one that has not goes on; so do datagrams."""
        pipe, fault = self.run_one("timeout after=0s")
        pipe.send(TO_UPSTREAM, b"lost")
        fault.active = False
        assert pipe.finished is not None
        self.assertTrue(pipe.finished.abort)
        pipe, fault = self.run_one("timeout after=0s")
        fault.active = False
        pipe.send(TO_UPSTREAM, b"comes")
        self.assertEqual((pipe.to_upstream, pipe.finished), (b"comes", None))
        connection = a_connection(network="udp")
        pipe, fault = self.run_one("timeout after=0s", datagrams=True, connection=connection)
        pipe.send(TO_UPSTREAM, b"lost")
        fault.active = False
        pipe.send(TO_UPSTREAM, b"comes")
        self.assertEqual((pipe.to_upstream, pipe.finished), (b"comes", None))

    def test_reorder(self) -> None:
        """A datagram that waits to be overtaken goes."""
        connection = a_connection(network="udp")
        clause = "reorder fraction=1 delay=1h"
        pipe, fault = self.run_one(clause, datagrams=True, connection=connection)
        for direction in Direction:
            pipe.send(direction, b"one")
        fault.active = False
        self.assertEqual((pipe.to_upstream, pipe.to_client), (b"one", b"one"))

    def test_over(self) -> None:
        """Connections that are over are forgotten, and hear nothing."""
        pipe, fault = self.run_one("latency delay=1s")
        pipe.close()
        with mock.patch("portfwd.filters.builtin.fault_kinds.FaultFilter.switched_off") as told:
            fault.active = False
        told.assert_not_called()

    def test_hold(self) -> None:
        """Latency lets 1 Gbit/s through, within bounds, and as it is set when the connection begins."""
        factory = a_factory("latency delay=100ms")
        self.assertEqual(factory.max_hold, 12_500_000)
        factory.fault.options = evolve(factory.fault.options, delay=0.2)
        self.assertEqual(factory.max_hold, 25_000_000)
        self.assertEqual(a_factory("latency delay=1ms").max_hold, LATENCY_HOLD)
        self.assertEqual(a_factory("latency delay=1h").max_hold, LATENCY_MOST)
        self.assertEqual(a_factory("bandwidth rate=1").max_hold, 0)


class LatencyTests(SynchronousTestCase):
    """Later."""

    def test_delay(self) -> None:
        """Bytes and end come later; by how much can be changed."""
        fault, one = struck("latency delay=100ms")
        self.assertEqual(one.received(TO_UPSTREAM, b"x"), Delay(0.1, b"x"))
        fault.options = evolve(fault.options, delay=2.0)
        self.assertEqual(one.ended(TO_UPSTREAM, b""), Delay(2.0))

    def test_jitter(self) -> None:
        """Each delay is another one, within the jitter, never below zero, and the same in the next run."""
        seconds = []
        for _ in range(2):
            _, one = struck("latency delay=10ms jitter=15ms")
            seconds.append([one.received(TO_CLIENT, b"x").seconds for _ in range(100)])
        self.assertEqual(*seconds)
        self.assertTrue(0 == min(seconds[0]) < 0.015 < max(seconds[0]) <= 0.025)

    def test_slow_close(self) -> None:
        """Only the end comes later."""
        _, one = struck("slow-close delay=1s")
        self.assertIsNone(one.received(TO_CLIENT, b"x"))
        self.assertEqual(one.ended(TO_CLIENT, b""), Delay(1.0))


class PaceTests(SynchronousTestCase):
    """Pieces with time between them."""

    def test_bandwidth(self) -> None:
        """Bytes go in small pieces, each when the rate allows it."""
        _, one = struck("bandwidth rate=1000/s")
        self.assertEqual(
            delays(one.received(TO_CLIENT, b"x" * 50)),
            [(0.02, b"x" * 20), (0.04, b"x" * 20), (0.05, b"x" * 10)],
        )

    def test_bandwidth_goes_on(self) -> None:
        """What comes when all has gone begins anew; what comes before waits behind it."""
        _, one = struck("bandwidth rate=1000/s")
        first = parts(one.received(TO_CLIENT, b"x" * 40))
        wakes = [each for each in first if isinstance(each, Wake)]
        self.assertEqual([round(wake.seconds, 3) for wake in wakes], [0.02, 0.04])
        self.assertLess(first.index(wakes[-1]), len(first) - 1)
        # Of the piece that is on its way, half is thought to have passed.
        self.assertEqual(delays(one.received(TO_CLIENT, b"y" * 10)), [(0.04, b"y" * 10)])
        self.assertEqual(delays(one.received(TO_UPSTREAM, b"y" * 10)), [(0.01, b"y" * 10)])
        for wake in wakes:
            self.assertIsNone(one.woken(wake.token))
        self.assertEqual(delays(one.received(TO_CLIENT, b"z")), [(0.006, b"z")])
        self.assertIsNone(one.woken((TO_CLIENT, 4)))
        self.assertEqual(delays(one.received(TO_CLIENT, b"z")), [(0.001, b"z")])

    def test_few_pieces(self) -> None:
        """No more pieces are on the way than there may be timers for; the rest follows the last of them."""
        _, one = struck("bandwidth rate=50/s")
        first = parts(one.received(TO_CLIENT, b"x" * (MAX_PIECES + 10)))
        self.assertEqual((len(delays(first)), delays(first)[-1][0]), (MAX_PIECES, MAX_PIECES / 50))
        self.assertEqual(one.received(TO_CLIENT, b"y"), b"")
        self.assertIsNone(one.woken((TO_CLIENT, MAX_PIECES - 1)))
        more = delays(one.woken((TO_CLIENT, MAX_PIECES)))
        self.assertEqual(more, [(number / 50, b"x") for number in range(1, 11)] + [(0.22, b"y")])
        self.assertIsNone(one.ended(TO_CLIENT, b""))

    def test_rest(self) -> None:
        """What is kept goes at once when the fault is switched off."""
        fault, one = struck("bandwidth rate=50/s")
        one.received(TO_CLIENT, b"x" * (MAX_PIECES + 1))
        fault.active = False
        self.assertEqual(one.received(TO_CLIENT, b"y"), b"")
        self.assertEqual(one.woken((TO_CLIENT, MAX_PIECES)), Forward(b"xy"))
        self.assertIsNone(one.received(TO_CLIENT, b"z"))

    def test_no_rate(self) -> None:
        """With a rate of 0 bytes wait until an operator sets another one, or the fault is off."""
        for direction in Direction:
            for options in ({"rate": 1000}, {"rate": 0}):
                factory = a_factory("bandwidth rate=0")
                pipe, fault = Pipe(factory), factory.fault
                pipe.send(direction, b"waits")
                fault.options = evolve(fault.options, **options)
                self.assertEqual(pipe.output(direction), b"waits" if options["rate"] else b"")
                fault.active = False
                self.assertEqual((pipe.output(direction), pipe.stopped), (b"waits", set()))

    def test_another_rate(self) -> None:
        """Another rate holds for the next bytes; pieces that are on their way keep their times."""
        factory = a_factory("bandwidth rate=100")
        pipe = Pipe(factory)
        pipe.send(TO_CLIENT, b"x" * 100)
        factory.fault.options = evolve(factory.fault.options, rate=10_000)
        pipe.advance(0.5)
        self.assertTrue(40 < len(pipe.to_client) < 60, len(pipe.to_client))

    def test_datagrams(self) -> None:
        """Datagrams stay whole, and an empty one is one."""
        _, one = struck("bandwidth rate=1000/s", network="udp")
        self.assertEqual(delays(one.received(TO_CLIENT, b"x" * 500)), [(0.5, b"x" * 500)])
        self.assertEqual(delays(one.received(TO_UPSTREAM, b"")), [(0.0, b"")])

    @settings(max_examples=50)
    @given(st.binary(min_size=1, max_size=500), st.integers(1, 40), st.integers(0, 39), st.integers(0, 9))
    def test_slicer(self, data: bytes, size: int, variation: int, seed: int) -> None:
        """The pieces are the bytes, and have the sizes asked for."""
        variation = min(variation, size - 1)
        _, one = struck(f"slicer size={size} variation={variation} delay=10ms seed={seed}")
        found = delays(one.received(TO_CLIENT, data))
        self.assertEqual(b"".join(piece for _, piece in found), data)
        for _, piece in found[:-1]:
            self.assertTrue(size - variation <= len(piece) <= size + variation)
        self.assertEqual(
            [at for at, _ in found], [round(0.01 * number, 3) for number in range(1, len(found) + 1)]
        )

    def test_slicer_in_batches(self) -> None:
        """A slicer without a delay makes a bounded number of pieces in one turn, and loses none."""
        pipe = Pipe(a_factory("slicer size=1"))
        data = bytes(range(256)) * 40
        for piece in (data[:5000], data[5000:]):
            before = len(pipe.writes[TO_UPSTREAM])
            pipe.send(TO_UPSTREAM, piece)
            self.assertLessEqual(len(pipe.writes[TO_UPSTREAM]) - before, MAX_PIECES)
        self.assertTrue(pipe.rest())
        self.assertEqual(pipe.to_upstream, data)
        self.assertEqual({len(piece) for piece in pipe.writes[TO_UPSTREAM]}, {1})

    def test_end_behind_the_rest(self) -> None:
        """An end makes no verdict longer: it waits for everything that is kept."""
        data = bytes(range(256)) * 4
        for clause, turn in (
            ("slicer size=1", BREATH),
            ("slicer size=1 delay=1ms", 0.01),
            ("bandwidth rate=50/s", 0.1),
        ):
            for direction in Direction:
                pipe = Pipe(a_factory(clause))
                pipe.send(direction, data)
                pipe.end(direction)
                done, most = 0, 0
                while direction not in pipe.ended:
                    pipe.advance(turn)
                    most = max(most, len(pipe.writes[direction]) - done)
                    done = len(pipe.writes[direction])
                self.assertEqual(b"".join(pipe.writes[direction]), data, clause)
                self.assertLessEqual(most, 2 * MAX_PIECES, clause)
                _, one = struck(clause)
                for verdict in (one.received(direction, data), one.ended(direction, b"")):
                    self.assertLessEqual(len(parts(verdict)), 2 * MAX_PIECES, clause)


class CorruptTests(SynchronousTestCase):
    """Flipped bits."""

    def test_some(self) -> None:
        """About as many bytes as asked for have one bit flipped, each another one."""
        _, one = struck("corrupt fraction=0.01")
        spoilt = one.received(TO_UPSTREAM, bytes(100_000))
        flipped = [byte for byte in spoilt if byte]
        self.assertTrue(900 < len(flipped) < 1100)
        self.assertEqual(set(flipped), {1 << bit for bit in range(8)})

    @settings(max_examples=30)
    @given(st.lists(st.integers(1, 50), max_size=20))
    def test_any_cut(self, sizes: list[int]) -> None:
        """Which ones does not depend on how the bytes are cut."""
        _, whole = struck("corrupt fraction=0.1", 7)
        expected = passed(whole.received(TO_CLIENT, bytes(sum(sizes))), bytes(sum(sizes)))
        _, one = struck("corrupt fraction=0.1", 7)
        found = b"".join(passed(one.received(TO_CLIENT, bytes(size)), bytes(size)) for size in sizes)
        self.assertEqual(found, expected)

    def test_all(self) -> None:
        """With a fraction of 1 every byte is another one."""
        _, one = struck("corrupt fraction=1")
        self.assertNotIn(0, one.received(TO_CLIENT, bytes(100)))


class EndTests(SynchronousTestCase):
    """Sessions that end too soon."""

    def test_limit_data(self) -> None:
        """So many bytes of a direction come through, then it is over."""
        for abort in ("off", "on"):
            _, one = struck(f"limit-data size=5 abort={abort}")
            self.assertIsNone(one.received(TO_UPSTREAM, b"abcd"))
            self.assertIsNone(one.received(TO_CLIENT, b"abcd"))
            close = Close("fault limit-data", abort=abort == "on")
            self.assertEqual(one.received(TO_UPSTREAM, b"efgh"), (Forward(b"e"), close))
            self.assertEqual(one.received(TO_UPSTREAM, b"i"), close)

    def test_times(self) -> None:
        """At the age asked for the session is closed, or reset."""
        for kind, abort in (("limit-time", False), ("reset", True)):
            _, one = struck(f"{kind} after=2s")
            self.assertEqual(one.opened(a_connection()), Wake(2.0))
            self.assertEqual(one.received(TO_UPSTREAM, b"x"), b"" if kind == "reset" else None)
            self.assertEqual(one.woken(None), Close(f"fault {kind}", abort=abort))

    def test_times_switched(self) -> None:
        """A fault that is switched on later counts from the next bytes, and one switched off does nothing."""
        fault, one = struck("limit-time after=2s active=off")
        self.assertIsNone(one.opened(a_connection()))
        fault.active = True
        self.assertEqual(one.received(TO_UPSTREAM, b"x"), Wake(2.0))
        fault.active = False
        self.assertIsNone(one.woken(None))
        fault.active = True
        self.assertEqual(one.received(TO_UPSTREAM, b"x"), Wake(2.0))

    def test_timeout(self) -> None:
        """Nothing comes through until the session is closed."""
        _, one = struck("timeout after=1s")
        self.assertEqual(one.opened(a_connection()), Wake(1.0))
        self.assertEqual(one.received(TO_UPSTREAM, b"x"), b"")
        self.assertEqual(one.woken(None), Close("fault timeout"))

    def test_timeout_never(self) -> None:
        """With ``after=0`` it is never closed, but an end behind lost bytes is a reset."""
        _, one = struck("timeout after=0")
        self.assertIsNone(one.opened(a_connection()))
        self.assertIsNone(one.ended(TO_CLIENT, b""))
        self.assertEqual(one.received(TO_UPSTREAM, b"x"), b"")
        self.assertTrue(the(Close, one.ended(TO_CLIENT, b"")).abort)

    def test_timeout_switched(self) -> None:
        """Switched on later, it counts from the first bytes that are lost."""
        fault, one = struck("timeout after=1s active=off")
        self.assertIsNone(one.opened(a_connection()))
        fault.active = True
        self.assertEqual(one.received(TO_UPSTREAM, b"x"), (b"", Wake(1.0)))
        self.assertEqual(one.received(TO_UPSTREAM, b"x"), b"")

    def test_timeout_datagrams(self) -> None:
        """Datagrams are forgotten, not emptied."""
        _, one = struck("timeout after=0", network="udp")
        self.assertIs(one.received(TO_UPSTREAM, b"x"), DROP)

    def test_reset(self) -> None:
        """No byte and no end of its direction comes through before the reset; the other one continues."""
        for ends in (False, True):
            pipe = Pipe(a_factory("reset after=2s direction=down"))
            if not ends:
                pipe.send(TO_CLIENT, b"lost")
            pipe.end(TO_CLIENT)
            pipe.send(TO_UPSTREAM, b"comes")
            pipe.end(TO_UPSTREAM)
            pipe.advance(1.9)
            self.assertEqual((pipe.to_client, pipe.to_upstream), (b"", b"comes"))
            self.assertEqual((pipe.ended, pipe.finished), ({TO_UPSTREAM}, None))
            pipe.advance(0.2)
            assert pipe.finished is not None
            self.assertTrue(pipe.finished.abort)

    def test_reset_at_once(self) -> None:
        """With ``after=0`` nothing comes through either."""
        pipe = Pipe(a_factory("reset after=0"))
        pipe.send(TO_UPSTREAM, b"lost")
        pipe.advance(0)
        self.assertEqual((pipe.to_upstream, pipe.finished is not None), (b"", True))

    def test_reset_switched_off(self) -> None:
        """A connection that has lost bytes is reset; another one continues, with its end."""
        for lost in (b"", b"lost"):
            factory = a_factory("reset after=2s")
            pipe = Pipe(factory)
            if lost:
                pipe.send(TO_CLIENT, lost)
            pipe.end(TO_CLIENT)
            factory.fault.active = False
            self.assertEqual((TO_CLIENT in pipe.ended, pipe.finished is not None), (not lost, bool(lost)))
            pipe.advance(3.0)
            self.assertEqual(pipe.finished is not None, bool(lost))

    def test_refuse(self) -> None:
        """The connection is reset before anything else."""
        _, one = struck("refuse")
        self.assertTrue(the(Close, one.opened(a_connection())).abort)
