"""
What every implementation of `portfwd.streams.stream.Stream` must do, on real sockets and the real reactor.

A concrete test says how a stream is made of a connected socket::

    class TCPTests(TCP, StreamConformance, unittest.TestCase):
        buffer = 16384

        def streams(self, left, right):
            return make(left), make(right)

Between the two streams stands what a session would do, done by the test
itself: ``left`` is connected to ``self.client``, ``right`` to ``self.upstream``.
Each test also shows that nothing is told after a loss and that no descriptor is left.
"""

from __future__ import annotations

import hashlib
import socket
from typing import Any

from twisted.internet.defer import Deferred

from portfwd.kernel.sockets import unsent_bytes
from portfwd.streams.stream import Loss, Stream
from portfwd.values import Side
from tests.streams.far_ends import (
    FarEnd,
    open_descriptors,
    settled,
    tcp_sockets,
    turn,
    turns,
    unix_sockets,
    unread_bytes,
    until,
)


class Owner:
    """
    Writes down what a stream tells.

    :ivar told: the events, in order.
    :ivar too_late: those that came after the loss.
    :ivar when: what else is done at an event.
    :ivar thrown: bytes that were thrown away.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self.too_late: list[str] = []
        self.when: dict[str, Any] = {}
        self.detail = ""
        self.thrown = 0
        self._waiting: list[tuple[str, Deferred[None]]] = []

    def _note(self, event: str) -> None:
        if any(one.startswith("lost") for one in self.told):
            self.too_late.append(event)
        self.told.append(event)
        waiting, self._waiting = self._waiting, []
        for wanted, deferred in waiting:
            if event.startswith(wanted):
                deferred.callback(None)
            else:
                self._waiting.append((wanted, deferred))
        if event in self.when:
            self.when[event]()

    async def hears(self, event: str) -> None:
        """Wait for `event`, or the beginning of one."""
        if not any(one.startswith(event) for one in self.told):
            deferred = Deferred[None]()
            self._waiting.append((event, deferred))
            await deferred

    def began(self, stream: Stream) -> None:
        """Not of interest: these streams shake no hands."""

    def opened(self, stream: Stream) -> None:
        """Not of interest: nobody owns these streams before they are open."""

    def ended(self, stream: Stream) -> None:
        """See `StreamOwner`."""
        self._note("ended")

    def end_sent(self, stream: Stream) -> None:
        """See `StreamOwner`."""
        self._note("end sent")

    def writing_failed(self, stream: Stream, detail: str) -> None:
        """See `StreamOwner`."""
        self._note("writing failed")

    def thrown_away(self, stream: Stream, count: int) -> None:
        """See `StreamOwner`."""
        self.thrown += count

    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """See `StreamOwner`."""
        self.detail = detail
        self._note(f"lost {how.value}")


class TCP:
    """Over TCP, IPv4, on loopback."""

    knows_reset = True

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """A connected pair with small buffers, though not below the loopback's segments of 64 KiB."""
        return tcp_sockets(size=65536)


class Unix:
    """Over unix sockets, whose only reset is a close with unread input."""

    knows_reset = False

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """A connected pair with small buffers."""
        return unix_sockets(size=16384)


def pattern(count: int, seed: int = 0) -> bytes:
    """Bytes that are nowhere the same."""
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(count)


class StreamConformance:
    """
    The suite.

    :cvar buffer: bytes that one direction may hold at most.
    :cvar sees_the_dead: whether a dead peer is seen while nothing is read from it.
    """

    timeout = 20
    buffer: int
    sees_the_dead = True

    # From `unittest.TestCase`, `TCP` or `Unix`.
    knows_reset: bool
    connect: Any
    assertEqual: Any  # noqa: N815
    assertIn: Any  # noqa: N815
    assertNotIn: Any  # noqa: N815
    assertTrue: Any  # noqa: N815
    assertGreater: Any  # noqa: N815
    assertGreaterEqual: Any  # noqa: N815
    assertLessEqual: Any  # noqa: N815
    addCleanup: Any  # noqa: N815
    flushLoggedErrors: Any  # noqa: N815

    def streams(self, left: socket.socket, right: socket.socket) -> tuple[Stream, Stream]:
        """Two streams over two connected sockets, which they own; neither joined, owned nor started."""
        raise NotImplementedError

    async def make(self, *, owned: bool = True, started: bool = True, joined: bool = True) -> None:
        """The four sockets and the two streams."""
        await turn()  # the first of all: the reactor opens what it needs itself
        before = open_descriptors()
        self.left_socket, client = self.connect()
        self.right_socket, upstream = self.connect()
        self.client, self.upstream = FarEnd(client), FarEnd(upstream)
        self.left, self.right = self.streams(self.left_socket, self.right_socket)
        self.left.side, self.right.side = Side.CLIENT, Side.UPSTREAM
        self.of_left, self.of_right = Owner(), Owner()
        if owned:
            self.left.own(self.of_left)
            self.right.own(self.of_right)
        if joined:
            self.left.join(self.right)
            self.right.join(self.left)
        self.addCleanup(self._finish, before, owned)
        if started:
            self.left.start()
            self.right.start()

    async def _finish(self, before: int, owned: bool) -> None:
        for stream, owner in ((self.left, self.of_left), (self.right, self.of_right)):
            if not owned and not owner.told:
                stream.own(owner)
        self.left.abort()
        self.right.abort()
        await self.of_left.hears("lost")
        await self.of_right.hears("lost")
        self.client.close()
        self.upstream.close()
        await turns()
        self.assertEqual(self.of_left.too_late + self.of_right.too_late, [], "told after the loss")
        await until(lambda: open_descriptors() <= before)

    def pass_ends_on(self) -> None:
        """What a session does with an end."""
        self.of_left.when["ended"] = self.right.end
        self.of_right.when["ended"] = self.left.end

    async def fill(self) -> bytes:
        """
        Let the client send until nothing moves any more, because the upstream does not read.

        :returns: what it tries to send; its last part is still in its own hands.
        """
        data = pattern(4 << 20)
        self.sending = self.client.send(data)
        await settled(lambda: (self.client.sent, self.right.summary(self.left).bytes))
        self.assertGreater(len(data), self.client.sent)
        return data

    # Bytes

    async def test_bytes_both_ways(self) -> None:
        """Joined streams relay bytes both ways, at once, whole and in order."""
        await self.make()
        there, back = pattern(300_000, 1), pattern(200_000, 2)
        sending = [self.client.send(there), self.upstream.send(back)]
        reading = [self.upstream.read(len(there)), self.client.read(len(back))]
        for deferred in sending + reading:
            await deferred
        self.assertEqual(bytes(self.upstream.received), there)
        self.assertEqual(bytes(self.client.received), back)

    async def test_nothing_before_start(self) -> None:
        """Nothing is read before `start`; what came meanwhile is relayed then."""
        await self.make(started=False)
        await self.client.send(b"early")
        await self.client.arrived()
        await turns()
        self.assertEqual(unread_bytes(self.left_socket), 5)
        self.left.start()
        await self.upstream.read(5)
        self.assertEqual(bytes(self.upstream.received), b"early")

    async def test_counts(self) -> None:
        """A summary has the bytes and the system calls of its own direction, and the time of the first."""
        await self.make()
        self.assertEqual((self.left.first_at, self.right.first_at), (None, None))
        await self.client.send(b"hello")
        await self.upstream.read(5)
        summary = self.right.summary(self.left)
        self.assertEqual((summary.bytes, summary.reads, summary.writes, summary.paused), (5, 1, 1, 0.0))
        self.assertEqual(self.left.summary(self.right).bytes, 0)
        self.assertEqual(self.right.first_at, None)
        self.assertTrue(self.left.first_at is not None and self.left.moved_at >= self.left.first_at)

    # Ends

    async def test_end_after_everything(self) -> None:
        """An end travels when everything before it has been written, and is told then."""
        await self.make()
        self.pass_ends_on()
        data = pattern(1 << 20)
        reading = self.upstream.read_to_end()
        await self.client.send(data)
        self.client.end()
        await reading
        self.assertEqual((bytes(self.upstream.received), self.upstream.incoming), (data, "end"))
        await self.of_right.hears("end sent")
        self.assertEqual((self.of_left.told, self.of_right.told), (["ended"], ["end sent"]))

    async def test_end_behind_a_stopped_reader(self) -> None:
        """An end that is asked for while bytes are kept goes out behind them."""
        await self.make()
        data = await self.fill()
        self.left.discard()  # as a session does with a side that nobody waits for
        self.right.end()
        await turns()
        self.assertEqual(self.of_right.told, [])
        await self.upstream.read_to_end()
        self.assertEqual(self.upstream.incoming, "end")
        self.assertTrue(data.startswith(bytes(self.upstream.received)))
        self.assertEqual(len(self.upstream.received), self.right.summary(self.left).bytes)
        await self.of_right.hears("end sent")

    async def test_the_other_direction_goes_on(self) -> None:
        """After the client's end the other direction is open, for as long as it likes."""
        await self.make()
        await self._end_first(self.client, self.upstream)
        await self.of_right.hears("ended")
        self.assertEqual(self.of_left.told, ["ended", "end sent"])
        self.assertEqual(self.of_right.told, ["end sent", "ended"])

    async def test_the_first_direction_goes_on(self) -> None:
        """The same in the other order."""
        await self.make()
        await self._end_first(self.upstream, self.client)
        await self.of_left.hears("ended")
        self.assertEqual(self.of_right.told, ["ended", "end sent"])
        self.assertEqual(self.of_left.told, ["end sent", "ended"])

    async def _end_first(self, ender: FarEnd, other: FarEnd) -> None:
        self.pass_ends_on()
        await ender.send(b"last words")
        ender.end()
        await other.read_to_end()
        self.assertEqual((bytes(other.received), other.incoming), (b"last words", "end"))
        for part in range(3):
            reading = ender.read(50_000 * (part + 1))
            await other.send(pattern(50_000, part))
            await reading
        other.end()
        await ender.read_to_end()
        self.assertEqual((ender.incoming, len(ender.received)), ("end", 150_000))

    async def test_close_after_both_ends(self) -> None:
        """When both directions are through, `close` releases the connection in order."""
        await self.make()
        self.pass_ends_on()
        self.client.end()
        self.upstream.end()
        await self.of_left.hears("end sent")
        await self.of_right.hears("end sent")
        self.left.close()
        self.right.close()
        await self.of_left.hears("lost")
        await self.of_right.hears("lost")
        self.assertEqual((self.of_left.told[-1], self.of_right.told[-1]), ("lost orderly", "lost orderly"))
        await self.client.read_to_end()
        await self.upstream.read_to_end()
        self.assertEqual((self.client.incoming, self.upstream.incoming), ("end", "end"))

    # Resets

    async def test_reset_after_what_was_received(self) -> None:
        """A reset is told as one, after everything that was received before it was passed on."""
        await self.make(started=False)
        self.left.start()
        await self.client.send(b"unread")
        answer = pattern(12_000)
        await self.upstream.send(answer)
        await self.upstream.arrived()
        await until(lambda: unread_bytes(self.upstream.socket))
        self.upstream.reset()
        await turns()
        self.right.start()
        await self.client.read(len(answer))
        await self.of_right.hears("lost")
        self.assertEqual(bytes(self.client.received), answer)
        self.assertEqual(self.of_right.told[-1], "lost reset")
        self.assertTrue(self.of_right.detail)
        self.assertNotIn("ended", self.of_right.told)

    async def test_reset_while_reading(self) -> None:
        """A peer that resets while it is read is told at once."""
        await self.make()
        await self.client.send(b"unread")
        await until(lambda: unread_bytes(self.upstream.socket))
        self.upstream.reset()
        await self.of_right.hears("lost")
        self.assertEqual(self.of_right.told[-1], "lost reset")

    async def test_answer_during_an_upload(self) -> None:
        """
        A failed write ends only its own direction.

        The upstream answers, ends and closes with unread input: its whole answer is delivered.
        """
        await self.make()
        self.of_right.when = {"writing failed": self.left.discard, "lost reset": self.left.discard}
        await self.fill()
        answer = pattern(12_000)
        await self.upstream.send(answer)
        await self.upstream.arrived()
        self.upstream.end()
        self.upstream.reset()
        await self.client.read(len(answer))
        self.assertEqual(bytes(self.client.received), answer)
        if self.knows_reset:  # a unix socket takes the end back when it is closed like that
            await self.of_right.hears("writing failed")
            await self.of_right.hears("ended")
            self.assertEqual(sorted(self.of_right.told), ["ended", "writing failed"])
        else:
            await self.of_right.hears("lost reset")
        await self.sending
        self.assertEqual(self.of_left.told, [])

    async def test_abort(self) -> None:
        """An abort is seen as a reset by the peer, and what was kept is dropped."""
        await self.make()
        await self.fill()
        self.right.abort()
        await self.of_right.hears("lost")
        self.assertEqual(self.of_right.told, ["lost aborted"])
        await self.upstream.read_to_end()
        self.assertEqual(self.upstream.incoming, "reset" if self.knows_reset else "end")
        self.assertLessEqual(len(self.upstream.received), self.client.sent)
        self.right.abort()
        self.right.close()
        self.right.end()
        self.right.discard()
        self.assertEqual(self.right.undelivered(), 0)

    async def test_our_own_mistake(self) -> None:
        """An exception of the owner ends this stream, with a reset, and no other."""
        await self.make()
        self.of_left.when["ended"] = lambda: 1 // 0
        self.client.end()
        await self.of_left.hears("lost")
        self.assertEqual(self.of_left.told, ["ended", "lost failed"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        await self.client.read_to_end()
        self.assertEqual(self.client.incoming, "reset" if self.knows_reset else "end")
        self.assertEqual(self.of_right.told, [])

    # Backpressure

    async def test_a_stopped_reader_stops_the_source(self) -> None:
        """
        Backpressure: what the destination does not take is not read.

        At most one buffer is in flight; when the reader goes on, so does the source, and nothing is lost.
        """
        await self.make()
        data = await self.fill()
        in_hand = self.right.undelivered() - unsent_bytes(self.right_socket)
        self.assertIn(in_hand, range(self.buffer + 1))
        self.assertGreater(unread_bytes(self.left_socket), 0)
        await self.upstream.read(len(data))
        await self.sending
        self.assertEqual(bytes(self.upstream.received), data)
        summary = self.right.summary(self.left)
        self.assertEqual(summary.bytes, len(data))
        self.assertGreater(summary.paused, 0.0)
        self.assertEqual((self.of_left.told, self.of_right.told), ([], []))

    async def test_a_stopped_reader_stops_one_direction(self) -> None:
        """While one direction is stopped the other one moves."""
        await self.make()
        await self.fill()
        back = pattern(500_000, 3)
        sending = self.upstream.send(back)
        await self.client.read(len(back))
        await sending
        self.assertEqual(bytes(self.client.received), back)

    async def test_undelivered(self) -> None:
        """What the peer's kernel has not confirmed is counted, what is kept included; it is 0 in the end."""
        await self.make()
        self.assertEqual(self.right.undelivered(), 0)
        await self.fill()
        waiting = self.right.undelivered()
        written = self.right.summary(self.left).bytes
        self.assertGreater(waiting, 0)
        if self.knows_reset:  # of a unix socket it is memory
            self.assertLessEqual(waiting, written + self.buffer)
        await self.upstream.read(4 << 20)
        await self.sending
        await until(lambda: not self.right.undelivered())

    # The dead

    async def test_dead_while_paused(self) -> None:
        """A peer that dies while nothing is read from it is noticed; what it sent is still delivered."""
        await self.make()
        await self.upstream.send(b"unread")
        await until(lambda: unread_bytes(self.client.socket))
        data = await self.fill()
        there = self.client.sent - self.client.unsent()
        self.client.reset()
        if self.sees_the_dead:
            await self.of_left.hears("writing failed")
            self.assertEqual(self.of_left.told, ["writing failed"])
        self.upstream.read_to_end()
        await self.of_left.hears("lost")
        self.assertEqual(self.of_left.told[-1], "lost reset")
        await until(lambda: len(self.upstream.received) >= there)
        self.assertTrue(data.startswith(bytes(self.upstream.received)))

    async def test_dead_before_start(self) -> None:
        """The same while nothing is read because nobody has started yet."""
        await self.make(started=False)
        self.right.start()
        await self.upstream.send(b"unread")
        await until(lambda: unread_bytes(self.client.socket))
        self.client.reset()
        if self.sees_the_dead:
            await self.of_left.hears("writing failed")
        self.left.start()
        await self.of_left.hears("lost reset")

    async def test_dead_after_its_end(self) -> None:
        """A peer that has ended and then dies is noticed, although there is nothing left to read."""
        await self.make()
        self.client.end()
        await self.of_left.hears("ended")
        await self.upstream.send(b"unread")
        await until(lambda: unread_bytes(self.client.socket))
        self.client.reset()
        if not self.sees_the_dead:
            await self.upstream.send(b"a write finds out")
        await self.of_left.hears("writing failed")
        self.assertEqual(self.of_left.told, ["ended", "writing failed"])

    async def test_dead_after_our_end(self) -> None:
        """A peer that dies, unread, after our own end went out is noticed too."""
        await self.make(started=False)
        self.left.start()
        await self.client.send(b"question")
        self.client.end()
        await self.of_left.hears("ended")
        await self.upstream.send(b"answer")
        self.right.end()
        await self.of_right.hears("end sent")
        await turns()
        self.upstream.reset()
        if self.sees_the_dead:
            await self.of_right.hears("writing failed")
        self.right.start()
        await self.client.read(6)
        await self.of_right.hears("lost reset")
        self.assertEqual(bytes(self.client.received), b"answer")

    async def test_crossed_ends_are_no_death(self) -> None:
        """
        A connection whose two ends have crossed hangs up as a dead one does; it is not dead.

        The upstream answers and closes in order while nothing is read from it: the answer is
        delivered when it is, and the end behind it.
        """
        await self.make(started=False)
        self.left.start()
        self.client.end()
        await self.of_left.hears("ended")
        self.right.end()
        await self.upstream.read_to_end()
        answer = pattern(6000)
        await self.upstream.send(answer)
        self.upstream.close()
        await turns()
        self.assertEqual(self.of_right.told, ["end sent"])
        self.right.start()
        await self.client.read(len(answer))
        await self.of_right.hears("ended")
        self.assertEqual(bytes(self.client.received), answer)
        self.assertEqual(self.of_right.told, ["end sent", "ended"])

    # Reading and throwing away

    async def test_discard(self) -> None:
        """After `discard` what comes is read and thrown away, and the end is told all the same."""
        await self.make()
        await self.client.send(b"wanted")
        await self.upstream.read(6)
        self.left.discard()
        await self.client.send(pattern(200_000))
        self.client.end()
        await self.of_left.hears("ended")
        self.right.end()
        await self.upstream.read_to_end()
        self.assertEqual((bytes(self.upstream.received), self.upstream.incoming), (b"wanted", "end"))
        self.assertEqual(self.right.summary(self.left).bytes, 6)
        self.assertEqual(self.of_left.thrown, 200_000)

    async def test_discard_what_is_stopped(self) -> None:
        """`discard` reads on where the destination takes no more; what was read before is still written."""
        await self.make()
        data = await self.fill()
        self.left.discard()
        await self.sending
        self.client.end()
        await self.of_left.hears("ended")
        self.right.end()
        await self.upstream.read_to_end()
        self.assertEqual(self.upstream.incoming, "end")
        self.assertTrue(data.startswith(bytes(self.upstream.received)))
        self.assertEqual(len(self.upstream.received), self.right.summary(self.left).bytes)

    async def test_discard_without_start(self) -> None:
        """A stream that is turned away is never started: `discard` reads it to its end."""
        await self._turn_away(joined=True)

    async def test_discard_of_one_alone(self) -> None:
        """Nor is it joined to another, where it is turned away before there is an upstream."""
        await self._turn_away(joined=False)

    async def _turn_away(self, *, joined: bool) -> None:
        await self.make(started=False, joined=joined)
        await self.client.send(b"nobody wants this")
        self.client.end()
        self.left.end()
        self.left.discard()
        await self.of_left.hears("ended")
        await self.client.read_to_end()
        self.assertEqual((self.client.incoming, bytes(self.upstream.received)), ("end", b""))

    # Owners

    async def test_owned_late(self) -> None:
        """Who owns a stream late is told what came before: an end."""
        await self.make(owned=False)
        self.left.own(self.of_left)
        self.upstream.end()
        await turns()
        self.right.own(self.of_right)
        await self.of_right.hears("ended")
        self.assertEqual(self.of_right.told, ["ended"])

    async def test_owned_after_the_loss(self) -> None:
        """And a loss; every new owner hears of it."""
        await self.make(owned=False)
        self.left.own(self.of_left)
        await self.client.send(b"unread")
        await until(lambda: unread_bytes(self.upstream.socket))
        self.upstream.reset()
        await until(lambda: self.right_socket.fileno() < 0)
        for owner in (self.of_right, Owner()):
            self.right.own(owner)
            await owner.hears("lost reset")
