"""The watched streams over sockets of ours: the suites of all streams, and every system call going wrong."""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.python.failure import Failure
from twisted.trial import unittest

from portfwd.kernel.poller import Poller
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.rules.model import Options, RelayKind
from portfwd.streams.sockets.socket_end import NotConnected
from portfwd.streams.sockets.socket_flow import SocketFlow
from portfwd.streams.sockets.socket_opening import SocketShare, SocketStreams
from portfwd.streams.sockets.socket_stream import SocketStream
from portfwd.streams.stream import Loss, Stream, Watched
from portfwd.values import Side
from tests.streams.conformance import TCP, StreamConformance, Unix
from tests.streams.watching import Eyes, WatchConformance
from tests.streams.workbench import BUFFER, PIPE, NothingIdle, Workbench, drain, tcp_pair


class _Sockets:
    """Watched streams of sockets of ours."""

    relay = RelayKind.AUTO
    #: Bytes of a larger read; here as many as of any.
    bulk = 8192
    #: See `tests.streams.sockets.test_socket_stream`: slots bound what a pipe has in flight.
    buffer = 65536 // 4096 * 32768

    addCleanup: Any  # noqa: N815
    assertEqual: Any  # noqa: N815

    def setUp(self) -> None:
        self.poller = Poller(reactor)  # type: ignore[arg-type]
        self.poller.start()
        self.addCleanup(self.poller.stop)
        self.pool = NothingIdle(4 * 65536, DescriptorBudget(0, 0), reactor)
        self.addCleanup(self.pool.close)
        options = evolve(Options(), relay=self.relay, buffer=8192, bulk_buffer=self.bulk, pipe=65536)
        share = SocketShare(self.poller, self.pool)
        self.maker = SocketStreams(share, options)
        self.addCleanup(lambda: self.assertEqual(share.slots.taken, 0))

    def stream(self, sock: socket.socket) -> SocketStream:
        """Made as for sessions of rules with filters."""
        return self.maker.plain(sock, None, 0)

    def keeps(self, stream: Watched) -> int:
        """What the flow to it keeps."""
        assert isinstance(stream, SocketStream)
        assert stream.drain is not None
        return stream.drain.kept_bytes


class _Watched(_Sockets, WatchConformance):
    """Seen by somebody."""

    def check_counters(self, size: int) -> None:
        """Bulk that nobody looks at is spliced again, where it may be."""
        spliced = self.right.summary(self.left).spliced  # type: ignore[arg-type]
        if self.relay is RelayKind.COPY:
            self.assertEqual(spliced, 0)
        else:
            self.assertGreater(spliced, size * 0.9)


class WatchedTCPTests(TCP, _Watched, unittest.TestCase):
    """Over TCP, as by default: what passes unseen is copied if it is little, spliced if it is much."""


class WatchedUnixTests(Unix, _Watched, unittest.TestCase):
    """Over unix sockets."""


class WatchedSpliceTests(TCP, _Watched, unittest.TestCase):
    """With ``relay=splice``: what passes unseen stays in the kernel."""

    relay = RelayKind.SPLICE


class WatchedCopyTests(TCP, _Watched, unittest.TestCase):
    """With ``relay=copy``."""

    relay = RelayKind.COPY


class WatchedBulkTests(TCP, _Watched, unittest.TestCase):
    """With larger reads."""

    bulk = kept = 65536


class _PassedOn(_Sockets, StreamConformance):
    """Whoever looks writes everything on: these are streams like all others."""

    buffer = 8192

    def streams(self, left: socket.socket, right: socket.socket) -> tuple[Stream, Stream]:
        """Two that are watched."""
        eyes = Eyes()
        one, other = self.stream(left), self.stream(right)
        eyes.streams = {Side.CLIENT: one, Side.UPSTREAM: other}
        one.watch(eyes)
        other.watch(eyes, one)
        return one, other


class PassedOnTCPTests(TCP, _PassedOn, unittest.TestCase):
    """Over TCP."""


class PassedOnUnixTests(Unix, _PassedOn, unittest.TestCase):
    """Over unix sockets."""


class PassedOnBulkTests(TCP, _PassedOn, unittest.TestCase):
    """With larger reads, over TCP."""

    bulk = buffer = 65536


class PassedOnBulkUnixTests(Unix, _PassedOn, unittest.TestCase):
    """With larger reads, over unix sockets."""

    bulk = buffer = 65536


class UnwatchedTests(TCP, _Sockets, StreamConformance, unittest.TestCase):
    """No filter wants to see this client: its streams are like those of a rule without filters."""

    def streams(self, left: socket.socket, right: socket.socket) -> tuple[Stream, Stream]:
        """Two that nobody watches."""
        return self.stream(left), self.stream(right)


class WatchedBench(Workbench):
    """
    A workbench whose streams somebody watches.

    :ivar eyes: who.
    """

    def join_streams(self) -> None:
        """As a session does it."""
        self.eyes = Eyes()
        self.eyes.streams = {Side.CLIENT: self.client, Side.UPSTREAM: self.upstream}
        self.client.watch(self.eyes)
        self.upstream.watch(self.eyes, self.client)
        super().join_streams()

    @property
    def up(self) -> SocketFlow:
        """The flow from the client."""
        flow = self.client.source
        assert flow is not None
        return flow


class BenchCase(unittest.SynchronousTestCase):
    """With a workbench."""

    def bench(
        self, pair: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair, **options: bool
    ) -> WatchedBench:
        """One that is closed in the end."""
        bench = WatchedBench(pair, **options)
        self.addCleanup(bench.close)
        bench.start()
        bench.turn()  # the edges of registering are behind us
        return bench

    def stop_reader(self, bench: WatchedBench) -> int:
        """Send until the flow has to wait; how many bytes the kernel took."""
        sent = 0
        for _ in range(400):
            try:
                sent += bench.left.send(bytes(200_000))
            except BlockingIOError:
                pass
            bench.turn()
            if bench.up.waits_to_write:
                return sent
        raise AssertionError("it never waits")


class FaultTests(BenchCase):
    """Each call fails once."""

    def test_read_fails(self) -> None:
        """A read that fails while somebody looks is the loss of the source, and nothing was shown."""
        for code, how in ((errno.ECONNRESET, Loss.RESET), (errno.ENOMEM, Loss.EXHAUSTED)):
            bench = self.bench()
            bench.faults.plan["recv"] = deque([code])
            bench.left.send(b"x")
            bench.turn()
            self.assertEqual(bench.owner.losses, {Side.CLIENT: how})
            self.assertEqual(bench.eyes.pieces, 0)

    def test_nothing_to_read(self) -> None:
        """A read for which there is nothing is no end: the next edge is waited for."""
        bench = self.bench()
        bench.client.ready(0x1)
        self.assertEqual((bench.eyes.pieces, bench.client.readable, bench.owner.told), (0, False, []))

    def test_short_reads(self) -> None:
        """A read that stops early is shown as it came; what an edge says of more is looked for."""
        bench = self.bench()
        bench.client.more = True
        bench.faults.plan["recv"] = deque([-3, -1])
        bench.left.send(b"abcdef")
        bench.turn()
        self.assertEqual(drain(bench.right)[0], b"abcdef")
        self.assertEqual(bench.eyes.pieces, 3)

    def test_write_fails(self) -> None:
        """A write that fails is told of once; reading goes on to its own end."""
        bench = self.bench()
        bench.faults.plan["send"] = deque([errno.EPIPE])
        bench.left.send(b"x")
        bench.turn()
        self.assertEqual(bench.owner.told, [("writing failed", Side.UPSTREAM)])
        bench.left.send(b"y")
        bench.turn()
        self.assertEqual((drain(bench.right), bench.up.kept_bytes), ((b"", "open"), 0))
        bench.upstream.write(b"z")
        self.assertEqual(bench.owner.told, [("writing failed", Side.UPSTREAM)])

    def test_write_takes_nothing(self) -> None:
        """What the socket refuses is kept and goes out at the next edge."""
        bench = self.bench()
        bench.faults.plan["send"] = deque([errno.EAGAIN])
        bench.left.send(b"kept")
        bench.turn()
        self.assertEqual((drain(bench.right)[0], bench.up.kept_bytes), (b"", 4))
        self.assertTrue(bench.up.waits_to_write)
        bench.left.send(b"behind")
        bench.turn()
        self.assertEqual(bench.eyes.pieces, 1)
        bench.nudge()
        self.assertEqual(drain(bench.right)[0], b"keptbehind")

    def test_short_writes(self) -> None:
        """What a write leaves is written next, by a turn of its own."""
        bench = self.bench()
        bench.faults.plan["send"] = deque([-1, -2])
        bench.left.send(b"abcdef")
        bench.turn()
        self.assertEqual(drain(bench.right)[0], b"abcdef")

    def test_kept_bytes_fail(self) -> None:
        """A write of kept bytes that fails drops them."""
        bench = self.bench()
        bench.faults.plan["send"] = deque([errno.EAGAIN, errno.ECONNRESET])
        bench.left.send(b"kept")
        bench.turn()
        bench.nudge()
        self.assertEqual(bench.owner.told, [("writing failed", Side.UPSTREAM)])
        self.assertEqual(bench.up.kept_bytes, 0)

    def test_dead_and_unanswered(self) -> None:
        """Who is dead already when its answer has to wait is not waited for."""
        bench = self.bench()
        bench.eyes.when[Side.CLIENT] = bench.client.write
        bench.client.dead = True
        bench.faults.plan["send"] = deque([errno.EAGAIN])
        bench.left.send(b"?")
        bench.client.more = True
        bench.turn()
        self.assertEqual(bench.owner.told, [("writing failed", Side.CLIENT)])
        bench.left.send(b"?")
        bench.turn()
        self.assertEqual(bytes(bench.eyes.seen[Side.CLIENT]), b"??")

    def test_end_fails(self) -> None:
        """An end that cannot be sent is a failed write."""
        bench = self.bench()
        bench.faults.plan["shutdown"] = deque([errno.ENOTCONN])
        bench.left.shutdown(socket.SHUT_WR)
        bench.turn()
        self.assertEqual(bench.owner.told, [("ended", Side.CLIENT), ("writing failed", Side.UPSTREAM)])

    def test_no_splice_between_these(self) -> None:
        """Where the kernel cannot splice, what passes unseen is copied, to the byte."""
        bench = self.bench(splice_first=True)
        bench.faults.plan["splice"] = deque([errno.EINVAL])
        bench.client.pass_on(10_000)
        bench.left.send(bytes(9_000))
        bench.turn()
        bench.left.send(bytes(1_000) + b"seen")
        bench.turn()
        self.assertEqual(len(drain(bench.right)[0]), 10_004)
        self.assertEqual(bytes(bench.eyes.seen[Side.CLIENT]), b"seen")

    def test_splice_stops_in_the_pipe(self) -> None:
        """Also where that shows when bytes are in the pipe already."""
        bench = self.bench(splice_first=True)
        bench.faults.plan["splice"] = deque([None, errno.EINVAL])
        bench.client.pass_on(10)
        bench.left.send(b"0123456789seen")
        bench.turn(6)
        self.assertEqual(drain(bench.right)[0], b"0123456789seen")
        self.assertEqual(bytes(bench.eyes.seen[Side.CLIENT]), b"seen")


class ManyWritesTests(BenchCase):
    """Many small writes towards a reader who has stopped."""

    def test_linear(self) -> None:
        """What is kept is not copied for each of them, so the time is in proportion to their number."""
        bench = self.bench()
        self.stop_reader(bench)
        bench.client.hold()
        kept = bench.up.kept_bytes
        joined = [0]
        count = 20_000
        for number in range(count):
            before = bench.up.kept
            bench.up.write(bytes([number % 251]))
            joined[0] += bench.up.kept is not before
        self.assertEqual((bench.up.kept_bytes - kept, joined[0] <= 1), (count, True))
        received = bytearray()
        for _ in range(5000):
            received += drain(bench.right)[0]
            bench.turn()
            if not bench.up.keeps_bytes:
                break
        received += drain(bench.right)[0]
        self.assertEqual(bytes(received[-count:]), bytes(number % 251 for number in range(count)))


class FullPipeTests(BenchCase):
    """What is asked while bytes wait in a pipe."""

    def spliced(self) -> tuple[WatchedBench, int]:
        """All may pass, the reader has stopped; a bench, and how many bytes were sent."""
        bench = self.bench(splice_first=True)
        bench.client.pass_on(None)
        sent = self.stop_reader(bench)
        self.assertGreater(bench.up.in_pipe, 0)
        return bench, sent

    def read_all(self, bench: WatchedBench, count: int) -> bytes:
        """Read until that many have come."""
        received = bytearray()
        for _ in range(5000):
            received += drain(bench.right)[0]
            bench.turn()
            if len(received) >= count:
                break
        return bytes(received)

    def test_hold(self) -> None:
        """A hold lets go what is in the pipe, reads nothing, and gives the pipe back."""
        bench, _ = self.spliced()
        bench.client.hold()
        under_way = bench.up.moved + bench.up.kept_bytes
        received = self.read_all(bench, under_way)
        self.assertEqual(len(received), under_way)
        bench.turn()
        self.assertEqual((drain(bench.right)[0], bench.up.pipe), (b"", None))
        bench.client.go_on()
        bench.turn()
        self.assertGreater(len(drain(bench.right)[0]), 0)

    def test_shown_again(self) -> None:
        """When a count is settled, what is in the pipe has passed, and the next byte is shown."""
        bench = self.bench(splice_first=True)
        bench.client.pass_on(1 << 30)
        self.stop_reader(bench)
        passed = bench.client.settle()
        self.assertEqual(passed, bench.up.moved + bench.up.kept_bytes)
        received = self.read_all(bench, passed + 1)
        self.assertGreater(len(received), passed)
        self.assertGreaterEqual(len(bench.eyes.seen[Side.CLIENT]), len(received) - passed)

    def test_the_destination_is_lost(self) -> None:
        """The pipe and what waits behind it are dropped."""
        bench, _ = self.spliced()
        bench.upstream.write(b"behind")
        bench.upstream.lose(Loss.RESET)
        self.assertEqual((bench.up.kept_bytes, bench.up.pipe), (0, None))
        bench.upstream.write(b"nobody")
        self.assertEqual(bench.up.kept_bytes, 0)

    def test_the_destination_fails(self) -> None:
        """So they are when a splice into it fails."""
        bench, _ = self.spliced()
        bench.upstream.write(b"behind")
        bench.faults.plan["splice"] = deque([errno.EPIPE])
        bench.nudge()
        self.assertIn(("writing failed", Side.UPSTREAM), bench.owner.told)
        self.assertEqual((bench.up.kept_bytes, bench.up.pipe), (0, None))

    def test_discarded(self) -> None:
        """Who discards the source still gives what was read, and said, to the destination."""
        bench, _ = self.spliced()
        bench.upstream.write(b"behind")
        under_way = bench.up.moved + bench.up.kept_bytes
        bench.client.discard()
        bench.turn()
        received = self.read_all(bench, under_way)
        self.assertEqual((len(received), received[-6:]), (under_way, b"behind"))

    def test_no_pipe_is_left(self) -> None:
        """However often seeing and splicing take turns, in the end no pipe is lent."""
        bench = self.bench(splice_first=True)
        for _ in range(20):
            bench.client.pass_on(3 * PIPE)
            for _ in range(4):
                bench.left.send(bytes(PIPE))
                bench.turn(6)
                drain(bench.right)
            self.assertIsNone(bench.up.pipe)
        assert bench.pool is not None
        self.assertEqual(bench.pool.lent, 0)
        self.assertEqual(len(bench.eyes.seen[Side.CLIENT]), 20 * PIPE)


class SmallThingsTests(BenchCase):
    """What is not to be forgotten."""

    def test_a_turn_each(self) -> None:
        """Who has much to show takes turns with others."""
        bench = self.bench(socket.socketpair)
        bench.setup.quantum = 4 * BUFFER
        bench.left.send(bytes(20 * BUFFER))
        bench.client.ready(0x1)
        self.assertEqual(bench.eyes.pieces, 4)
        bench.turn(10)
        self.assertEqual(bench.eyes.pieces, 20)

    def test_silence(self) -> None:
        """Bytes that go out late are movement of the side that they come from."""
        bench = self.bench()
        self.stop_reader(bench)
        bench.reactor.advance(50)
        for _ in range(50):
            drain(bench.right)
            bench.turn()
        self.assertEqual(bench.client.moved_at, 50)
        self.assertEqual(bench.up.summary().paused, 50)

    def test_reprs(self) -> None:
        """Flows say what they are, also while one end is absent."""
        bench = self.bench()
        self.assertIn("from client", repr(bench.up))
        nowhere: Any = NotConnected()
        self.assertIn("NotConnected", repr(nowhere))
        flow = SocketFlow(nowhere, bench.client, bench.setup)
        self.assertIn("from upstream", repr(flow))
        self.assertEqual(nowhere.written_out(), None)

    def test_our_own_mistake(self) -> None:
        """A failure of a flow without a source is told to the side that is there."""
        bench = self.bench()
        nowhere: Any = NotConnected()
        flow = SocketFlow(nowhere, bench.client, bench.setup)
        flow.failed(Failure(ZeroDivisionError()))
        self.assertEqual(bench.owner.losses, {Side.CLIENT: Loss.FAILED})

    def test_streams_that_nobody_watches(self) -> None:
        """What only a watched stream can do is nothing for one that is not."""
        bench = self.bench()
        near, far = tcp_pair()
        self.addCleanup(near.close)
        near.setblocking(False)
        stream = SocketStream(near, None, bench)
        self.addCleanup(far.close)
        stream.write(b"x")
        stream.pass_on(1)
        stream.hold()
        stream.go_on()
        self.assertEqual(stream.settle(), 0)
