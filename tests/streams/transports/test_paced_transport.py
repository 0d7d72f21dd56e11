"""Paced streams over transports: the suites of all streams, and transports in memory with the test's time."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import error, reactor
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial import unittest

from portfwd.kernel.poller import Poller
from portfwd.rules.model import Options
from portfwd.streams.opening import StreamMaker
from portfwd.streams.rate_limiters import RateLimiters
from portfwd.streams.stream import Stream, Watched
from portfwd.streams.transports.transport import TransportStream
from portfwd.streams.transports.transport_flow import TransportFlow
from portfwd.values import InetAddress, Side
from tests.streams.conformance import TCP, Owner, StreamConformance, Unix
from tests.streams.watching import Eyes, WatchConformance

#: Slices of 5000 bytes, of which two are there at once.
RATE = 100_000
SLICE = 5000
BURST = 10_000
ONE = InetAddress("192.0.2.1", 1)
OTHER = InetAddress("192.0.2.2", 1)
LOST = Failure(error.ConnectionLost())


class _Paced:
    """Streams of a rule with a bandwidth that is soon used up."""

    buffer = 8192
    addCleanup: Any  # noqa: N815

    def setUp(self) -> None:
        self.poller = Poller(reactor)  # type: ignore[arg-type]
        self.poller.start()
        self.addCleanup(self.poller.stop)
        maker = StreamMaker(reactor, self.poller)  # type: ignore[arg-type]
        limiters = RateLimiters(reactor, Options(bandwidth=16 << 20))  # type: ignore[arg-type]
        self.maker = maker.with_limiters(limiters)

    def stream(self, sock: socket.socket) -> Watched:
        """Made as for sessions."""
        return self.maker.plain(sock, None, self.buffer)

    def keeps(self, stream: Watched) -> int:
        """What its transport has not written."""
        assert isinstance(stream, TransportStream)
        return stream.unsent


class _Plain(_Paced, StreamConformance):
    """Nobody watches."""

    def streams(self, left: socket.socket, right: socket.socket) -> tuple[Stream, Stream]:
        """Made as for sessions."""
        return self.stream(left), self.stream(right)


class PacedTCPTests(TCP, _Plain, unittest.TestCase):
    """Over TCP."""


class PacedUnixTests(Unix, _Plain, unittest.TestCase):
    """Over unix sockets."""


class PacedWatchedTests(TCP, _Paced, WatchConformance, unittest.TestCase):
    """Seen by somebody."""


class Wire(StringTransport):
    """A transport in memory, as Twisted's sockets are."""

    bufferSize = 1

    def unregisterProducer(self) -> None:
        self.producer = None

    def abortConnection(self) -> None:
        """Reset."""

    @property
    def reads(self) -> bool:
        """Whether it is read."""
        return self.producerState == "producing"


class MemoryCase(unittest.SynchronousTestCase):
    """Two streams over transports in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = Owner()
        self.eyes = Eyes()

    def make(self, *, watched: bool = False, early: bytes = b"", **rates: int) -> None:
        """A client and an upstream of a rule with these rates."""
        clock: Any = self.clock
        self.limiters = RateLimiters(clock, Options(**(rates or {"bandwidth": RATE})))
        maker = StreamMaker(clock, None, self.limiters)
        self.near, self.far = Wire(), Wire()
        self.client, self.upstream = (
            self.stream(maker, wire, side)
            for wire, side in ((self.near, Side.CLIENT), (self.far, Side.UPSTREAM))
        )
        self.client.address = ONE
        self.eyes.streams = {Side.CLIENT: self.client, Side.UPSTREAM: self.upstream}
        if early:
            self.upstream.dataReceived(early)
        if watched:
            self.client.watch(self.eyes)
            self.upstream.watch(self.eyes, self.client)
        self.client.join(self.upstream)
        self.upstream.join(self.client)
        self.client.start()
        self.upstream.start()

    def stream(self, maker: StreamMaker, wire: Wire, side: Side) -> TransportStream:
        """One that is connected and owned."""
        stream = maker.bare(65536)
        stream.side = side
        stream.makeConnection(wire)
        stream.own(self.owner)
        return stream

    @property
    def flow(self) -> TransportFlow:
        """The flow from the client."""
        flow = self.client.source
        assert flow is not None
        return flow

    @property
    def granted(self) -> int:
        """Bytes that it has been granted and has not used."""
        assert self.flow.allowance is not None
        return self.flow.allowance.granted

    def level(self, side: Side = Side.CLIENT) -> float:
        """What the gate of a direction holds."""
        return self.limiters.limiters_for(side, ONE)[0].level


class MemoryTests(MemoryCase):
    """Paying after reading."""

    def test_reads_are_slices(self) -> None:
        """A transport whose reads can be bounded reads no more than a slice."""
        self.make()
        self.assertEqual((self.near.bufferSize, self.client.buffer), (SLICE, SLICE))
        self.make(bandwidth=1 << 30)
        self.assertEqual(self.near.bufferSize, 65536)

    def test_pays_afterwards(self) -> None:
        """Within the burst nobody is stopped; who is ahead is, until he has paid, and has a slice more."""
        self.make()
        self.client.dataReceived(bytes(BURST))
        self.assertTrue(self.near.reads)
        self.client.dataReceived(bytes(SLICE))
        self.assertEqual(
            (self.near.reads, len(self.far.value()), self.level()), (False, BURST + SLICE, -SLICE)
        )
        self.clock.advance(0.09)
        self.assertFalse(self.near.reads)
        self.clock.advance(0.0101)
        self.assertTrue(self.near.reads)
        self.client.dataReceived(bytes(SLICE))
        self.assertEqual((self.near.reads, round(self.level())), (True, 10))
        self.assertAlmostEqual(self.upstream.summary(self.client).paced, 0.1001)
        self.assertEqual(self.client.summary(self.upstream).paced, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_was_not_used(self) -> None:
        """Of a slice that it waited for, what its next read does not bring is there again."""
        self.make()
        self.client.dataReceived(bytes(BURST + 1))
        self.clock.advance(0.0501)
        self.client.dataReceived(bytes(1000))
        self.assertEqual(round(self.level()), 9 + SLICE - 1000)

    def test_what_comes_while_it_waits(self) -> None:
        """TLS may deliver what it has even then: it is passed on, and paid for as well."""
        self.make()
        self.client.dataReceived(bytes(BURST + SLICE))
        self.client.dataReceived(bytes(SLICE))
        self.assertEqual((len(self.far.value()), self.level()), (BURST + 2 * SLICE, -2 * SLICE))
        self.clock.advance(0.1)
        self.assertFalse(self.near.reads)
        self.clock.advance(0.05)
        self.assertTrue(self.near.reads)

    def test_early_bytes_count(self) -> None:
        """What came before the session began is counted when it is known for whom."""
        self.make(early=bytes(BURST + 1))
        self.assertEqual((self.level(Side.UPSTREAM), self.far.reads, self.near.reads), (-1, False, True))
        self.clock.advance(0.06)
        self.assertTrue(self.far.reads)

    def test_backpressure(self) -> None:
        """Its turn does not make it read what the other side cannot take, nor the other way round."""
        self.make()
        self.client.dataReceived(bytes(BURST + SLICE))
        self.flow.pauseProducing()
        self.clock.advance(0.2)
        self.assertFalse(self.near.reads)
        self.flow.resumeProducing()
        self.assertTrue(self.near.reads)
        self.client.dataReceived(bytes(BURST + SLICE))
        self.flow.pauseProducing()
        self.flow.resumeProducing()
        self.assertFalse(self.near.reads)

    def test_hold(self) -> None:
        """Nor what a filter has stopped."""
        self.make(watched=True)
        self.client.dataReceived(bytes(BURST + SLICE))
        self.assertEqual(len(self.eyes.seen[Side.CLIENT]), BURST + SLICE)
        self.client.hold()
        self.clock.advance(0.2)
        self.assertFalse(self.near.reads)
        self.client.go_on()
        self.assertTrue(self.near.reads)
        self.client.dataReceived(bytes(BURST + SLICE))
        self.client.hold()
        self.client.go_on()
        self.assertFalse(self.near.reads)
        self.clock.advance(0.2)
        self.assertTrue(self.near.reads)

    def test_lost(self) -> None:
        """Who is gone waits no more, and what he was granted is there again."""
        self.make()
        self.client.dataReceived(bytes(BURST + SLICE))
        self.client.connectionLost(LOST)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.make()
        self.client.dataReceived(bytes(BURST + 1))
        self.clock.advance(0.0501)
        before = self.level()
        self.client.connectionLost(LOST)
        self.assertEqual(self.level() - before, SLICE)

    def test_lost_while_early_bytes_wait(self) -> None:
        """What came early, and waits for its turn, is delivered before the loss is told."""
        for watched in (False, True):
            self.make(early=bytes(BURST + 1), watched=watched)
            self.assertEqual(self.near.value(), b"")
            self.upstream.connectionLost(LOST)
            self.assertEqual((len(self.near.value()), self.clock.getDelayedCalls()), (BURST + 1, []))

    def test_a_failure_in_turn(self) -> None:
        """Who fails when his turn comes is ended; whoever is next has his turn."""
        self.make(early=bytes(BURST + SLICE))

        def fail(data: bytes) -> None:
            raise ValueError(data[:1])

        aborts: list[str] = []
        self.patch(self.near, "write", fail)
        self.patch(self.far, "abortConnection", lambda: aborts.append("far"))
        self.clock.advance(0.2)
        self.assertEqual((len(self.flushLoggedErrors(ValueError)), aborts), (1, ["far"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_discard(self) -> None:
        """What is thrown away is not counted, and comes as fast as it can."""
        self.make()
        self.client.dataReceived(bytes(BURST + SLICE))
        self.client.discard()
        self.assertEqual((self.near.reads, self.clock.getDelayedCalls()), (True, []))
        self.client.dataReceived(bytes(BURST))
        self.assertEqual((self.level(), len(self.far.value())), (-SLICE, BURST + SLICE))

    def test_aborted(self) -> None:
        """Nor is what comes after an abort."""
        self.make()
        self.client.abort()
        self.client.dataReceived(bytes(BURST))
        self.assertEqual(self.level(), BURST)

    def test_waiting_is_not_silence(self) -> None:
        """While it waits something moves, as far as limits of silence go."""
        self.make()
        self.client.dataReceived(bytes(BURST + 1_000_000))
        self.clock.advance(9)
        self.assertEqual((self.client.last_moved(), self.upstream.last_moved()), (9, 0))
        self.clock.advance(9)
        self.clock.advance(9)
        # Since its turn came, at the second look, it has read nothing.
        self.assertEqual((self.flow.waits, self.client.last_moved()), (False, 18))

    def test_sources(self) -> None:
        """Each address has its own, in both directions; who turns out to be another has that one's."""
        self.make(bandwidth_per_source=RATE)
        self.client.dataReceived(bytes(BURST + SLICE))
        self.upstream.dataReceived(bytes(BURST - 1))
        self.assertEqual((self.near.reads, self.far.reads), (False, True))
        self.assertEqual(self.level(Side.UPSTREAM), 1)
        self.client.go_as(OTHER)
        self.assertTrue(self.near.reads)
        self.assertEqual(self.granted, SLICE)
        self.upstream.dataReceived(bytes(BURST + 1))
        self.assertEqual((self.near.reads, self.far.reads), (True, False))
        # Once more, while he holds something.
        self.client.go_as(ONE)
        self.assertEqual(self.granted, 0)

    def test_another_address_that_waits_too(self) -> None:
        """Who turns out to be one who has nothing left either waits there; a hold stays a hold."""
        self.make(bandwidth_per_source=RATE)
        self.limiters.limiters_for(Side.CLIENT, OTHER)[0].settle(0, 2 * BURST)
        self.client.dataReceived(bytes(BURST + SLICE))
        self.client.go_as(OTHER)
        self.assertFalse(self.near.reads)
        self.client.hold()
        self.client.go_as(InetAddress("192.0.2.3", 1))
        self.assertFalse(self.near.reads)
        self.client.go_on()
        self.assertTrue(self.near.reads)

    def test_one_direction(self) -> None:
        """Where nothing limits a direction it is not counted."""
        self.make(bandwidth_down=RATE)
        self.client.dataReceived(bytes(1_000_000))
        self.upstream.dataReceived(bytes(BURST + 1))
        self.assertEqual((self.near.reads, self.far.reads), (True, False))
        self.client.go_as(OTHER)
        self.client.connectionLost(LOST)

    def test_beside_a_stream_of_another_kind(self) -> None:
        """Its figures are told beside any stream."""
        self.make()
        other = TransportStream(self.clock, 4096)
        self.assertEqual(self.client.summary(other).paced, 0)
