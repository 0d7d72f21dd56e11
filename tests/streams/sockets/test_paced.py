"""Paced flows between sockets: the suites of all streams, and what only they do, with the test's time."""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.trial import unittest

from portfwd.kernel.poller import Poller
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.limits.pacing import MIN_SLICE
from portfwd.rules.model import Options, RelayKind
from portfwd.streams.allowance import Allowance
from portfwd.streams.rate_limiters import RateLimiters
from portfwd.streams.sockets.socket_end import SocketEnd
from portfwd.streams.sockets.socket_flow import SocketFlow
from portfwd.streams.sockets.socket_opening import SocketShare, SocketStreams
from portfwd.streams.sockets.socket_stream import SocketStream
from portfwd.streams.stream import Loss, Stream, Watched
from portfwd.values import InetAddress, Side
from tests.streams.conformance import TCP, StreamConformance, Unix
from tests.streams.sockets.test_socket_flow import HARMLESS, noise
from tests.streams.watching import Eyes, WatchConformance
from tests.streams.workbench import NothingIdle, Workbench, drain, tcp_pair

#: Slices of 5000 bytes, of which two are there at once.
RATE = 100_000
SLICE = 5000
BURST = 10_000
ONE = InetAddress("192.0.2.1", 1)
OTHER = InetAddress("192.0.2.2", 1)


class _Paced:
    """Streams of a rule with a bandwidth that is soon used up."""

    relay = RelayKind.AUTO
    #: See `tests.streams.sockets.test_socket_stream`: slots bound what a pipe has in flight.
    buffer = 65536 // 4096 * 32768

    addCleanup: Any  # noqa: N815

    def setUp(self) -> None:
        self.poller = Poller(reactor)  # type: ignore[arg-type]
        self.poller.start()
        self.addCleanup(self.poller.stop)
        self.pool = NothingIdle(4 * 65536, DescriptorBudget(0, 0), reactor)
        self.addCleanup(self.pool.close)
        options = evolve(Options(), relay=self.relay, buffer=8192, pipe=65536, bandwidth=16 << 20)
        limiters = RateLimiters(reactor, options)  # type: ignore[arg-type]
        self.maker = SocketStreams(SocketShare(self.poller, self.pool), options, limiters=limiters)

    def stream(self, sock: socket.socket) -> SocketStream:
        """Made as for sessions."""
        return self.maker.plain(sock, None, 0)

    def keeps(self, stream: Watched) -> int:
        """What the flow to it keeps."""
        assert isinstance(stream, SocketStream)
        assert stream.drain is not None
        return stream.drain.kept_bytes


class _Plain(_Paced, StreamConformance):
    """Nobody watches."""

    def streams(self, left: socket.socket, right: socket.socket) -> tuple[Stream, Stream]:
        """Two that nobody watches."""
        return self.stream(left), self.stream(right)


class PacedTCPTests(TCP, _Plain, unittest.TestCase):
    """Over TCP, as by default."""


class PacedUnixTests(Unix, _Plain, unittest.TestCase):
    """Over unix sockets."""


class PacedSpliceTests(TCP, _Plain, unittest.TestCase):
    """With ``relay=splice``."""

    relay = RelayKind.SPLICE


class PacedCopyTests(TCP, _Plain, unittest.TestCase):
    """With ``relay=copy``."""

    relay = RelayKind.COPY
    buffer = 8192


class PacedWatchedTests(TCP, _Paced, WatchConformance, unittest.TestCase):
    """Seen by somebody."""


class PacedWatchedSpliceTests(TCP, _Paced, WatchConformance, unittest.TestCase):
    """Seen by somebody, with ``relay=splice``."""

    relay = RelayKind.SPLICE


class PacedBench(Workbench):
    """
    A workbench whose streams are a paced rule's.

    :ivar eyes: who looks, if somebody does.
    """

    paced = True

    def __init__(
        self,
        pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair,
        *,
        watched: bool = False,
        rates: dict[str, int] | None = None,
        **options: bool,
    ) -> None:
        self._rates = {"bandwidth": RATE} if rates is None else rates
        self._watched = watched
        super().__init__(pair, **options)

    def join_streams(self) -> None:
        """As a session does it."""
        # No smaller than a slice, so that a read takes all of one.
        self.setup.buffer = memoryview(bytearray(16384))
        self.limiters = RateLimiters(self.reactor, Options(**self._rates))
        self.client.address = ONE
        self.eyes = Eyes()
        self.eyes.streams = {Side.CLIENT: self.client, Side.UPSTREAM: self.upstream}
        if self._watched:
            self.client.watch(self.eyes)
            self.upstream.watch(self.eyes, self.client)
        super().join_streams()

    def join(self, source: SocketEnd, destination: SocketEnd) -> SocketFlow:
        """Make a flow that is limited."""
        client = source if source.side is Side.CLIENT else destination
        ticket = self.limiters.ticket(source.side, client.address)
        assert ticket is not None
        return SocketFlow(source, destination, self.setup, Allowance(grants=ticket))

    @property
    def up(self) -> SocketFlow:
        """The flow from the client."""
        flow = self.client.source
        assert flow is not None
        return flow

    @property
    def waits(self) -> bool:
        """Whether that one waits for a grant."""
        return self.up.allowance is not None and self.up.allowance.waits

    @property
    def timers(self) -> int:
        """How many timers of rate limiters run."""
        self.turn()
        return len([call for call in self.reactor.getDelayedCalls() if "RateLimiter" in str(call.func)])

    def pass_time(self, seconds: float) -> None:
        """So much later, when everybody has done what he may."""
        self.reactor.advance(seconds)
        self.turn(12)

    def arrived(self) -> int:
        """Bytes that came to the right since the last look."""
        return len(drain(self.right)[0])


class BenchCase(unittest.SynchronousTestCase):
    """With a workbench."""

    def bench(self, *pair: Any, **options: Any) -> PacedBench:
        """One that is closed in the end."""
        bench = PacedBench(*pair, **options)
        self.addCleanup(bench.close)
        bench.start()
        bench.turn()  # the edges of registering are behind us
        return bench


class PaceTests(BenchCase):
    """So many bytes a second."""

    def test_slices(self) -> None:
        """The burst passes at once, then slice by slice, whether copied or spliced."""
        for options in ({"splicing": False}, {}, {"splice_first": True}):
            bench = self.bench(**options)
            data = noise(50_000)
            bench.left.send(data)
            bench.turn(12)
            arrived = [bench.arrived()]
            for _ in range(3):
                bench.pass_time(0.05)
                arrived.append(bench.arrived())
            self.assertEqual(arrived, [BURST, SLICE, SLICE, SLICE], options)
            self.assertTrue(bench.waits)
            bench.pass_time(0.1)
            self.assertEqual(bench.arrived(), 2 * SLICE)
            self.assertAlmostEqual(bench.upstream.summary(bench.client).paced, 0.25)
            self.assertEqual(bench.upstream.summary(bench.client).paused, 0)
            self.assertIn("waits", repr(bench.up))

    def test_spliced_all_the_while(self) -> None:
        """A source that has more than it may send is in bulk, however small its slices are."""
        bench = self.bench(rates={"bandwidth": 30_000})
        bench.left.send(noise(40_000))
        for _ in range(40):
            bench.pass_time(0.05)
        flow = bench.upstream.summary(bench.client)
        self.assertEqual(flow.bytes, 40_000)
        # The first slice showed that it is bulk.
        self.assertEqual(flow.spliced, 40_000 - 1500)

    def test_no_pipe_while_waiting(self) -> None:
        """A pipe that is not needed before the next slice is somebody else's meanwhile."""
        bench = self.bench(splice_first=True)
        bench.left.send(noise(50_000))
        bench.turn(12)
        assert bench.pool is not None
        self.assertEqual((bench.waits, bench.pool.lent, bench.up.kept_bytes), (True, 0, 0))

    def test_bulk_below_the_limit(self) -> None:
        """A source that is slower than it may be is spliced too, as long as it brings much."""
        bench = self.bench(rates={"bandwidth": 10_000_000})
        for _ in range(10):
            bench.left.send(noise(100_000))
            bench.pass_time(0.1)
            bench.arrived()
        flow = bench.upstream.summary(bench.client)
        self.assertEqual(flow.bytes, 1_000_000)
        self.assertGreater(flow.spliced, 980_000)
        for _ in range(3):
            bench.left.send(b"little")
            bench.turn()
        self.assertFalse(bench.up.bulk)

    def test_idle_flows_hold_nothing(self) -> None:
        """What a message did not use of its slice is there for others."""
        bench = self.bench()
        for _ in range(20):
            bench.left.send(b"little")
            bench.turn()
        self.assertEqual(bench.arrived(), 120)
        limiter = bench.limiters.limiters_for(Side.CLIENT, ONE)[0]
        self.assertEqual(limiter.level, BURST - 120)

    def test_directions(self) -> None:
        """Each has its own."""
        bench = self.bench()
        for sock in (bench.left, bench.right):
            sock.send(noise(30_000))
        bench.turn(20)
        self.assertEqual((len(drain(bench.left)[0]), len(drain(bench.right)[0])), (BURST, BURST))

    def test_end_behind_the_bytes(self) -> None:
        """An end waits for what is before it, and is not held longer than that."""
        bench = self.bench()
        bench.left.send(noise(20_000))
        bench.left.shutdown(socket.SHUT_WR)
        bench.turn(12)
        self.assertEqual((bench.arrived(), bench.owner.told), (BURST, []))
        bench.pass_time(0.05)
        self.assertEqual((bench.arrived(), bench.owner.told), (SLICE, []))
        bench.pass_time(0.1)
        arrived, how = drain(bench.right)
        self.assertEqual((len(arrived), how, bench.timers), (SLICE, "end", 0))

    def test_a_destination_that_is_full(self) -> None:
        """Who cannot write gives back what he was granted, and waits for his destination, not for a turn."""
        for options in ({}, {"splice_first": True}, {"splicing": False}):
            bench = self.bench(**options)
            call = "splice" if "splice_first" in options else "send"
            bench.faults.plan[call] = deque([None, errno.EAGAIN] if call == "splice" else [errno.EAGAIN])
            bench.left.send(noise(8000))
            bench.turn()
            self.assertEqual((bench.up.waits_to_write, bench.waits), (True, False), options)
            self.assertEqual(bench.arrived(), 0)
            bench.pass_time(1)
            self.assertEqual((bench.arrived(), bench.timers), (0, 0))
            bench.nudge()
            bench.turn(12)
            self.assertEqual(bench.arrived(), 8000)
            self.assertEqual(bench.upstream.summary(bench.client).paused, 1)

    def test_bytes_that_wait_go_out_while_waiting(self) -> None:
        """What was read is written as soon as it can be, whether or not more may be read."""
        bench = self.bench(splice_first=True)
        bench.faults.plan["splice"] = deque([None, None, None, errno.EAGAIN])
        bench.left.send(noise(30_000))
        bench.turn(12)
        self.assertEqual((bench.arrived(), bench.up.kept_bytes), (SLICE, SLICE))
        bench.nudge()
        bench.turn(12)
        self.assertEqual((bench.arrived(), bench.up.kept_bytes, bench.waits), (SLICE, 0, True))


class QueueTests(BenchCase):
    """Who waits, and for how long he is in the queue."""

    def waiting(self, *pair: Any, **options: Any) -> PacedBench:
        """A bench whose client has more than it may send."""
        bench = self.bench(*pair, **options)
        bench.left.send(noise(60_000))
        bench.turn(12)
        self.assertTrue(bench.waits)
        self.assertEqual(bench.timers, 1)
        return bench

    def test_nobody_counts_on_its_input(self) -> None:
        """What waits to be read may have to wait for its turn, so it is not promised."""
        bench = self.bench()
        bench.client.hold()
        bench.left.send(b"words")
        self.assertFalse(bench.client.has_input())

    def test_lost(self) -> None:
        """A flow of which either stream is gone waits no more, and no timer runs for it."""
        for side in Side:
            bench = self.waiting()
            (bench.client if side is Side.CLIENT else bench.upstream).abort()
            self.assertEqual((bench.waits, bench.timers), (False, 0), side)

    def test_lost_with_a_grant(self) -> None:
        """What was granted to a flow that is lost before it could read is given back."""
        bench = self.waiting()
        limiter = bench.limiters.limiters_for(Side.CLIENT, ONE)[0]
        limiter.settle(SLICE, 0)
        self.assertEqual((bench.waits, bench.up.allowance.left), (False, SLICE))
        bench.client.lose(Loss.RESET)
        bench.turn()
        self.assertEqual(limiter.level, SLICE)

    def test_dropped(self) -> None:
        """So does one whose destination takes no more: what it reads is thrown away, as fast as it comes."""
        bench = self.waiting()
        bench.upstream.break_writing(errno.EPIPE)
        self.assertEqual((bench.waits, bench.timers), (False, 0))
        bench.left.shutdown(socket.SHUT_WR)
        bench.turn(12)
        self.assertIn(("ended", Side.CLIENT), bench.owner.told)

    def test_dead_while_waiting(self) -> None:
        """That a peer died is not noticed by reading while its flow waits; it is told all the same."""
        bench = self.waiting(tcp_pair, pass_ends=False)
        bench.upstream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bench.right.send(b"unread")
        bench.turn()
        bench.left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        bench.left.close()
        bench.turn()
        self.assertEqual(bench.owner.told, [("writing failed", Side.CLIENT)])
        arrived = bench.arrived()
        for _ in range(20):
            bench.pass_time(0.05)
            arrived += bench.arrived()
        self.assertEqual((arrived, bench.owner.losses), (60_000, {Side.CLIENT: Loss.RESET}))

    def test_dead_before_it_waits(self) -> None:
        """The same where the death was seen first."""
        bench = self.bench()
        bench.client.started = True
        bench.limiters.limiters_for(Side.CLIENT, ONE)[0].settle(0, BURST)
        bench.client.dead = bench.client.readable = True
        bench.up.run()
        self.assertEqual(bench.owner.told, [("writing failed", Side.CLIENT)])

    def test_waiting_is_not_silence(self) -> None:
        """While a flow waits something moves, as far as limits of silence go; and only then."""
        bench = self.waiting(rates={"bandwidth": 10_000})
        limiter = bench.limiters.limiters_for(Side.CLIENT, ONE)[0]
        limiter.settle(0, 10_000_000)
        bench.pass_time(900)
        self.assertEqual((bench.client.last_moved(), bench.upstream.last_moved()), (900, 0))
        limiter.settle(10_000_000, 0)
        for _ in range(100):
            bench.pass_time(1)
        self.assertFalse(bench.waits)
        self.assertLess(bench.client.moved_at, 1000)

    def test_the_wait_is_not_silence_afterwards(self) -> None:
        """Nor is it when the turn has come, or the flow has left the queue, and nothing was read yet."""
        for how in ("turn", "leave", "go_as"):
            bench = self.waiting()
            limiter = bench.limiters.limiters_for(Side.CLIENT, ONE)[0]
            limiter.settle(0, 10_000_000)
            bench.pass_time(50)
            {
                "turn": lambda limiter=limiter: limiter.settle(10_000_000, 0),
                "leave": bench.client.hold,
                "go_as": lambda bench=bench: bench.client.go_as(OTHER),
            }[how]()
            self.assertEqual((bench.waits, bench.client.moved_at), (False, 50), how)

    def test_two_sessions_share(self) -> None:
        """Flows of one rate limiter get a slice each in turn."""
        bench = self.bench()
        second = PacedBench()
        self.addCleanup(second.close)
        for flow in (second.client.source, second.upstream.source):
            assert flow is not None
            flow.allowance = Allowance(grants=bench.limiters.ticket(flow.source.side, OTHER))
        second.start()
        benches = (bench, second)
        for one in benches:
            one.left.send(noise(60_000))
        for one in benches:
            one.turn(12)
        for one in benches:
            one.arrived()
        for number in range(10):
            bench.reactor.advance(0.0500001)  # sums of seconds are a little more or less than they should be
            for one in benches:
                one.turn(12)
            self.assertEqual([one.arrived() for one in benches], [0, SLICE] if number % 2 else [SLICE, 0])

    def test_sources(self) -> None:
        """An address has its own; who turns out to be somebody else counts for that address."""
        bench = self.waiting(rates={"bandwidth_per_source": RATE})
        self.assertEqual(bench.arrived(), BURST)
        bench.client.go_as(OTHER)
        self.assertFalse(bench.waits)
        bench.turn(12)
        self.assertEqual((bench.arrived(), bench.waits), (BURST, True))
        (limiter,) = bench.limiters.limiters_for(Side.UPSTREAM, OTHER)
        self.assertEqual(limiter.level, BURST)
        bench.right.send(b"words")
        bench.turn()
        self.assertEqual(limiter.level, BURST - 5)


class TwoBoundsTests(BenchCase):
    """What is granted, and what a filter lets pass."""

    def test_shown_is_counted(self) -> None:
        """A viewer is shown no more bytes a second either, in reads no larger than a slice."""
        bench = self.bench(watched=True)
        data = noise(40_000)
        bench.left.send(data)
        bench.turn(12)
        self.assertEqual(bytes(bench.eyes.seen[Side.CLIENT]), data[:BURST])
        bench.pass_time(0.05)
        self.assertEqual(bytes(bench.eyes.seen[Side.CLIENT]), data[: BURST + SLICE])
        self.assertEqual(bench.arrived(), BURST + SLICE)

    def test_a_small_grant(self) -> None:
        """A grant that is smaller than the buffer bounds what is shown."""
        bench = self.bench(watched=True, rates={"bandwidth": MIN_SLICE})
        bench.left.send(noise(5000))
        bench.turn(12)
        self.assertEqual((len(bench.eyes.seen[Side.CLIENT]), bench.eyes.pieces), (MIN_SLICE, 1))

    def test_what_a_filter_writes_is_not(self) -> None:
        """Only what is read is paced."""
        bench = self.bench(watched=True)
        bench.upstream.write(noise(50_000))
        self.assertEqual(bench.arrived(), 50_000)

    def test_both_bounds(self) -> None:
        """A counted stretch passes slice by slice; then the viewer is told, and shown the rest."""
        for options in ({}, {"splice_first": True}, {"splicing": False}):
            bench = self.bench(watched=True, **options)
            data = noise(30_000)
            bench.client.pass_on(12_000)
            bench.left.send(data)
            bench.turn(12)
            self.assertEqual((bench.arrived(), bench.eyes.passed_counts), (BURST, []), options)
            bench.pass_time(0.05)
            self.assertEqual(bench.eyes.passed_counts, [(Side.CLIENT, 12_000)])
            self.assertEqual(bench.arrived(), 2000)
            bench.pass_time(0.02)
            self.assertEqual(bytes(bench.eyes.seen[Side.CLIENT]), data[12_000 : 12_000 + SLICE])
            self.assertEqual(bench.arrived(), SLICE)

    def test_settle(self) -> None:
        """In the middle of a stretch it is known how much has passed, wherever it stopped."""
        bench = self.bench(watched=True)
        bench.client.pass_on(12_000)
        bench.left.send(noise(20_000))
        bench.turn(12)
        self.assertEqual((bench.client.settle(), bench.client.settle()), (BURST, 0))
        bench.pass_time(0.1)
        self.assertEqual(len(bench.eyes.seen[Side.CLIENT]), BURST)

    def test_all_unseen(self) -> None:
        """When the viewer has seen enough, bulk is spliced, slice by slice."""
        bench = self.bench(watched=True)
        bench.eyes.when[Side.CLIENT] = lambda data: (bench.upstream.write(data), bench.client.pass_on(None))
        bench.left.send(noise(60_000))
        for _ in range(12):
            bench.pass_time(0.05)
        flow = bench.upstream.summary(bench.client)
        self.assertEqual((flow.bytes, bench.eyes.pieces), (60_000, 1))
        self.assertGreater(flow.spliced, 50_000)

    def test_hold(self) -> None:
        """On hold it is in no queue; when it goes on it asks anew."""
        bench = self.bench(watched=True)
        bench.left.send(noise(30_000))
        bench.turn(12)
        self.assertTrue(bench.waits)
        bench.client.hold()
        self.assertEqual((bench.waits, bench.timers), (False, 0))
        bench.pass_time(0.05)
        self.assertEqual(len(bench.eyes.seen[Side.CLIENT]), BURST)
        bench.client.go_on()
        bench.turn(12)
        self.assertEqual(len(bench.eyes.seen[Side.CLIENT]), BURST + SLICE)

    def test_hold_within(self) -> None:
        """What was granted to a viewer who stops in the middle of it is given back."""
        bench = self.bench(watched=True)

        def stop(data: bytes) -> None:
            bench.client.hold()

        bench.eyes.when[Side.CLIENT] = stop
        bench.left.send(noise(3000))
        bench.turn(12)
        self.assertEqual(len(bench.eyes.seen[Side.CLIENT]), 3000)
        self.assertEqual(bench.limiters.limiters_for(Side.CLIENT, ONE)[0].level, BURST - 3000)


class OpeningTests(BenchCase):
    """Which flows a paced rule has."""

    def flow(self, **rates: int) -> SocketFlow:
        """The one from the client, of a rule."""
        bench = self.bench()
        options = Options(**rates)
        share = SocketShare(bench.poller, bench.pool)
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        stream = SocketStreams(share, options, limiters=RateLimiters(bench.reactor, options)).accepted(
            near, ONE, options
        )
        self.addCleanup(stream.abort)
        stream.join(stream)
        assert stream.source is not None
        return stream.source

    def test_only_where_there_is_a_limit(self) -> None:
        """A direction without one is not paced."""
        for rates, paced in (
            ({"bandwidth": RATE}, True),
            ({"bandwidth_per_source": RATE}, True),
            ({"bandwidth_down": RATE}, False),
        ):
            self.assertEqual(self.flow(**rates).allowance is not None, paced, rates)

    def test_nothing_to_leave(self) -> None:
        """A stream whose directions are not paced can be called by another name and be lost."""
        flow = self.flow(bandwidth_down=RATE)
        stream = flow.source
        assert isinstance(stream, SocketStream)
        stream.go_as(OTHER)
        stream.abort()
        self.assertTrue(stream.lost)


class PropertyTests(BenchCase):
    """Any order of harmless faults."""

    @settings(max_examples=40, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 30_000), max_size=5),
        recv=st.lists(HARMLESS, max_size=12),
        send=st.lists(HARMLESS, max_size=12),
        splice=st.lists(HARMLESS, max_size=12),
        first=st.booleans(),
        watched=st.booleans(),
        stretch=st.one_of(st.none(), st.integers(1, 20_000)),
    )
    def test_nothing_is_lost(
        self,
        sizes: list[int],
        recv: list[int | None],
        send: list[int | None],
        splice: list[int | None],
        first: bool,
        watched: bool,
        stretch: int | None,
    ) -> None:
        """Whatever call says ``EAGAIN`` or takes little, all bytes arrive in time, and never too many."""
        bench = PacedBench(splice_first=first, watched=watched)
        try:
            bench.start()
            if watched and stretch is not None:
                bench.client.pass_on(stretch)
            bench.faults.plan = {"recv": deque(recv), "send": deque(send), "splice": deque(splice)}
            data = noise(sum(sizes), seed=len(sizes) + 1)
            todo, arrived, state, began = data, b"", "open", bench.reactor.seconds()
            for size in sizes:
                part, todo = todo[:size], todo[size:]
                while part:
                    try:
                        part = part[bench.left.send(part) :]
                    except BlockingIOError:
                        pass
                    bench.nudge()
                    bench.pass_time(0.02)
                    arrived += drain(bench.right)[0]
                    allowed = BURST + (bench.reactor.seconds() - began) * RATE + 1
                    self.assertLessEqual(len(arrived), allowed)
            bench.left.shutdown(socket.SHUT_WR)
            for _ in range(200):
                bench.nudge()
                bench.pass_time(0.02)
                more, state = drain(bench.right)
                arrived += more
                if state != "open":
                    break
            self.assertEqual((len(arrived), state), (len(data), "end"))
            self.assertEqual(arrived, data)
            self.assertEqual(bench.timers, 0)
        finally:
            bench.close()
