"""Tests of `portfwd.streams.sockets.bulk_reads`: larger reads, and who may keep what they bring."""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import Any

from twisted.internet import error, main
from twisted.python.failure import Failure
from twisted.trial import unittest

from portfwd.streams.sockets.bulk_reads import BulkReader, BulkReads, BulkSlots
from portfwd.streams.transports.plain import PlainTransport
from portfwd.values import Side
from tests.streams.sockets.test_watched import WatchedBench
from tests.streams.transports.test_plain import FakeReactor, Script, Told
from tests.streams.workbench import BUFFER, drain, tcp_pair

BULK = 4 * BUFFER


class SlotsTests(unittest.SynchronousTestCase):
    """Who may read more."""

    def test_so_many(self) -> None:
        """There are as many slots as were made, for reads of all sizes together."""
        slots = BulkSlots(2)
        reads = BulkReads(100, slots)
        one, other, third = BulkReader(reads), BulkReader(reads.with_size(200)), BulkReader(reads)
        self.assertEqual([reader.next_size(10) for reader in (one, other, third, one)], [100, 200, 10, 100])
        other.release()
        other.release()
        self.assertEqual(third.next_size(10), 100)
        self.assertEqual(repr(reads), "<BulkReads 100 <BulkSlots 2 of 2>>")
        self.assertEqual(
            (repr(third), repr(other)), ("<BulkReader larger with a slot>", "<BulkReader larger>")
        )

    def test_usual(self) -> None:
        """A read that does not fill the usual buffer is followed by a usual one."""
        reader = BulkReader(BulkReads(100, BulkSlots()))
        reader.filled = False
        self.assertEqual((reader.next_size(10), repr(reader)), (10, "<BulkReader usual>"))


class Sized(Script):
    """A socket that notes how much was to be read at once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def recv(self, count: int) -> bytes:
        self.asked.append(count)
        return super().recv(count)


class TransportTests(unittest.SynchronousTestCase):
    """Reads of the pair."""

    def setUp(self) -> None:
        """A transport that reads 4 bytes, or 16 in bulk."""
        self.socket = Sized()
        self.told = Told()
        self.slots = BulkSlots(1)
        sock: Any = self.socket
        reactor: Any = FakeReactor()
        self.transport = PlainTransport(sock, self.told, reactor, 4, bulk=BulkReads(16, self.slots))
        self.told.makeConnection(self.transport)
        self.transport.startReading()

    def read(self, *given: bytes | int) -> None:
        """One event for each."""
        self.socket.gives += given
        for _ in given:
            self.transport.doRead()

    def test_bulk(self) -> None:
        """After a read that filled the buffer the next is larger; after one that did not, it is usual."""
        self.read(b"abc", b"abcd", b"abcdefgh", b"ab", b"a")
        self.assertEqual(self.socket.asked, [4, 4, 16, 16, 4])
        self.assertEqual(self.slots.taken, 0)

    def test_nothing_there(self) -> None:
        """A larger read that brings nothing has no slot, and the next is larger again."""
        self.read(b"abcd", errno.EAGAIN)
        self.assertEqual((self.socket.asked, self.slots.taken), ([4, 16], 0))

    def test_a_place_while_it_is_kept(self) -> None:
        """Who has to wait because something is kept has a slot until reading goes on."""
        self.read(b"abcd")
        self.told.on_data = self.transport.stopReading
        self.read(b"abcdefgh")
        self.assertEqual(self.slots.taken, 1)
        self.transport.startReading()
        self.assertEqual(self.slots.taken, 0)

    def test_no_slot(self) -> None:
        """Where there is none the read is the usual one."""
        self.slots.taken = 1
        self.read(b"abcd", b"abcd")
        self.assertEqual((self.socket.asked, self.slots.taken), ([4, 4], 1))

    def test_lost(self) -> None:
        """A connection that is gone has no slot, however it went."""
        for last in (b"", errno.ECONNRESET):
            self.setUp()
            self.read(b"abcd")
            self.socket.gives.append(last)
            outcome = self.transport.doRead()
            self.assertIs(outcome, main.CONNECTION_DONE if last == b"" else main.CONNECTION_LOST)
            self.assertEqual(self.slots.taken, 0)

    def test_lost_while_it_waits(self) -> None:
        """A connection that is lost while something is kept has no slot."""
        self.read(b"abcd")
        self.told.on_data = self.transport.stopReading
        self.read(b"abcdefgh")
        self.assertEqual(self.slots.taken, 1)
        self.transport.connectionLost(Failure(error.ConnectionDone()))
        self.assertEqual(self.slots.taken, 0)

    def test_who_holds_is_shown_little(self) -> None:
        """After a read that is held the next is the usual one."""
        self.told.on_data = self.transport.read_little
        self.read(b"abcd", b"abcd", b"abcd")
        self.assertEqual(self.socket.asked, [4, 4, 4])


class FlowTests(unittest.SynchronousTestCase):
    """Reads that a filter sees."""

    def setUp(self) -> None:
        """A workbench whose larger reads are four buffers."""
        self.slots = BulkSlots()
        self.bench = bench = WatchedBench(tcp_pair)
        bench.setup.bulk = BulkReads(BULK, self.slots)
        self.addCleanup(bench.close)
        bench.start()
        bench.turn()
        self.sizes: list[int] = []
        bench.eyes.when[Side.CLIENT] = self.saw

    def saw(self, data: bytes) -> None:
        """Note how much was read, and pass it on."""
        self.sizes.append(len(data))
        self.bench.upstream.write(data)

    def test_bulk(self) -> None:
        """The second read in a row is larger; what it brought is passed on, and no slot is kept."""
        self.bench.left.send(bytes(2 * BULK))
        self.bench.turn()
        self.assertEqual(self.sizes[:2], [BUFFER, BULK])
        self.assertEqual(len(drain(self.bench.right)[0]), 2 * BULK)
        self.assertEqual(self.slots.taken, 0)
        self.bench.left.send(b"little")
        self.bench.turn()
        self.bench.left.send(bytes(2 * BUFFER))
        self.bench.turn()
        self.assertEqual(self.sizes[3:6], [6, BUFFER, BUFFER])

    def test_a_place_while_it_is_kept(self) -> None:
        """What the destination refuses has a slot until it is written, or dropped."""
        for way in ("written", "dropped"):
            self.setUp()
            self.bench.faults.plan["send"] = deque([None, *[errno.EAGAIN] * 20])
            self.bench.left.send(bytes(BULK))
            self.bench.turn()
            self.assertEqual((self.slots.taken, self.bench.up.kept_bytes), (1, BULK - BUFFER))
            self.bench.faults.plan["send"].clear()
            if way == "written":
                self.bench.nudge()
                self.assertEqual(len(drain(self.bench.right)[0]), BULK)
            else:
                self.bench.upstream.abort()
            self.assertEqual(self.slots.taken, 0, way)

    def test_answers_that_are_kept(self) -> None:
        """What was answered to a larger read, and is not taken, has its place too."""
        self.bench.eyes.when[Side.CLIENT] = lambda data: self.bench.client.write(data, answer=True)
        self.bench.faults.plan["send"] = deque([None, *[errno.EAGAIN] * 20])
        self.bench.left.send(bytes(BULK))
        self.bench.turn()
        self.assertEqual(self.slots.taken, 1)
        self.bench.faults.plan["send"].clear()
        self.bench.nudge()
        self.assertEqual((self.slots.taken, len(drain(self.bench.left)[0])), (0, BULK))

    def test_reads_that_bring_nothing(self) -> None:
        """A larger read that finds nothing, an error or the end has no slot."""
        for fault in (errno.EAGAIN, errno.ECONNRESET, None):
            self.setUp()
            self.bench.faults.plan["recv"] = deque([None, fault])
            self.bench.left.send(bytes(BUFFER))
            self.bench.left.shutdown(socket.SHUT_WR)
            self.bench.turn()
            self.assertEqual((self.sizes, self.slots.taken), ([BUFFER], 0))

    def test_who_holds_is_shown_little(self) -> None:
        """After a read that was held the next is the usual one."""

        def hold(data: bytes) -> None:
            self.saw(data)
            self.bench.client.hold()

        self.bench.eyes.when[Side.CLIENT] = hold
        self.bench.left.send(bytes(3 * BUFFER))
        for _ in range(3):
            self.bench.turn()
            self.bench.client.go_on()
        self.bench.turn()
        self.assertEqual(self.sizes, [BUFFER] * 3)
