"""
What every implementation of `portfwd.streams.stream.Watched` must do, on real sockets and the real reactor.

A concrete test says how a stream is made of a connected socket, as for
`tests.streams.conformance`. What a session and its filters would do is done by `Eyes`.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from typing import Any

from portfwd.streams.stream import Stream, Watched
from portfwd.values import Side
from tests.streams.conformance import Owner, pattern
from tests.streams.far_ends import FarEnd, open_descriptors, settled, turn, turns, unread_bytes, until


class Eyes:
    """
    A viewer that keeps what it is shown, and writes it on unless a test says otherwise.

    :ivar seen: all that was shown, by side.
    :ivar pieces: how often something was.
    :ivar passed_counts: what was told of bytes that passed unseen.
    :ivar when: what becomes of bytes of a side, in place of being written on.
    :ivar then: what is done when bytes have passed unseen.
    """

    def __init__(self) -> None:
        self.streams: dict[Side, Watched] = {}
        self.seen = {side: bytearray() for side in Side}
        self.pieces = 0
        self.passed_counts: list[tuple[Side, int]] = []
        self.when: dict[Side, Callable[[bytes], None]] = {}
        self.then: dict[Side, Callable[[int], None]] = {}

    def shown(self, stream: Stream, data: bytes) -> None:
        """See `Viewer`."""
        assert isinstance(data, bytes)
        assert data, "nothing was shown"
        self.pieces += 1
        self.seen[stream.side] += data
        act = self.when.get(stream.side)
        if act is not None:
            act(data)
        elif stream.side.other in self.streams:
            self.streams[stream.side.other].write(data)

    def passed(self, stream: Stream, count: int) -> None:
        """See `Viewer`."""
        self.passed_counts.append((stream.side, count))
        if stream.side in self.then:
            self.then[stream.side](count)


class Framer:
    """
    Looks at the heads of frames, whose bodies pass unseen: ``#``, then the body's size in four bytes.

    :ivar frames: heads that were seen.
    :ivar lost: how often what was shown was no head.
    """

    def __init__(self, source: Watched, destination: Watched) -> None:
        self.frames = 0
        self.lost = 0
        self._source = source
        self._destination = destination
        self._head = b""
        self._body = 0

    def look(self, data: bytes) -> None:
        """Bytes are shown."""
        while data:
            if self._body:
                body, data = data[: self._body], data[self._body :]
                self._body -= len(body)
                self._destination.write(body)
                continue
            need = 5 - len(self._head)
            self._head, data = self._head + data[:need], data[need:]
            if len(self._head) == 5:
                self.lost += self._head[:1] != b"#"
                self.frames += 1
                self._body = int.from_bytes(self._head[1:], "big")
                self._destination.write(self._head)
                self._head = b""
        if self._body:
            self._source.pass_on(self._body)

    def skip(self, count: int) -> None:
        """Bytes have passed."""
        self._body -= count


def frames(sizes: list[int]) -> bytes:
    """Frames with bodies of these sizes."""
    return b"".join(b"#" + size.to_bytes(4, "big") + pattern(size, size) for size in sizes)


class WatchConformance:
    """
    The suite.

    :cvar sees_the_dead: whether a dead peer is seen while nothing is read from it.
    :cvar kept: bytes that one direction may keep, at the most.
    """

    timeout = 20
    sees_the_dead = True
    kept = 8192

    # From `unittest.TestCase`, `TCP` or `Unix`.
    knows_reset: bool
    connect: Any
    assertEqual: Any  # noqa: N815
    assertIn: Any  # noqa: N815
    assertNotIn: Any  # noqa: N815
    assertTrue: Any  # noqa: N815
    assertGreater: Any  # noqa: N815
    assertLess: Any  # noqa: N815
    assertLessEqual: Any  # noqa: N815
    addCleanup: Any  # noqa: N815

    def stream(self, sock: socket.socket) -> Watched:
        """A stream over a connected socket, which it owns."""
        raise NotImplementedError

    def keeps(self, stream: Watched) -> int:
        """How many bytes are kept here to be written to `stream`."""
        raise NotImplementedError

    async def make(self, *, dialled: bool = True) -> None:
        """A client that is watched, and an upstream too unless it is not `dialled` yet."""
        await turn()  # the first of all: the reactor opens what it needs itself
        before = open_descriptors()
        self.left_socket, client = self.connect()
        self.client = FarEnd(client)
        self.upstream: FarEnd | None = None
        self.eyes = Eyes()
        self.of_left, self.of_right = Owner(), Owner()
        self.left = self.stream(self.left_socket)
        self.left.side = Side.CLIENT
        self.eyes.streams[Side.CLIENT] = self.left
        self.left.own(self.of_left)
        self.left.watch(self.eyes)
        self.addCleanup(self._finish, before)
        self.left.start()
        if dialled:
            self.dial()
            self.right.go_on()

    def dial(self) -> None:
        """The upstream is there, as a session has it: on hold until the filters were told."""
        self.right_socket, upstream = self.connect()
        self.upstream = FarEnd(upstream)
        self.right = self.stream(self.right_socket)
        self.right.side = Side.UPSTREAM
        self.right.watch(self.eyes, self.left)
        self.right.hold()
        self.right.own(self.of_right)
        self.left.join(self.right)
        self.right.join(self.left)
        self.left.start()
        self.right.start()
        self.eyes.streams[Side.UPSTREAM] = self.right

    async def _finish(self, before: int) -> None:
        self.left.abort()
        await self.of_left.hears("lost")
        self.client.close()
        if self.upstream is not None:
            self.right.abort()
            await self.of_right.hears("lost")
            self.upstream.close()
        await turns()
        self.assertEqual(self.of_left.too_late + self.of_right.too_late, [], "told after the loss")
        await until(lambda: open_descriptors() <= before)

    @property
    def far(self) -> FarEnd:
        """The upstream's far end."""
        assert self.upstream is not None
        return self.upstream

    def pass_ends_on(self) -> None:
        """What a session does with an end."""
        self.of_left.when["ended"] = self.right.end
        self.of_right.when["ended"] = self.left.end

    async def nothing_moves(self) -> None:
        """Wait until nobody gets or gives a byte."""
        await settled(
            lambda: (self.client.sent, len(self.client.received), self.upstream and self.upstream.sent,
                     self.upstream and len(self.upstream.received), self.eyes.pieces)
        )  # fmt: skip

    async def test_end_while_on_hold(self) -> None:
        """An end of the peer is known while nothing is read, and told when it is read."""
        await self.make(dialled=False)
        self.left.hold()
        await turns()
        self.assertEqual(self.left.hung_up, False)
        self.client.socket.shutdown(socket.SHUT_WR)
        await turns()
        if self.sees_the_dead:
            await until(lambda: self.left.hung_up)
        self.assertNotIn("ended", self.of_left.told)
        self.left.go_on()
        await self.of_left.hears("ended")

    # Shown

    async def test_shown_goes_nowhere(self) -> None:
        """What is shown is written by nobody but the viewer."""
        await self.make()
        self.eyes.when[Side.CLIENT] = lambda data: None
        await self.client.send(b"look")
        await until(lambda: self.eyes.seen[Side.CLIENT])
        await turns()
        self.assertEqual(bytes(self.eyes.seen[Side.CLIENT]), b"look")
        self.assertEqual((unread_bytes(self.far.socket), self.right.summary(self.left).bytes), (0, 0))

    async def test_written_on(self) -> None:
        """Both ways at once: what the viewer writes arrives whole and in order, and is counted."""
        await self.make()
        there, back = pattern(700_000, 1), pattern(500_000, 2)
        self.eyes.when[Side.CLIENT] = lambda data: self.right.write(data.swapcase())
        sending = [self.client.send(there), self.far.send(back)]
        reading = [self.far.read(len(there)), self.client.read(len(back))]
        for deferred in sending + reading:
            await deferred
        self.assertEqual(bytes(self.far.received), there.swapcase())
        self.assertEqual(bytes(self.client.received), back)
        self.assertEqual(bytes(self.eyes.seen[Side.CLIENT]), there)
        self.assertEqual(self.right.summary(self.left).bytes, len(there))
        self.assertTrue(self.left.first_at is not None and self.left.moved_at >= self.left.first_at)

    async def test_replies(self) -> None:
        """The viewer may answer the side that it looks at, and speak to both at once."""
        await self.make()

        def answer(data: bytes) -> None:
            self.left.write(b"<" + data + b">")
            self.right.write(data.upper())

        self.eyes.when[Side.CLIENT] = answer
        await self.client.send(b"hello")
        await self.client.read(7)
        await self.far.read(5)
        self.assertEqual((bytes(self.client.received), bytes(self.far.received)), (b"<hello>", b"HELLO"))

    async def test_answered(self) -> None:
        """What was written to the client is counted before there is an upstream."""
        await self.make(dialled=False)
        self.eyes.when[Side.CLIENT] = lambda data: self.left.write(b"no")
        await self.client.send(b"hello")
        await self.client.read(2)
        self.assertEqual(self.left.answered().bytes, 2)

    async def test_nothing_is_written_of_nothing(self) -> None:
        """To write no bytes is to write nothing."""
        await self.make()
        self.right.write(b"")
        await self.client.send(b"x")
        await self.far.read(1)
        self.assertEqual(self.right.summary(self.left).bytes, 1)

    # Held

    async def test_hold(self) -> None:
        """On hold nothing is read; what came meanwhile is shown when it goes on."""
        await self.make()
        self.left.hold()
        await self.client.send(b"wait")
        await self.client.arrived()
        await turns()
        self.assertEqual((bytes(self.eyes.seen[Side.CLIENT]), unread_bytes(self.left_socket)), (b"", 4))
        await self.far.send(b"the other way is open")
        await self.client.read(21)
        self.left.go_on()
        await self.far.read(4)
        self.assertEqual(bytes(self.far.received), b"wait")

    async def test_hold_within(self) -> None:
        """A viewer that asks for a hold while it is shown something is shown no more."""
        await self.make()
        data = pattern(400_000)

        def stop(data: bytes) -> None:
            self.right.write(data)
            self.left.hold()

        self.eyes.when[Side.CLIENT] = stop
        sending, reading = self.client.send(data), self.far.read(len(data))
        for count in range(1, 4):
            await until(lambda count=count: self.eyes.pieces == count)
            await turns()
            self.assertEqual(self.eyes.pieces, count)
            self.left.go_on()
        self.eyes.when.clear()
        await sending
        await reading
        self.assertEqual(bytes(self.far.received), data)

    async def test_an_end_is_held_too(self) -> None:
        """On hold an end is not told; it is, behind the bytes, when reading goes on."""
        await self.make()
        self.left.hold()
        await self.client.send(b"last")
        self.client.end()
        await turns()
        self.assertEqual(self.of_left.told, [])
        self.left.go_on()
        await self.of_left.hears("ended")
        self.assertEqual(bytes(self.eyes.seen[Side.CLIENT]), b"last")

    async def test_write_while_held(self) -> None:
        """What is written while the source is on hold goes out, also where it has to wait."""
        await self.make()
        self.left.hold()
        data = pattern(3 << 20)
        self.right.write(data)
        await self.far.read(len(data))
        self.assertEqual(bytes(self.far.received), data)

    async def test_reset_while_held(self) -> None:
        """A peer that resets while it is on hold is noticed; what it had sent is shown later."""
        await self.make()
        await self.far.send(b"unread")
        await until(lambda: unread_bytes(self.client.socket))
        self.left.hold()
        await self.client.send(b"before")
        await self.client.arrived()
        self.client.reset()
        if self.sees_the_dead:
            await self.of_left.hears("writing failed")
        self.left.go_on()
        await self.of_left.hears("lost")
        self.assertEqual(self.of_left.told[-1], "lost reset")
        self.assertEqual(bytes(self.eyes.seen[Side.CLIENT]), b"before")

    async def test_reset_seen_before_the_hold(self) -> None:
        """The same where the viewer asks for the hold when the peer is dead already."""
        await self.make()
        await self.far.send(b"unread")
        await until(lambda: unread_bytes(self.client.socket))
        self.left.hold()
        await self.client.send(pattern(30_000))
        await self.client.arrived()
        self.left.go_on()
        self.eyes.when[Side.CLIENT] = lambda data: self.left.hold()
        self.client.reset()
        await until(lambda: self.eyes.pieces)
        if self.sees_the_dead:
            await self.of_left.hears("writing failed")
        self.eyes.when.clear()
        self.left.go_on()
        await self.of_left.hears("lost")
        self.assertEqual(self.of_left.told[-1], "lost reset")

    # Unseen

    async def test_counted(self) -> None:
        """So many bytes pass unseen as were said, to the byte, wherever reads begin and end."""
        await self.make()
        framer = Framer(self.left, self.right)
        self.eyes.when[Side.CLIENT], self.eyes.then[Side.CLIENT] = framer.look, framer.skip
        chosen = random.Random(1)
        sizes = [0, 1, 8191, 8192, 8193, 20, 100_000, 3, 300_000, 2, 2, 65_536]
        sizes += [chosen.choice((0, 5, 700, 9000)) for _ in range(100)]
        data = frames(sizes)
        reading = self.far.read(len(data))
        at = 0
        while at < len(data):
            size = chosen.choice((1, 3, 4096, 8192, 50_000))
            await self.client.send(data[at : at + size])
            if size < 4096:
                await turns(3)
            at += size
        await reading
        self.assertEqual(bytes(self.far.received), data)
        self.assertEqual((framer.frames, framer.lost), (len(sizes), 0))
        self.assertLess(len(self.eyes.seen[Side.CLIENT]), len(data) * 0.9)
        self.assertEqual(
            sum(count for _, count in self.eyes.passed_counts) + len(self.eyes.seen[Side.CLIENT]), len(data)
        )

    async def test_counted_to_a_stopped_reader(self) -> None:
        """The same where the reader stops in between; what is shown is written behind what passed."""
        await self.make()
        framer = Framer(self.left, self.right)
        self.eyes.when[Side.CLIENT], self.eyes.then[Side.CLIENT] = framer.look, framer.skip
        sizes = [1 << 20, 3, 1 << 19, 0, 70_000, 1 << 20]
        data = frames(sizes)
        sending = self.client.send(data)
        for part in range(1, 5):
            await self.nothing_moves()
            await self.far.read(len(data) * part // 5)
        await self.far.read(len(data))
        await sending
        self.assertEqual(bytes(self.far.received), data)
        self.assertEqual((framer.frames, framer.lost), (len(sizes), 0))

    async def test_for_good(self) -> None:
        """When all may pass, nothing is shown any more, and the end is told."""
        await self.make()

        def enough(data: bytes) -> None:
            self.right.write(data)
            self.left.pass_on(None)

        self.eyes.when[Side.CLIENT] = enough
        self.pass_ends_on()
        data = pattern(2 << 20)
        reading = self.far.read_to_end()
        await self.client.send(data)
        self.client.end()
        await reading
        self.assertEqual((bytes(self.far.received), self.far.incoming), (data, "end"))
        self.assertEqual((self.eyes.pieces, self.eyes.passed_counts), (1, []))
        self.check_counters(len(data))

    def check_counters(self, size: int) -> None:
        """What the counters say of that many bytes, of which one read was shown."""

    async def test_end_of_a_count(self) -> None:
        """An end before the count is full: `settle` says how many bytes came."""
        await self.make()
        counted: list[int] = []
        self.left.pass_on(1 << 20)
        self.of_left.when["ended"] = lambda: counted.append(self.left.settle())
        reading = self.far.read(200_000)
        await self.client.send(pattern(200_000))
        self.client.end()
        await reading
        await self.of_left.hears("ended")
        self.assertEqual((counted, self.eyes.pieces, self.eyes.passed_counts), ([200_000], 0, []))
        self.right.end()
        await self.far.read_to_end()
        self.assertEqual((len(self.far.received), self.far.incoming), (200_000, "end"))

    async def test_settle(self) -> None:
        """In the middle of a count everything may be shown again, and nothing is lost or doubled."""
        await self.make()
        self.left.pass_on(1000)
        await self.client.send(pattern(300))
        await self.far.read(300)
        self.assertEqual((self.left.settle(), self.left.settle()), (300, 0))
        await self.client.send(pattern(300, 1))
        await self.far.read(600)
        self.assertEqual(bytes(self.far.received), pattern(300) + pattern(300, 1))
        self.assertEqual(bytes(self.eyes.seen[Side.CLIENT]), pattern(300, 1))
        self.assertEqual(self.eyes.passed_counts, [])

    async def test_settle_while_the_reader_is_stopped(self) -> None:
        """The same with much under way: whatever passed was counted, whatever was not is shown."""
        await self.make()
        data = pattern(6 << 20)
        self.left.pass_on(5 << 20)
        sending = self.client.send(data)
        await self.nothing_moves()
        unseen = self.left.settle()
        self.assertGreater(unseen, 0)
        await self.far.read(len(data))
        await sending
        self.assertEqual(bytes(self.far.received), data)
        self.assertEqual(bytes(self.eyes.seen[Side.CLIENT]), data[unseen:])

    async def test_hold_in_a_count(self) -> None:
        """On hold nothing is moved unseen either."""
        await self.make()
        self.left.pass_on(100)
        self.left.hold()
        await self.client.send(pattern(150))
        await self.client.arrived()
        await turns()
        self.assertEqual(unread_bytes(self.left_socket), 150)
        self.left.go_on()
        await self.far.read(150)
        self.assertEqual(bytes(self.eyes.seen[Side.CLIENT]), pattern(150)[100:])

    async def test_hold_for_good(self) -> None:
        """Nor where all may pass: what is under way goes out, no more is read."""
        await self.make()
        data = pattern(6 << 20)
        self.left.pass_on(None)
        sending = self.client.send(data)
        await self.nothing_moves()
        self.left.hold()
        await turns()
        on_the_way = self.client.sent - self.client.unsent() - unread_bytes(self.left_socket)
        self.far.read(len(data))
        await self.nothing_moves()
        self.assertLessEqual(len(self.far.received), on_the_way)
        self.left.go_on()
        await until(lambda: len(self.far.received) == len(data))
        await sending
        self.assertEqual(bytes(self.far.received), data)

    async def test_words_between(self) -> None:
        """What a viewer writes by itself goes between the bytes that pass unseen, whole."""
        await self.make()
        self.left.pass_on(None)
        data = pattern(4 << 20)
        sending = self.client.send(data)
        await self.nothing_moves()
        word = b"word " * 20_000
        self.right.write(word[:5])
        self.right.write(word[5:])
        await self.far.read(len(data) + len(word))
        await sending
        received = bytes(self.far.received)
        at = received.index(word)
        self.assertEqual(received[:at] + received[at + len(word) :], data)

    async def test_words_are_not_put_off(self) -> None:
        """They do not wait for those who have much to send to have sent it all."""
        await self.make()
        self.left.pass_on(None)
        data = pattern(8 << 20)
        sending = self.client.send(data)
        await self.nothing_moves()
        read = self.client.sent - self.client.unsent() - unread_bytes(self.left_socket)
        self.right.write(b"a word that stands nowhere else")
        await self.far.read(len(data))
        at = bytes(self.far.received).index(b"a word that stands nowhere else")
        self.assertLessEqual(at, read)
        await self.far.read(len(data) + 31)
        await sending

    # Backpressure

    async def test_a_stopped_reader(self) -> None:
        """Toward a destination that takes nothing at most one read is kept; then nothing more is read."""
        await self.make()
        data = pattern(4 << 20)
        sending = self.client.send(data)
        await self.nothing_moves()
        self.assertIn(self.keeps(self.right), range(self.kept + 1))
        self.assertLess(self.client.sent, len(data))
        self.assertGreater(unread_bytes(self.left_socket), 0)
        await self.far.read(len(data))
        await sending
        self.assertEqual(bytes(self.far.received), data)
        self.assertGreater(self.right.summary(self.left).paused, 0.0)

    async def test_replies_that_are_not_read(self) -> None:
        """A client that does not read the answers is not read either; when it does, nothing is missing."""
        await self._ask_without_reading()

    async def test_late_replies_that_are_not_read(self) -> None:
        """An answer that comes later than what it answers stops the reading just so."""
        await self.make()
        late: list[bytes] = []
        self.eyes.when[Side.CLIENT] = late.append
        data = pattern(6 << 20)
        sending = self.client.send(data)
        most = 0
        while most < 100:
            most = 0 if late else most + 1
            while late:
                self.left.write(late.pop(0), answer=True)
            await turns()
        self.assertLess(self.client.sent, len(data))
        self.assertLess(self.keeps(self.left), 1 << 20)
        self.eyes.when[Side.CLIENT] = lambda data: self.left.write(data, answer=True)
        await self.client.read(len(data))
        await sending
        self.assertEqual(bytes(self.client.received), data)

    async def test_replies_before_the_dial(self) -> None:
        """The same while there is no upstream yet."""
        await self._ask_without_reading(dialled=False)

    async def _ask_without_reading(self, *, dialled: bool = True) -> None:
        await self.make(dialled=dialled)
        self.eyes.when[Side.CLIENT] = self.left.write
        data = pattern(6 << 20)
        sending = self.client.send(data)
        await self.nothing_moves()
        self.assertLess(self.client.sent, len(data))
        self.assertIn(self.keeps(self.left), range(self.kept + 1))
        await self.client.read(len(data))
        await sending
        self.assertEqual(bytes(self.client.received), data)

    async def test_dialled_while_replies_wait(self) -> None:
        """The upstream comes while the client does not read: everything goes on, in both directions."""
        await self.make(dialled=False)
        self.eyes.when[Side.CLIENT] = self.left.write
        data = pattern(6 << 20)
        sending = self.client.send(data)
        await self.nothing_moves()
        self.dial()
        self.right.go_on()
        await self.far.send(b"banner")
        await turns()
        await self.client.read(len(data) + 6)
        await sending
        self.assertEqual(bytes(self.client.received).replace(b"banner", b""), data)

    async def test_replies_to_one_who_resets(self) -> None:
        """A client that resets and never read its answers: that is seen, and what it said before is shown."""
        await self.make()
        self.eyes.when[Side.CLIENT] = self.left.write
        self.client.send(pattern(6 << 20))
        await self.nothing_moves()
        self.client.reset()
        self.of_left.when["writing failed"] = self.right.discard
        if self.sees_the_dead:
            await self.of_left.hears("writing failed")
        self.eyes.when[Side.CLIENT] = lambda data: None
        await self.of_left.hears("lost")
        self.assertEqual(self.of_left.told[-1], "lost reset")

    async def test_directions_do_not_wait_for_each_other(self) -> None:
        """A client that does not read what the upstream sends is read all the same."""
        await self._upload_before_reading(unseen=False)

    async def test_directions_do_not_wait_for_the_unseen(self) -> None:
        """The same where nobody looks at what the upstream sends."""
        await self._upload_before_reading(unseen=True)

    async def _upload_before_reading(self, *, unseen: bool) -> None:
        await self.make()
        flood, upload = pattern(4 << 20), pattern(3 << 20, 2)
        if unseen:
            self.right.pass_on(None)
        sending = self.far.send(flood)
        await self.nothing_moves()
        self.assertLess(self.far.sent, len(flood))
        reading = self.far.read(len(upload))
        await self.client.send(upload)
        await reading
        self.assertEqual(bytes(self.far.received), upload)
        await self.client.read(len(flood))
        await sending
        self.assertEqual(bytes(self.client.received), flood)

    async def test_replies_between_what_passes_unseen(self) -> None:
        """Answers to a client that also downloads, and reads when it likes."""
        await self.make()
        self.right.pass_on(None)
        self.eyes.when[Side.CLIENT] = lambda data: self.left.write(b"!" * len(data))
        flood = bytes(4 << 20)
        sending = self.far.send(flood)
        await self.nothing_moves()
        asking = self.client.send(b"?" * 500_000)
        await self.nothing_moves()
        await self.client.read(len(flood) + 500_000)
        await sending
        await asking
        self.assertEqual(self.client.received.count(b"!"), 500_000)
        self.assertEqual(self.client.received.count(b"\0"), len(flood))

    # Ends

    async def test_end_waits(self) -> None:
        """An end goes out behind everything that was written before."""
        await self.make()
        data = pattern(4 << 20)

        def last_words() -> None:
            self.right.write(data)
            self.right.end()

        self.of_left.when["ended"] = last_words
        self.client.end()
        await self.of_left.hears("ended")
        await turns()
        self.assertEqual(self.of_right.told, [])
        await self.far.read_to_end()
        self.assertEqual((bytes(self.far.received), self.far.incoming), (data, "end"))
        await self.of_right.hears("end sent")

    async def test_end_behind_what_passed(self) -> None:
        """Also behind what passed unseen, and what was written behind that."""
        await self.make()
        data = pattern(4 << 20)
        self.left.pass_on(None)
        sending = self.client.send(data)
        await self.nothing_moves()
        self.left.discard()
        await sending
        self.right.write(b"tail")
        self.right.end()
        await turns()
        self.assertEqual(self.of_right.told, [])
        await self.far.read_to_end()
        received = bytes(self.far.received)
        self.assertEqual((received[-4:], self.far.incoming), (b"tail", "end"))
        self.assertTrue(data.startswith(received[:-4]))

    async def test_a_failed_write(self) -> None:
        """A destination that resets is told of once; what is written to it then is dropped."""
        await self.make()
        self.of_right.when = {"writing failed": self.left.discard}
        sending = self.client.send(pattern(4 << 20))
        await self.nothing_moves()
        self.far.send(b"x")
        await self.far.arrived()
        self.right.hold()
        if not self.knows_reset:
            await until(lambda: unread_bytes(self.far.socket))
        self.far.reset()
        if self.sees_the_dead:
            await self.of_right.hears("writing failed")
            self.right.write(b"more")
            await sending
            self.assertEqual(self.keeps(self.right), 0)
        else:
            self.left.discard()
            await sending
        self.right.go_on()
        await self.of_right.hears("lost")
        self.assertEqual(self.of_left.told, [])
        self.right.write(b"more")

    async def test_discard(self) -> None:
        """After `discard` nothing is shown, also where it was on hold; the end is told."""
        await self.make()
        self.left.hold()
        self.left.discard()
        await self.client.send(pattern(200_000))
        self.client.end()
        await self.of_left.hears("ended")
        self.assertEqual(self.eyes.pieces, 0)

    async def test_discard_within(self) -> None:
        """Nor is anything where the viewer itself asks for it."""
        await self.make()
        self.eyes.when[Side.CLIENT] = lambda data: self.left.discard()
        await self.client.send(pattern(500_000))
        self.client.end()
        await self.of_left.hears("ended")
        self.assertEqual(self.eyes.pieces, 1)

    async def test_abort_within(self) -> None:
        """A viewer that ends it all is shown no more."""
        await self.make()

        def give_up(data: bytes) -> None:
            self.left.abort()
            self.right.abort()

        self.eyes.when[Side.CLIENT] = give_up
        await self.client.send(pattern(30_000))
        await self.of_left.hears("lost aborted")
        await self.of_right.hears("lost aborted")
        self.assertEqual(self.eyes.pieces, 1)

    async def test_a_viewer_that_raises(self) -> None:
        """An exception of the viewer ends this stream, with a reset, and no other."""
        await self.make()
        self.eyes.when[Side.CLIENT] = lambda data: 1 // 0  # type: ignore[assignment,return-value]
        await self.client.send(b"x")
        await self.of_left.hears("lost failed")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.of_right.told, [])

    flushLoggedErrors: Any  # noqa: N815

    # Before there is an upstream

    async def test_before_the_dial(self) -> None:
        """A client is seen, and answered, before there is an upstream; then both ways are open."""
        await self.make(dialled=False)
        held = bytearray()
        self.eyes.when[Side.CLIENT] = held.extend
        await self.client.send(b"CONNECT")
        await until(lambda: len(held) == 7)
        self.left.write(b"OK")
        await self.client.read(2)
        self.dial()
        self.right.write(b"PROXY " + bytes(held))
        self.eyes.when.clear()
        self.right.go_on()
        await self.far.read(13)
        await self.far.send(b"welcome")
        await self.client.read(9)
        self.assertEqual(
            (bytes(self.far.received), bytes(self.client.received)), (b"PROXY CONNECT", b"OKwelcome")
        )
        self.assertEqual(self.left.summary(self.right).bytes, 9)

    async def test_a_long_reply_before_the_dial(self) -> None:
        """An answer that the client is slow to take goes out whole, upstream or not."""
        await self.make(dialled=False)
        data = pattern(6 << 20)
        self.left.write(data)
        await turns()
        await self.client.read(len(data))
        self.assertEqual(bytes(self.client.received), data)
        await self.client.send(b"still there")
        await until(lambda: len(self.eyes.seen[Side.CLIENT]) == 11)

    async def test_refused_before_the_dial(self) -> None:
        """An answer, the end, and the rest is thrown away; all without an upstream."""
        await self.make(dialled=False)
        data = pattern(3 << 20)
        self.left.write(data)
        self.left.end()
        self.left.discard()
        await self.client.send(pattern(50_000))
        await self.client.read_to_end()
        self.assertEqual((bytes(self.client.received), self.client.incoming), (data, "end"))
        self.client.end()
        await self.of_left.hears("ended")
        self.assertEqual(self.eyes.pieces, 0)

    async def test_ended_before_the_dial(self) -> None:
        """A client that ends before there is an upstream is told of, and may be answered."""
        await self.make(dialled=False)
        await self.client.send(b"all")
        self.client.end()
        await self.of_left.hears("ended")
        self.dial()
        self.right.write(b"all")
        self.right.end()
        self.right.go_on()
        await self.far.read_to_end()
        self.assertEqual(bytes(self.far.received), b"all")
        await self.far.send(b"answer")
        await self.client.read(6)

    async def test_reset_before_the_dial(self) -> None:
        """A client that resets before there is an upstream is lost."""
        await self.make(dialled=False)
        self.left.write(b"unread")
        await until(lambda: unread_bytes(self.client.socket))
        self.client.reset()
        await self.of_left.hears("lost reset")

    async def test_the_upstream_waits(self) -> None:
        """What the upstream says first is shown when it goes on, not when it starts."""
        await self.make(dialled=False)
        self.dial()
        await self.far.send(b"banner")
        await self.far.arrived()
        await turns()
        self.assertEqual(self.eyes.pieces, 0)
        self.left.write(b"first ")
        self.right.go_on()
        await self.client.read(12)
        self.assertEqual(bytes(self.client.received), b"first banner")
