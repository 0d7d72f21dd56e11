"""Tests of `portfwd.streams.datagrams.limited_datagrams`."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.model import Options
from portfwd.streams.datagrams.limited_datagrams import DatagramMeter, LimitedDatagramStream
from portfwd.streams.rate_limiters import RateLimiters
from portfwd.streams.stream import Loss
from portfwd.values import InetAddress, Side
from tests.streams.carriers import FakeCarrier, Owner

ONE, TWO = InetAddress("192.0.2.1", 1), InetAddress("192.0.2.2", 2)


class MeterTests(SynchronousTestCase):
    """Which datagrams pass."""

    def setUp(self) -> None:
        self.clock = Clock()

    def meter(self, side: Side = Side.CLIENT, **options: Any) -> DatagramMeter:
        """One of a rule with these options."""
        return DatagramMeter(RateLimiters(self.clock, Options(**options)), side)

    def test_rate(self) -> None:
        """A tenth of a second's worth at once, and then as much as the rate has."""
        meter = self.meter(bandwidth=100_000)
        passed = sum(meter.passes(1000, ONE) for _ in range(50))
        self.assertEqual((passed, meter.dropped), (10, 40))
        for _ in range(100):
            self.clock.advance(0.05)
            passed += sum(meter.passes(1000, ONE) for _ in range(50))
        self.assertEqual(passed, 10 + 500)

    def test_large(self) -> None:
        """A datagram that is larger than that passes when nothing is owed, and is paid for afterwards."""
        meter = self.meter(bandwidth=100_000)
        self.assertTrue(meter.passes(60_000, ONE))
        self.clock.advance(0.5)
        self.assertFalse(meter.passes(1000, ONE))
        self.clock.advance(0.2)
        self.assertTrue(meter.passes(1000, ONE))

    def test_sides(self) -> None:
        """Each direction has its own; one without a limit passes everything."""
        self.assertTrue(all(self.meter(bandwidth_up=2000).passes(9000, ONE) for _ in range(1)))
        meter = self.meter(Side.UPSTREAM, bandwidth_up=2000)
        self.assertTrue(all(meter.passes(9000, ONE) for _ in range(100)))

    def test_sources(self) -> None:
        """Each address has a share; a datagram that the rule's limit drops costs the address nothing."""
        meter = self.meter(bandwidth_per_source=20_000)
        self.assertTrue(meter.passes(2000, ONE))
        self.assertFalse(meter.passes(2000, ONE))
        self.assertTrue(meter.passes(2000, TWO))
        self.assertTrue(all(meter.passes(2000, None) for _ in range(50)))
        meter = self.meter(bandwidth_per_source=200_000, bandwidth=20_000)
        self.assertEqual([meter.passes(2000, ONE) for _ in range(30)].count(True), 1)
        for _ in range(10):
            self.clock.advance(0.1)
            self.assertTrue(meter.passes(2000, ONE))

    def test_connections(self) -> None:
        """Each direction of each association has a share, whoever its client is said to be."""
        limiters = RateLimiters(self.clock, Options(bandwidth_per_connection=20_000))
        for side in Side:
            meter = DatagramMeter(limiters, side)
            self.assertEqual([meter.passes(2000, one) for one in (ONE, TWO, None)], [True, False, False])
            self.assertEqual(meter.dropped, 2)


class StreamTests(SynchronousTestCase):
    """Both sides of an association."""

    def sides(
        self, answers: int | None = None, **options: Any
    ) -> tuple[FakeCarrier, FakeCarrier, Owner, Any]:
        """The carriers, the owner of both streams, and the client's stream."""
        self.clock = Clock()
        limiters = RateLimiters(self.clock, Options(**options))
        carriers, owner = (FakeCarrier(ONE), FakeCarrier(TWO)), Owner()
        streams = [
            LimitedDatagramStream(
                carrier,
                self.clock.seconds,
                DatagramMeter(limiters, side) if options else None,
                answers if side is Side.UPSTREAM else None,
            )
            for carrier, side in zip(carriers, Side, strict=True)
        ]
        for stream, side in zip(streams, Side, strict=True):
            stream.side = side
            stream.own(owner)
        streams[0].join(streams[1])
        streams[1].join(streams[0])
        for stream in streams:
            stream.start()
        return *carriers, owner, streams[0]

    def test_answers(self) -> None:
        """The association ends in order when each datagram of the client has had its answers."""
        client, upstream, owner, _ = self.sides(answers=2)
        client.brings(b"A?", b"AAAA?")
        upstream.brings(b"1", b"2", b"3")
        self.assertEqual(owner.told, [])
        upstream.brings(b"4")
        self.assertEqual(owner.told, [(Loss.ORDERLY, "")])
        self.assertEqual((client.sent, upstream.closed), ([b"1", b"2", b"3", b"4"], 1))

    def test_bandwidth(self) -> None:
        """What is beyond it is dropped and counted, of the client that was announced."""
        client, upstream, _, stream = self.sides(bandwidth_per_source=20_000)
        client.brings(*[bytes(1000)] * 5)
        upstream.brings(*[bytes(1000)] * 5)
        self.assertEqual((len(upstream.sent), len(client.sent), stream.drops()["bandwidth"]), (2, 2, 3))
        stream.go_as(InetAddress("203.0.113.9", 9))
        client.brings(*[bytes(1000)] * 5)
        upstream.brings(*[bytes(1000)] * 5)
        self.assertEqual((len(upstream.sent), len(client.sent), stream.drops()["bandwidth"]), (4, 4, 6))
