"""Flows between sockets: what is copied, what is spliced, and every system call going wrong."""

from __future__ import annotations

import errno
import select
import socket
from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure
from twisted.trial import unittest

from portfwd.streams.stream import Loss
from portfwd.values import Side
from tests.streams.workbench import BUFFER, PIPE, Workbench, drain, tcp_pair


def noise(count: int, seed: int = 1) -> bytes:
    """`count` bytes without a short period."""
    block = bytes((index * 31 + index // 251 * seed + seed) & 0xFF for index in range(65521))
    return (block * (count // len(block) + 1))[:count]


class FlowCase(unittest.SynchronousTestCase):
    """With a workbench."""

    def bench(self, pair=socket.socketpair, **options: Any) -> Workbench:  # type: ignore[no-untyped-def]
        """One that is closed in the end."""
        bench = Workbench(pair, **options)
        self.addCleanup(bench.close)
        bench.start()
        bench.turn()  # the edges of registering are behind us
        return bench

    def carry(self, bench: Workbench, data: bytes) -> bytes:
        """Send from the left while the right reads; what arrived."""
        arrived = []
        while data:
            try:
                data = data[bench.left.send(data) :]
            except BlockingIOError:
                pass
            bench.turn()
            arrived.append(drain(bench.right)[0])
        bench.turn()
        arrived.append(drain(bench.right)[0])
        return b"".join(arrived)


class CopyTests(FlowCase):
    """Little traffic."""

    def test_little_is_copied(self) -> None:
        """A question and its answer pass with a read and a write each, and borrow no pipe."""
        bench = self.bench()
        bench.left.send(b"question")
        bench.turn()
        self.assertEqual(drain(bench.right), (b"question", "open"))
        bench.right.send(b"answer")
        bench.turn()
        self.assertEqual(drain(bench.left), (b"answer", "open"))
        flow = bench.upstream.summary(bench.client)
        self.assertEqual((flow.bytes, flow.reads, flow.writes, flow.spliced), (8, 1, 1, 0))
        assert bench.pool is not None
        self.assertEqual(bench.pool.total_bytes, 0)

    def test_without_splice(self) -> None:
        """Bulk is copied where there is no pool, all of it, one buffer at a time."""
        bench = self.bench(splicing=False)
        data = noise(300_000)
        self.assertEqual(self.carry(bench, data), data)
        flow = bench.upstream.summary(bench.client)
        self.assertEqual((flow.bytes, flow.spliced), (len(data), 0))
        self.assertGreaterEqual(flow.reads, len(data) // BUFFER)

    def test_first_byte_and_last(self) -> None:
        """The times of the first and the latest byte are kept."""
        bench = self.bench()
        self.assertIsNone(bench.client.first_at)
        bench.reactor.advance(5)
        bench.left.send(b"x")
        bench.turn()
        bench.reactor.advance(3)
        bench.left.send(b"y")
        bench.turn()
        self.assertEqual((bench.client.first_at, bench.client.moved_at), (5, 8))


class BulkTests(FlowCase):
    """Much traffic."""

    def test_bulk_is_spliced(self) -> None:
        """After the first full buffer bytes stay in the kernel; the pipe goes back when the source is dry."""
        for pair in (socket.socketpair, tcp_pair):
            bench = self.bench(pair)
            data = noise(1_000_000)
            self.assertEqual(self.carry(bench, data), data)
            flow = bench.upstream.summary(bench.client)
            self.assertEqual(flow.bytes, len(data))
            self.assertGreater(flow.spliced, len(data) * 0.9)
            assert bench.pool is not None
            self.assertEqual(bench.pool.lent, 0)

    def test_splice_from_the_first_byte(self) -> None:
        """``relay=splice`` never copies."""
        bench = self.bench(splice_first=True)
        bench.left.send(b"little")
        bench.turn()
        self.assertEqual(drain(bench.right), (b"little", "open"))
        self.assertEqual(bench.upstream.summary(bench.client).spliced, 6)

    def test_little_after_bulk_is_copied_again(self) -> None:
        """A flow that was in bulk and brings little goes back to copying."""
        bench = self.bench()
        self.carry(bench, noise(200_000))
        for _ in range(2):
            bench.left.send(b"little")
            bench.turn()
        self.assertEqual(drain(bench.right)[0], b"little" * 2)
        spliced = bench.upstream.summary(bench.client).spliced
        bench.left.send(b"more")
        bench.turn()
        self.assertEqual(bench.upstream.summary(bench.client).spliced, spliced)

    def test_a_stopped_reader(self) -> None:
        """At most one pipe is in flight towards a reader that stops; nothing is lost when it goes on."""
        bench = self.bench(tcp_pair)
        sent = 0
        data = noise(64_000_000)
        for _ in range(200):
            try:
                sent += bench.left.send(data[sent : sent + 500_000])
            except BlockingIOError:
                pass
            bench.turn()
        flow = bench.client.source
        assert flow is not None
        self.assertTrue(flow.waits_to_write)
        self.assertLessEqual(flow.kept_bytes, 4 * PIPE)  # a slot may hold more than a page
        self.assertEqual(bench.upstream.undelivered() > 0, True)
        bench.reactor.advance(7)
        bench.left.shutdown(socket.SHUT_WR)
        arrived, state = b"", "open"
        for _ in range(2000):
            part, state = drain(bench.right)
            arrived += part
            bench.turn()
            if state != "open":
                break
        self.assertEqual((len(arrived), state), (sent, "end"))
        self.assertEqual(arrived, data[:sent])
        self.assertGreaterEqual(bench.upstream.summary(bench.client).paused, 7)

    def test_turns(self) -> None:
        """A flow in bulk lets an event of another session pass between two of its turns."""
        bench = self.bench(tcp_pair)
        order: list[str] = []
        original = bench.poller.take_turn
        bench.poller.take_turn = lambda turn: (order.append("turn"), original(turn))[1]  # type: ignore[method-assign, assignment]
        self.carry(bench, noise(3_000_000))
        self.assertGreater(order.count("turn"), 3)

    def test_whoever_waits_for_its_turn_waits(self) -> None:
        """Events that come meanwhile do not let a flow run out of its turn: it would have one for each."""
        for splicing in (True, False):
            bench = self.bench(tcp_pair, splicing=splicing)
            flow = bench.client.source
            assert flow is not None
            bench.start()
            bench.left.send(noise(10 * BUFFER))
            flow.take_turn()
            for _ in range(5):
                bench.client.ready(select.EPOLLIN)
                bench.upstream.ready(select.EPOLLOUT)
            self.assertEqual((flow.summary().reads, flow.queued), (0, True))
            bench.turn()
            self.assertGreater(flow.summary().reads, 0)


class StopTests(FlowCase):
    """Reads and splices that stop although there is more."""

    def test_urgent_data(self) -> None:
        """What stands behind urgent data arrives, in any order of bulk and little, and the end behind it."""
        for first in (3, 100_000):
            for splice_first in (False, True):
                for end in (False, True):
                    bench = self.bench(tcp_pair, splice_first=splice_first)
                    before = noise(first)
                    bench.left.sendall(before)
                    bench.left.send(b"!", socket.MSG_OOB)
                    bench.left.send(b"behind")
                    if end:
                        bench.left.shutdown(socket.SHUT_WR)
                    bench.turn(6)
                    arrived = drain(bench.right)
                    self.assertEqual(arrived, (before + b"behind", "end" if end else "open"), (first, end))

    def test_descriptors_in_a_unix_stream(self) -> None:
        """Bytes that come with a descriptor end a read; those behind them are not left."""
        for splicing in (False, True):
            bench = self.bench(splicing=splicing)
            socket.send_fds(bench.left, [b"abc"], [0])
            bench.left.send(b"def")
            bench.turn()
            self.assertEqual(drain(bench.right), (b"abcdef", "open"))


class FallBackTests(FlowCase):
    """When splicing goes wrong."""

    def test_splice_is_refused_at_once(self) -> None:
        """``EINVAL`` and its like at the first splice: everything is copied, nothing lost."""
        for code in (errno.EINVAL, errno.ENOSYS, errno.ENOMEM, errno.EPERM):
            bench = self.bench()
            bench.faults.plan["splice"] = deque([code])
            data = noise(400_000)
            self.assertEqual(self.carry(bench, data), data)
            self.assertEqual(bench.upstream.summary(bench.client).spliced, 0)

    def test_splice_is_refused_with_bytes_in_the_pipe(self) -> None:
        """What is in the pipe is read out and sent, then the flow copies for the rest of its life."""
        bench = self.bench()
        bench.faults.plan["splice"] = deque([None, None, None, errno.EINVAL])
        data = noise(600_000)
        self.assertEqual(self.carry(bench, data), data)
        flow = bench.upstream.summary(bench.client)
        self.assertEqual(flow.bytes, len(data))
        self.assertGreater(flow.spliced, 0)
        assert bench.pool is not None
        self.assertEqual(bench.pool.lent, 0)

    def test_no_pipe_to_be_had(self) -> None:
        """Without a pipe the flow copies."""
        bench = self.bench(allowance=0)
        assert bench.pool is not None
        data = noise(300_000)
        self.assertEqual(self.carry(bench, data), data)
        self.assertEqual(bench.upstream.summary(bench.client).spliced, 0)
        self.assertGreater(bench.pool.refused, 0)


class EndTests(FlowCase):
    """How flows end."""

    def test_end(self) -> None:
        """An end travels behind the bytes, and the other direction goes on."""
        bench = self.bench()
        bench.left.send(b"last words")
        bench.left.shutdown(socket.SHUT_WR)
        bench.turn()
        self.assertEqual(drain(bench.right), (b"last words", "end"))
        bench.right.send(b"answer")
        bench.turn()
        self.assertEqual(drain(bench.left), (b"answer", "open"))
        self.assertEqual(bench.owner.told, [("ended", Side.CLIENT), ("end sent", Side.UPSTREAM)])

    def test_reset_after_bytes(self) -> None:
        """Bytes before a reset are passed on; then the owner is told of the loss."""
        bench = self.bench(tcp_pair)
        bench.left.send(b"so far")
        bench.turn()
        bench.left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        bench.left.close()
        bench.turn()
        self.assertEqual(drain(bench.right)[0], b"so far")
        self.assertEqual(bench.owner.losses, {Side.CLIENT: Loss.RESET})

    def test_a_reset_that_a_write_was_told_of(self) -> None:
        """``ECONNRESET`` from a write is the one report; the read that finds nothing afterwards is no end."""
        bench = self.bench()
        bench.faults.plan["send"] = deque([errno.ECONNRESET])
        bench.left.send(b"x")
        bench.turn()
        self.assertEqual(bench.owner.told, [("writing failed", Side.UPSTREAM)])
        bench.right.close()
        bench.turn()
        self.assertEqual(bench.owner.losses, {Side.UPSTREAM: Loss.RESET})

    def test_a_pipe_that_breaks_is_an_end_of_writing_only(self) -> None:
        """``EPIPE`` ends one flow; the other is read to its orderly end."""
        bench = self.bench()
        bench.faults.plan["send"] = deque([errno.EPIPE])
        bench.left.send(b"x")
        bench.turn()
        bench.right.send(b"answer")
        bench.right.shutdown(socket.SHUT_WR)
        bench.turn()
        self.assertEqual(drain(bench.left), (b"answer", "end"))
        self.assertIn(("ended", Side.UPSTREAM), bench.owner.told)
        self.assertEqual(bench.owner.losses, {})

    def test_an_end_that_cannot_be_sent(self) -> None:
        """A failed ``shutdown`` is a failed write."""
        bench = self.bench()
        bench.faults.plan["shutdown"] = deque([errno.ENOTCONN])
        bench.left.shutdown(socket.SHUT_WR)
        bench.turn()
        self.assertEqual(bench.owner.told, [("ended", Side.CLIENT), ("writing failed", Side.UPSTREAM)])

    def test_no_memory(self) -> None:
        """``ENOBUFS`` at a read or a write ends that connection, with its own kind of loss."""
        for call, side in (("recv", Side.CLIENT), ("send", Side.UPSTREAM)):
            bench = self.bench()
            bench.faults.plan[call] = deque([errno.ENOBUFS])
            bench.left.send(b"x")
            bench.turn()
            self.assertEqual(bench.owner.losses, {side: Loss.EXHAUSTED})

    def test_end_behind_kept_bytes(self) -> None:
        """An end that is asked for while bytes are kept waits for them."""
        bench = self.bench(pass_ends=False)
        bench.faults.plan["send"] = deque([errno.EAGAIN])
        bench.left.send(b"kept")
        bench.turn(1)
        bench.upstream.end()
        self.assertEqual(bench.owner.told, [])
        bench.nudge()
        self.assertEqual(drain(bench.right), (b"kept", "end"))
        self.assertEqual(bench.owner.told, [("end sent", Side.UPSTREAM)])

    def test_discard(self) -> None:
        """What was read before is delivered, what comes later is thrown away, the end is still seen."""
        bench = self.bench(pass_ends=False)
        bench.faults.plan["send"] = deque([errno.EAGAIN])
        bench.left.send(b"before")
        bench.turn(1)
        bench.client.discard()
        bench.left.send(noise(100_000))
        bench.left.shutdown(socket.SHUT_WR)
        bench.nudge()
        bench.nudge()
        self.assertEqual(drain(bench.right), (b"before", "open"))
        self.assertEqual(bench.owner.told, [("ended", Side.CLIENT)])

    def test_source_goes_with_bytes_in_flight(self) -> None:
        """What a source sent before it was lost still goes out."""
        bench = self.bench(splice_first=True)
        bench.faults.plan["splice"] = deque([None, errno.EAGAIN])
        bench.left.send(b"in the pipe")
        bench.turn(1)
        self.assertEqual(bench.upstream.undelivered(), 11)
        bench.client.abort()
        bench.nudge()
        self.assertEqual(drain(bench.right), (b"in the pipe", "open"))
        assert bench.pool is not None
        self.assertEqual(bench.pool.lent, 0)

    def test_our_own_mistake(self) -> None:
        """An exception in a flow ends that connection, not the poller."""
        bench = self.bench()
        flow = bench.client.source
        assert flow is not None
        bench.faults.next = lambda call: 1 // 0  # type: ignore[method-assign]
        bench.left.send(b"x")
        bench.turn()
        self.assertEqual(bench.owner.losses, {Side.CLIENT: Loss.FAILED})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIn("SocketFlow", repr(flow))


class FairnessTests(FlowCase):
    """What is always ready yields."""

    def test_quanta(self) -> None:
        """Copied, spliced or thrown away: after a quantum the flow waits for its turn, and loses nothing."""
        data = noise(100_000)
        for options in ({"splicing": False}, {"splicing": True}, {"splice_first": True}):
            bench = self.bench(**options)
            bench.setup.quantum = 2 * BUFFER
            turns: list[object] = []
            take_turn = bench.poller.take_turn
            bench.poller.take_turn = lambda turn: (turns.append(turn), take_turn(turn))[1]  # type: ignore[method-assign, assignment] # noqa: B023
            bench.left.send(data)
            bench.turn(60)
            self.assertEqual(drain(bench.right), (data, "open"))
            self.assertGreaterEqual(len(turns), 1 if bench.pool is not None else 10)
            bench.client.discard()
            del turns[:]
            bench.left.send(data)
            bench.turn(60)
            self.assertEqual(drain(bench.right), (b"", "open"))
            self.assertGreater(len(turns), 5)

    def test_two_quanta_of_a_pipe(self) -> None:
        """A spliced flow yields as well, with its pipe empty."""
        bench = self.bench(tcp_pair, splice_first=True)
        bench.setup.quantum = 1
        data = noise(500_000)
        self.assertEqual(self.carry(bench, data), data)
        self.assertGreater(bench.upstream.summary(bench.client).spliced, 0)

    def test_discard_sees_how_it_ends(self) -> None:
        """Who is read and thrown away may be reset, or have nothing to read just now."""
        bench = self.bench()
        bench.client.discard()
        bench.faults.plan["recv"] = deque([errno.EAGAIN, None, errno.ECONNRESET])
        bench.left.send(b"x")
        bench.turn()
        self.assertEqual(bench.owner.losses, {})
        bench.left.send(b"y")
        bench.turn()
        bench.nudge()
        self.assertEqual(bench.owner.losses, {Side.CLIENT: Loss.RESET})

    def test_a_destination_that_is_full_already(self) -> None:
        """Nothing is read for a destination that said no before."""
        bench = self.bench()
        bench.upstream.writable = False
        bench.left.send(b"x")
        bench.client.ready(0x1)
        assert bench.client.source is not None
        self.assertTrue(bench.client.source.waits_to_write)
        self.assertEqual(bench.upstream.summary(bench.client).reads, 0)
        bench.nudge()
        self.assertEqual(drain(bench.right), (b"x", "open"))


class OwnerTests(FlowCase):
    """Streams that nobody owns yet."""

    def test_what_came_before(self) -> None:
        """The first owner hears of a failed write and of an end; the next one is not told again."""
        bench = self.bench(pass_ends=False, owned=False)
        stream, owner = bench.client, bench.owner
        bench.faults.plan["send"] = deque([errno.EPIPE])
        bench.right.send(b"x")
        bench.left.shutdown(socket.SHUT_WR)
        bench.turn()
        self.assertEqual(owner.told, [])
        stream.own(owner)  # type: ignore[arg-type]
        stream.own(owner)  # type: ignore[arg-type]
        self.assertEqual(owner.told, [("writing failed", Side.CLIENT), ("ended", Side.CLIENT)])

    def test_nobody_hears(self) -> None:
        """An end that goes out, and a loss, while there is no owner: nothing breaks."""
        bench = self.bench(owned=False)
        bench.client.end()
        bench.client.close()
        self.assertEqual(bench.owner.told, [])
        bench.client.own(bench.owner)  # type: ignore[arg-type]
        self.assertEqual(bench.owner.losses, {Side.CLIENT: Loss.ORDERLY})
        bench.client.failed(Failure(ValueError("too late")))
        bench.client.break_writing(errno.EPIPE)
        self.assertEqual(bench.owner.told, [("lost", Side.CLIENT)])

    def test_whatever_breaks_is_reset(self) -> None:
        """A connection that this process has no memory for, or a mistake ends, does not look complete."""
        for call in ("recv", "send"):
            bench = self.bench(tcp_pair)
            bench.faults.plan[call] = deque([errno.ENOBUFS])
            bench.left.send(b"x")
            bench.turn()
            self.assertEqual(drain(bench.left if call == "recv" else bench.right), (b"", "reset"))
        bench = self.bench(tcp_pair)
        bench.client.failed(Failure(ValueError("a mistake")))
        self.assertEqual(drain(bench.left), (b"", "reset"))
        self.assertIn("lost", repr(bench.client))


FAULT = st.one_of(
    st.none(),
    st.sampled_from([errno.EAGAIN, errno.EINVAL, errno.ENOSYS, errno.ENOMEM]),
    st.integers(-3000, -1),
)
HARMLESS = st.one_of(st.none(), st.just(errno.EAGAIN), st.integers(-3000, -1))


class PropertyTests(FlowCase):
    """Any order of harmless faults."""

    @settings(max_examples=60, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 150_000), max_size=6),
        recv=st.lists(HARMLESS, max_size=12),
        send=st.lists(HARMLESS, max_size=12),
        splice=st.lists(FAULT, max_size=12),
        first=st.booleans(),
    )
    def test_nothing_is_lost(
        self,
        sizes: list[int],
        recv: list[int | None],
        send: list[int | None],
        splice: list[int | None],
        first: bool,
    ) -> None:
        """Whatever call says ``EAGAIN``, takes little, or cannot splice: all bytes arrive, then the end."""
        bench = Workbench(splice_first=first)
        try:
            bench.start()
            bench.faults.plan = {"recv": deque(recv), "send": deque(send), "splice": deque(splice)}
            data = noise(sum(sizes), seed=len(sizes) + 1)
            rest, arrived, state = data, b"", "open"
            for size in sizes:
                todo, rest = rest[:size], rest[size:]
                while todo:
                    try:
                        todo = todo[bench.left.send(todo) :]
                    except BlockingIOError:
                        pass
                    bench.nudge()
                    arrived += drain(bench.right)[0]
            bench.left.shutdown(socket.SHUT_WR)
            for _ in range(60):
                bench.nudge()
                part, state = drain(bench.right)
                arrived += part
                if state != "open":
                    break
            self.assertEqual((len(arrived), state), (len(data), "end"))
            self.assertEqual(arrived, data)
            flow = bench.upstream.summary(bench.client)
            self.assertEqual(flow.bytes, len(data))
            self.assertLessEqual(flow.spliced, flow.bytes)
            assert bench.pool is not None
            self.assertEqual(bench.pool.lent, 0)
        finally:
            bench.close()
