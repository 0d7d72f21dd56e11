"""The watched stream over Twisted's transports: the suites of all streams, and what only a transport does."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import error, reactor
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial import unittest
from zope.interface.verify import verifyObject

from portfwd.kernel.poller import Poller
from portfwd.streams.opening import StreamMaker
from portfwd.streams.sockets.bulk_reads import BulkReads, BulkSlots
from portfwd.streams.stream import Stream, Watched
from portfwd.streams.transports.transport import TransportStream
from portfwd.streams.transports.write_readiness import WriteReadiness
from portfwd.values import Side
from tests.streams.conformance import TCP, Owner, StreamConformance, Unix
from tests.streams.watching import Eyes, WatchConformance


class _Pair:
    """Plain transports."""

    buffer = 8192
    #: Bytes of a larger read; None: there are none.
    bulk: int | None = None
    addCleanup: Any  # noqa: N815
    assertEqual: Any  # noqa: N815

    def setUp(self) -> None:
        self.poller = Poller(reactor)  # type: ignore[arg-type]
        self.poller.start()
        slots = BulkSlots()
        bulk = None if self.bulk is None else BulkReads(self.bulk, slots)
        self.maker = StreamMaker(reactor, self.poller, bulk=bulk)  # type: ignore[arg-type]
        self.addCleanup(self.poller.stop)
        self.addCleanup(lambda: self.assertEqual(slots.taken, 0))

    def stream(self, sock: socket.socket) -> Watched:
        """Made as for sessions."""
        return self.maker.plain(sock, None, 8192)


class _Watched(_Pair, WatchConformance):
    """Seen by somebody."""

    def keeps(self, stream: Watched) -> int:
        """What its transport has not written."""
        assert isinstance(stream, TransportStream)
        return stream.unsent


class WatchedTCPTransportTests(TCP, _Watched, unittest.TestCase):
    """Over TCP."""


class WatchedUnixTransportTests(Unix, _Watched, unittest.TestCase):
    """Over unix sockets."""


class WatchedBulkTransportTests(TCP, _Watched, unittest.TestCase):
    """With larger reads."""

    bulk = kept = 65536


class WatchedBlindTransportTests(TCP, _Watched, unittest.TestCase):
    """Where there is no epoll: a dead peer is noticed when it is read or written to."""

    sees_the_dead = False

    def setUp(self) -> None:
        self.maker = StreamMaker(reactor, None)  # type: ignore[arg-type]


class _PassedOn(_Pair, StreamConformance):
    """Whoever looks writes everything on."""

    def streams(self, left: socket.socket, right: socket.socket) -> tuple[Stream, Stream]:
        """Two that are watched."""
        eyes = Eyes()
        one, other = self.stream(left), self.stream(right)
        eyes.streams = {Side.CLIENT: one, Side.UPSTREAM: other}
        one.watch(eyes)
        other.watch(eyes, one)
        return one, other


class PassedOnTCPTransportTests(TCP, _PassedOn, unittest.TestCase):
    """Over TCP."""


class Wire(StringTransport):
    """A transport in memory that has one producer, and may be full."""

    def unregisterProducer(self) -> None:
        self.producer = None

    def fill(self) -> None:
        """It takes no more."""
        assert self.producer is not None
        self.producer.pauseProducing()

    def empty(self) -> None:
        """It does again."""
        if self.producer is not None:
            self.producer.resumeProducing()


class EarlyTests(unittest.SynchronousTestCase):
    """Streams over transports in memory, which deliver when they like, as TLS does."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.eyes = Eyes()
        self.owner = Owner()
        self.wire = Wire()
        self.client = self.stream(self.wire, Side.CLIENT)
        self.client.watch(self.eyes)

    def stream(self, wire: Wire, side: Side) -> TransportStream:
        """A connected one."""
        stream = TransportStream(self.clock, 4096)
        stream.makeConnection(wire)
        stream.side = side
        stream.own(self.owner)
        self.eyes.streams[side] = stream
        return stream

    def dial(self, *, early: bytes = b"") -> None:
        """The upstream is there, and may have said something already."""
        self.far = Wire()
        self.upstream = self.stream(self.far, Side.UPSTREAM)
        if early:
            self.upstream.dataReceived(early)
        self.upstream.watch(self.eyes, self.client)
        self.upstream.hold()
        self.client.join(self.upstream)
        self.upstream.join(self.client)
        self.client.start()
        self.upstream.start()

    def test_early_bytes_are_held(self) -> None:
        """What came before the start is not shown while the stream is on hold, and then before the rest."""
        self.dial(early=b"one ")
        self.assertEqual((self.eyes.pieces, self.far.producerState), (0, "paused"))
        self.upstream.dataReceived(b"two ")
        self.upstream.go_on()
        self.upstream.dataReceived(b"three")
        self.assertEqual((self.wire.value(), self.eyes.pieces), (b"one two three", 3))
        self.assertEqual(self.far.producerState, "producing")

    def test_an_end_behind_early_bytes(self) -> None:
        """An end that came early is told behind them."""
        self.dial(early=b"all")
        self.upstream.readConnectionLost()
        self.assertEqual(self.owner.told, [])
        self.owner.when["ended"] = lambda: self.assertEqual(self.wire.value(), b"all")
        self.upstream.go_on()
        self.assertEqual(self.owner.told, ["ended"])

    def test_lost_with_early_bytes(self) -> None:
        """When the connection is gone they are shown, hold or not: there is no later."""
        self.dial(early=b"all")
        self.upstream.connectionLost(Failure(error.ConnectionDone()))
        self.assertEqual((self.wire.value(), self.owner.told), (b"all", ["lost orderly"]))

    def test_held_in_the_middle(self) -> None:
        """A viewer that asks for a hold while early bytes are shown gets the rest later."""
        self.dial(early=b"1")
        self.upstream.dataReceived(b"2")
        self.eyes.when[Side.UPSTREAM] = lambda data: self.upstream.hold()
        self.upstream.go_on()
        self.assertEqual(bytes(self.eyes.seen[Side.UPSTREAM]), b"1")
        self.upstream.go_on()
        self.assertEqual(bytes(self.eyes.seen[Side.UPSTREAM]), b"12")

    def test_held_before_the_start(self) -> None:
        """A stream that is not started yet can be held, and let go."""
        stream = self.stream(Wire(), Side.UPSTREAM)
        stream.watch(self.eyes)
        stream.hold()
        stream.go_on()
        stream.dataReceived(b"x")
        self.assertEqual(self.eyes.pieces, 0)
        stream.start()
        self.assertEqual(bytes(self.eyes.seen[Side.UPSTREAM]), b"x")

    def test_counts_in_one_read(self) -> None:
        """Several counts, and what is shown between them, in one piece of bytes."""
        self.dial()
        self.upstream.go_on()
        self.client.pass_on(2)
        self.eyes.then[Side.CLIENT] = lambda count: self.client.pass_on(3) if count == 2 else None
        self.client.dataReceived(b"aabbbc")
        self.assertEqual((self.far.value(), bytes(self.eyes.seen[Side.CLIENT])), (b"aabbbc", b"c"))
        self.assertEqual([count for _, count in self.eyes.passed_counts], [2, 3])

    def test_discarded_in_a_count(self) -> None:
        """A viewer that discards when a count is full is shown nothing more, and no more passes."""
        self.dial()
        self.client.pass_on(2)
        self.eyes.then[Side.CLIENT] = lambda count: self.client.discard()
        self.client.dataReceived(b"aab")
        self.assertEqual((self.far.value(), self.eyes.pieces), (b"aa", 0))

    def test_full_when_dialled(self) -> None:
        """Where the client's transport is full when the upstream comes, the upstream is not read yet."""
        self.wire.fill()
        self.dial()
        self.upstream.go_on()
        self.assertEqual(self.far.producerState, "paused")
        self.wire.empty()
        self.assertEqual(self.far.producerState, "producing")

    def test_answers(self) -> None:
        """Who is answered and does not read is paused; by an answer only, and until it is taken."""
        self.dial()
        self.upstream.go_on()
        self.wire.fill()
        self.assertEqual((self.wire.producerState, self.far.producerState), ("producing", "paused"))
        self.eyes.when[Side.CLIENT] = self.client.write
        self.client.dataReceived(b"?")
        self.assertEqual(self.wire.producerState, "paused")
        self.client.go_on()
        self.assertEqual(self.wire.producerState, "paused")
        self.wire.empty()
        self.assertEqual((self.wire.producerState, self.far.producerState), ("producing", "producing"))

    def unanswered(self) -> None:
        """A client that is not read because it does not read its answers."""
        self.dial()
        self.upstream.go_on()
        self.wire.fill()
        self.eyes.when[Side.CLIENT] = self.client.write
        self.client.dataReceived(b"?")
        self.assertEqual(self.wire.producerState, "paused")

    def test_answers_that_nobody_takes(self) -> None:
        """Where the peer takes no more, or there will be no more answers, it is read again."""
        for over in (
            lambda: self.client.writing_failed(),
            lambda: self.upstream.discard(),
            lambda: self.client.end(),
            lambda: self.client.discard(),
        ):
            self.setUp()
            self.unanswered()
            over()
            self.assertEqual(self.wire.producerState, "producing")

    def test_lost(self) -> None:
        """What is asked of a stream that is lost is nothing; when both are, they forget who watched."""
        self.dial()
        self.upstream.connectionLost(Failure(error.ConnectionLost()))
        self.upstream.hold()
        self.upstream.go_on()
        self.upstream.watch(self.eyes)
        self.client.unjoin()
        self.client.dataReceived(b"x")
        self.assertEqual(self.eyes.pieces, 0)

    def test_write_readiness(self) -> None:
        """It is what Twisted asks of a producer."""
        readiness = WriteReadiness(lambda: None, lambda: None)
        verifyObject(IPushProducer, readiness)
        readiness.stopProducing()
