"""Tests for what is done to plain sockets, on real ones."""

from __future__ import annotations

import resource
import socket
import struct
import sys

from twisted.trial import unittest

from portfwd.kernel import socket_options, sockets
from portfwd.wire.tcp_info import parse_tcp_info
from tests.kernel.socket_case import SocketCase
from tests.streams.far_ends import unix_sockets


class MakingTests(SocketCase):
    """Bare sockets, and accepting them."""

    def test_bare(self) -> None:
        """A bare socket is non-blocking and not inherited by other programs."""
        bare = sockets.bare_socket(socket.AF_INET)
        self.addCleanup(bare.close)
        self.assertEqual((bare.gettimeout(), bare.family), (0.0, socket.AF_INET))
        self.assertNotIsInstance(bare, socket.socket)

    def test_accept(self) -> None:
        """A client comes as a bare, non-blocking socket, with its address."""
        listening = self.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        self.assertRaises(BlockingIOError, sockets.accept, listening, socket.AF_INET)
        connecting = self.socket()
        connecting.connect(listening.getsockname())
        client, address = sockets.accept(listening, socket.AF_INET)
        self.addCleanup(client.close)
        self.assertEqual((address, client.gettimeout()), (connecting.getsockname(), 0.0))


class QueueTests(SocketCase):
    """The send queue, and dropping it."""

    def test_unsent(self) -> None:
        """What the peer's kernel has not confirmed is counted in bytes."""
        near, far = self.pair(size=65536)
        self.assertEqual(sockets.unsent_bytes(near), 0)
        sent = 0
        try:
            while True:
                sent += near.send(bytes(65536))
        except BlockingIOError:
            self.assertIn(sockets.unsent_bytes(near), range(1, sent + 1))
        far.close()

    def test_of_a_unix_socket(self) -> None:
        """Of a unix socket it is the memory of what was not read."""
        near, far = unix_sockets()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        near.send(b"x")
        self.assertGreater(sockets.unsent_bytes(near), 0)
        far.recv(1)
        self.assertEqual(sockets.unsent_bytes(near), 0)

    def test_of_a_closed_socket(self) -> None:
        """A socket that cannot be asked has nothing unsent."""
        with open("/dev/null", "rb") as nothing:
            self.assertIsNone(sockets.unsent_bytes(nothing))  # type: ignore[arg-type]

    def test_tcp_info(self) -> None:
        """Of a TCP connection there is a structure that can be read; of anything else there is nothing."""
        if sys.platform != "linux":
            raise unittest.SkipTest("this platform has another structure")
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            far, _ = server.accept()
        self.addCleanup(near.close)
        far.close()
        info = parse_tcp_info(sockets.tcp_info(near))
        assert info is not None
        self.assertEqual(info.retransmits, 0)
        self.assertGreater(info.mss or 0, 500)
        one, other = socket.socketpair()
        with one, other, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            self.assertEqual((sockets.tcp_info(one), sockets.tcp_info(datagrams)), (b"", b""))
        near.close()
        self.assertEqual(sockets.tcp_info(near), b"")

    def test_waiting(self) -> None:
        """What was received and not read yet is counted; an end is none of it."""
        near, far = self.pair()
        self.assertEqual(sockets.waiting_bytes(near), 0)
        far.send(b"three")
        far.shutdown(socket.SHUT_WR)
        self.assertEqual(sockets.waiting_bytes(near), 5)
        near.recv(5)
        self.assertEqual(sockets.waiting_bytes(near), 0)

    def test_push(self) -> None:
        """What was held back goes out; sockets that hold nothing back are left alone."""
        near, far = self.pair()
        far.setblocking(False)
        near.send(b"held", socket.MSG_MORE)
        self.assertRaises(BlockingIOError, far.recv, 4)
        sockets.push(near)
        self.assertEqual(far.recv(4), b"held")
        for unix in unix_sockets():
            self.addCleanup(unix.close)
            sockets.push(unix)
        near.close()
        self.assertRaises(OSError, sockets.push, near)

    def test_one_packet_less(self) -> None:
        """Who is connected and speaks at once acknowledges with what he says."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            for settings, packets in ((socket_options.WILL_SEND, 2), ((), 3)):
                bare = sockets.bare_socket(socket.AF_INET)
                self.addCleanup(bare.close)
                socket_options.apply_settings(bare, settings)
                bare.connect_ex(server.getsockname())
                bare.send(b"hello")
                # Of tcp_info: segments sent. SYN, and then ACK and bytes together or one after the other.
                info = bare.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 140)
                self.assertEqual(struct.unpack_from("I", info, 136)[0], packets)

    def test_has_hung_up(self) -> None:
        """A reset is a hang-up, and so are two ends; one end is none."""
        near, far = self.pair()
        self.assertFalse(sockets.has_hung_up(near))
        far.shutdown(socket.SHUT_WR)
        self.assertFalse(sockets.has_hung_up(near))
        near.shutdown(socket.SHUT_WR)
        self.assertTrue(sockets.has_hung_up(near))
        near, far = self.pair()
        sockets.reset_on_close(far)
        far.close()
        self.assertTrue(sockets.has_hung_up(near))

    def test_reset_on_close(self) -> None:
        """The close that follows is a reset."""
        near, far = self.pair()
        sockets.reset_on_close(near)
        near.close()
        self.assertRaises(ConnectionResetError, far.recv, 1)


class Fixed:
    """Limits that are what a test says."""

    RLIMIT_NOFILE = 7
    RLIM_INFINITY = -1

    def __init__(self, soft: int, hard: int, refuses: Exception | None = None) -> None:
        self.limits = (soft, hard)
        self.refuses = refuses

    def getrlimit(self, which: int, /) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, which: int, limits: tuple[int, int], /) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.limits = limits


class LimitTests(SocketCase):
    """The limit of descriptors."""

    def test_raised(self) -> None:
        """The soft limit becomes the hard one."""
        limits = Fixed(1024, 4096)
        self.assertEqual((sockets.raise_descriptor_limit(limits), limits.limits), (4096, (4096, 4096)))

    def test_high_enough(self) -> None:
        """A soft limit that is there already is not touched."""
        self.assertEqual(sockets.raise_descriptor_limit(Fixed(64, 64, OSError())), 64)

    def test_refused(self) -> None:
        """Where it cannot be raised, what there is holds."""
        for problem in (OSError(), ValueError()):
            self.assertEqual(sockets.raise_descriptor_limit(Fixed(256, -1, problem)), 256)

    def test_no_limit(self) -> None:
        """No limit is 0, which a budget takes for any number."""
        self.assertEqual(sockets.raise_descriptor_limit(Fixed(256, -1)), 0)

    def test_here(self) -> None:
        """The limit of the process itself."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        raised = sockets.raise_descriptor_limit()
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], raised)
