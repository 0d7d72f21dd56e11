"""Tests of `portfwd.streams.datagrams.datagram_stream` and of what carriers have in common."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.streams.datagrams.carrier import MOST_KEPT, MOST_KEPT_BYTES, EarlyDatagrams
from portfwd.streams.datagrams.datagram_stream import DatagramStream
from portfwd.streams.stream import Loss, Stream
from portfwd.values import FlowSummary, Side
from tests.streams.carriers import FakeCarrier, Owner


class KeepTests(SynchronousTestCase):
    """A few datagrams that wait."""

    def test_order(self) -> None:
        """The oldest comes out first; an empty one is one."""
        keep = EarlyDatagrams()
        for data in (b"a", b"", b"c"):
            keep.put(data)
        self.assertEqual(repr(keep), "<EarlyDatagrams of 3 datagrams, 2 bytes>")
        self.assertEqual([keep.take() for _ in range(3)], [b"a", b"", b"c"])
        self.assertFalse(keep)

    def test_bounds(self) -> None:
        """Neither more datagrams nor more bytes than allowed; the rest is counted."""
        keep = EarlyDatagrams()
        for _ in range(MOST_KEPT + 3):
            keep.put(b"")
        self.assertEqual((len(keep), keep.dropped), (MOST_KEPT, 3))
        keep.clear()
        keep.put(bytes(MOST_KEPT_BYTES))
        keep.put(b"x")
        self.assertEqual((len(keep), keep.dropped), (1, 4))


class Viewer:
    """Sees datagrams, and lets them pass."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def shown(self, stream: Stream, data: bytes) -> None:
        self.seen.append(data)

    def passed(self, stream: Stream, count: int) -> None:
        raise AssertionError("datagrams are not counted")


class DatagramStreamTests(SynchronousTestCase):
    """Two of them, joined."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.near, self.far = FakeCarrier(), FakeCarrier()
        self.client = DatagramStream(self.near, self.clock.seconds)
        self.upstream = DatagramStream(self.far, self.clock.seconds)
        self.upstream.side = Side.UPSTREAM
        self.owner = Owner()
        self.client.own(self.owner)
        self.upstream.own(self.owner)

    def join(self) -> None:
        """As a session does."""
        self.client.join(self.upstream)
        self.upstream.join(self.client)
        self.client.start()
        self.upstream.start()

    def test_whole_and_at_once(self) -> None:
        """Each datagram goes to the other side as it came, in both directions; empty ones too."""
        self.join()
        self.near.brings(b"one", b"", b"three")
        self.far.brings(b"answer")
        self.assertEqual(self.far.sent, [b"one", b"", b"three"])
        self.assertEqual(self.near.sent, [b"answer"])
        self.assertEqual(self.upstream.summary(self.client), FlowSummary(bytes=8, reads=3, writes=3))

    def test_before_it_is_joined(self) -> None:
        """What comes while the upstream is dialled is kept, in order, and goes first."""
        self.near.brings(b"early")
        self.near.brings(b"too")
        self.join()
        self.near.brings(b"late")
        self.assertEqual(self.far.sent, [b"early", b"too", b"late"])

    def test_times(self) -> None:
        """It knows when the first datagram came and when the last one did."""
        self.assertIsNone(self.client.first_at)
        self.join()
        self.clock.advance(1)
        self.near.brings(b"a")
        self.clock.advance(1)
        self.near.brings(b"b")
        self.assertEqual((self.client.first_at, self.client.moved_at), (1.0, 2.0))

    def test_no_room(self) -> None:
        """A datagram that the kernel does not take is dropped and counted."""
        self.join()
        self.far.full = True
        self.near.brings(b"a")
        self.assertEqual(self.upstream.dropped, 1)
        self.assertEqual(self.upstream.summary(self.client), FlowSummary(reads=1))
        self.assertEqual(self.upstream.undelivered(), 0)

    def test_unreachable(self) -> None:
        """A closed port is a reset: told once, nothing goes to the other side, and the carrier is closed."""
        self.join()
        self.far.breaks()
        self.far.breaks()
        self.assertEqual(self.owner.told, [(Loss.RESET, "Connection refused")])
        self.assertEqual((self.near.sent, self.far.closed), ([], 1))
        self.near.brings(b"late")
        self.assertEqual(self.far.sent, [])

    def test_unreachable_before_it_is_owned(self) -> None:
        """Whoever comes to own it hears of it."""
        stream = DatagramStream(self.far, self.clock.seconds)
        self.far.breaks()
        self.far.brings(b"x")
        owner = Owner()
        stream.own(owner)
        self.assertEqual(owner.told, [(Loss.RESET, "Connection refused")])

    def test_ways_out(self) -> None:
        """To end, to close and to abort all close at once; what was kept is forgotten."""
        for close, how in (("end", Loss.ORDERLY), ("close", Loss.ORDERLY), ("abort", Loss.ABORTED)):
            carrier, owner = FakeCarrier(), Owner()
            stream = DatagramStream(carrier, self.clock.seconds)
            carrier.brings(b"kept")
            stream.own(owner)
            stream.discard()
            getattr(stream, close)()
            getattr(stream, close)()
            stream.write(b"no more")
            self.assertEqual((carrier.closed, carrier.sent, owner.told), (1, [], [(how, "")]))

    def test_watched(self) -> None:
        """Shown instead of passed on, until all may pass."""
        viewer = Viewer()
        self.client.watch(viewer)
        self.join()
        self.near.brings(b"a", b"")
        self.assertEqual((viewer.seen, self.far.sent), ([b"a", b""], []))
        self.client.pass_on(5)
        self.assertEqual(self.client.settle(), 0)
        self.client.pass_on(None)
        self.near.brings(b"b")
        self.assertEqual((viewer.seen, self.far.sent), ([b"a", b""], [b"b"]))

    def test_held(self) -> None:
        """On hold a few are kept; a viewer who holds while they are delivered gets the rest later."""
        self.join()
        self.client.hold()
        self.near.brings(b"a", b"b")
        self.assertEqual(self.far.sent, [])
        viewer = Viewer()

        def shown(stream: Stream, data: bytes) -> None:
            viewer.seen.append(data)
            self.client.hold()

        cast(Any, viewer).shown = shown
        self.client.watch(viewer)
        self.client.go_on()
        self.assertEqual(viewer.seen, [b"a"])
        self.client.go_on()
        self.assertEqual(viewer.seen, [b"a", b"b"])

    def test_tapped(self) -> None:
        """An operator sees a copy of what comes, for as long as he looks."""
        seen: list[bytes] = []
        self.join()
        self.client.tap(seen.append)
        self.near.brings(b"a")
        self.client.tap(None)
        self.near.brings(b"b")
        self.assertEqual((seen, self.far.sent), ([b"a"], [b"a", b"b"]))

    def test_unjoined(self) -> None:
        """It forgets the other one."""
        self.join()
        self.client.unjoin()
        self.near.brings(b"a")
        self.assertEqual(self.far.sent, [])

    def test_repr(self) -> None:
        """It says what it is."""
        self.assertEqual(repr(self.client), "<DatagramStream client 192.0.2.7:7 open>")
        self.client.abort()
        self.assertEqual(repr(self.client), "<DatagramStream client 192.0.2.7:7 lost>")
