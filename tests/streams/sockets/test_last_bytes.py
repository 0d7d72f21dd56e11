"""Tests of `portfwd.streams.sockets.socket_flow`: an end leaves together with the last bytes before it."""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from typing import Final

from twisted.python.runtime import platform

from portfwd.streams.stream import Loss
from portfwd.values import Side
from tests.streams.sockets.test_socket_flow import FlowCase
from tests.streams.workbench import Workbench, drain, tcp_pair

#: ``tcpi_segs_in`` of linux/tcp.h.
_SEGMENTS_IN: Final = 140


def segments(sock: socket.socket) -> int:
    """How many TCP segments `sock` has received."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SEGMENTS_IN + 4)
    return int(struct.unpack_from("I", info, _SEGMENTS_IN)[0])


class LastBytesTests(FlowCase):
    """The source ends right behind what it says."""

    if not platform.isLinux():
        skip = "needs Linux"

    def last_words(self, bench: Workbench, data: bytes) -> None:
        """The client says `data` and ends before anybody looks."""
        bench.left.send(data)
        bench.left.shutdown(socket.SHUT_WR)
        bench.turn()

    def test_one_segment(self) -> None:
        """Bytes and end are one segment, not two."""
        bench = self.bench(tcp_pair)
        before = segments(bench.right)
        self.last_words(bench, b"goodbye")
        self.assertEqual(drain(bench.right), (b"goodbye", "end"))
        self.assertEqual(segments(bench.right) - before, 1)
        flow = bench.upstream.summary(bench.client)
        self.assertEqual((flow.bytes, flow.reads, flow.writes), (7, 1, 1))
        self.assertEqual(bench.owner.told, [("ended", Side.CLIENT), ("end sent", Side.UPSTREAM)])

    def test_unix(self) -> None:
        """Unix sockets know nothing of segments; bytes and end arrive."""
        bench = self.bench()
        self.last_words(bench, b"goodbye")
        self.assertEqual(drain(bench.right), (b"goodbye", "end"))

    def test_the_end_goes_no_further(self) -> None:
        """Who is told of the end may keep it: the bytes before it are not held back."""
        bench = self.bench(tcp_pair, pass_ends=False)
        before = segments(bench.right)
        self.last_words(bench, b"goodbye")
        self.assertEqual(drain(bench.right), (b"goodbye", "open"))
        self.assertEqual(segments(bench.right) - before, 1)
        bench.upstream.end()
        self.assertEqual(drain(bench.right), (b"", "end"))

    def test_bytes_cannot_be_let_go(self) -> None:
        """A destination that is no more when they are to go is one that takes no more."""
        bench = self.bench(tcp_pair, pass_ends=False)
        bench.faults.plan["push"] = deque([errno.ENOTCONN])
        self.last_words(bench, b"goodbye")
        self.assertEqual(bench.owner.told, [("ended", Side.CLIENT), ("writing failed", Side.UPSTREAM)])

    def test_more_came_meanwhile(self) -> None:
        """What the look finds to be more is read like all else; the end is behind it."""
        bench = self.bench(tcp_pair)
        bench.faults.plan["recv"] = deque([-10])
        bench.left.send(b"x" * 3000)
        bench.left.shutdown(socket.SHUT_WR)
        bench.turn()
        self.assertEqual(drain(bench.right), (b"x" * 3000, "end"))

    def test_nothing_to_be_seen(self) -> None:
        """A look that finds nothing says that the source is dry for now."""
        bench = self.bench(tcp_pair)
        bench.faults.plan["peek"] = deque([errno.EAGAIN])
        self.last_words(bench, b"goodbye")
        self.assertEqual(drain(bench.right), (b"goodbye", "open"))
        bench.nudge()
        self.assertEqual(drain(bench.right), (b"", "end"))

    def test_a_death_that_the_look_was_told_of(self) -> None:
        """It is told once: the bytes before it go out, and then no end is made of it."""
        # A connection that a firewall began to reject dies of ECONNREFUSED.
        for code in (errno.ECONNRESET, errno.ECONNREFUSED):
            bench = self.bench(tcp_pair)
            bench.faults.plan["peek"] = deque([code])
            self.last_words(bench, b"goodbye")
            self.assertEqual(drain(bench.right), (b"goodbye", "open"))
            self.assertEqual(bench.owner.losses, {Side.CLIENT: Loss.RESET})

    def test_urgent_data_before_the_end(self) -> None:
        """They are dropped as ever, and not left unread: then the close would be a reset."""
        bench = self.bench(tcp_pair)
        bench.left.send(b"AB")
        bench.left.send(b"U", socket.MSG_OOB)
        bench.left.shutdown(socket.SHUT_WR)
        bench.turn()
        self.assertEqual(drain(bench.right), (b"AB", "end"))
        bench.right.send(b"answer")
        bench.turn()
        bench.client.end(last=True)
        bench.client.close()
        self.assertEqual(drain(bench.left), (b"answer", "end"))

    def test_no_memory_to_look(self) -> None:
        """Then bytes and end go one after the other."""
        bench = self.bench(tcp_pair)
        bench.faults.plan["peek"] = deque([errno.ENOMEM])
        self.last_words(bench, b"goodbye")
        self.assertEqual(drain(bench.right), (b"goodbye", "end"))
        self.assertEqual(bench.owner.losses, {})

    def test_the_destination_takes_a_part(self) -> None:
        """What it refuses is kept, and the end stays behind it."""
        bench = self.bench(tcp_pair)
        bench.faults.plan["send"] = deque([-4, errno.EAGAIN])
        self.last_words(bench, b"goodbye")
        bench.nudge()
        self.assertEqual(drain(bench.right), (b"goodbye", "end"))


class DeathTests(FlowCase):
    """What an event says of a connection's end is looked at before it is believed."""

    def test_another_ones_error(self) -> None:
        """An error of a socket that is gone, told under its number, does not end who has the number now."""
        bench = self.bench(tcp_pair)
        for events in (0x8, 0x18, 0x201D):  # ERR alone, with HUP, with everything
            bench.client.ready(events)
            self.assertFalse(bench.client.dead)
        bench.left.send(b"alive")
        bench.turn()
        self.assertEqual(drain(bench.right), (b"alive", "open"))
