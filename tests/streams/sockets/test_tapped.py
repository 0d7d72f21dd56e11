"""Tests of a socket whose bytes somebody looks at."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from portfwd.streams.sockets.tapped import TappedSocket


class TappedSocketTests(SynchronousTestCase):
    """What it shows, and what it leaves to the socket."""

    def setUp(self) -> None:
        self.far, inner = socket.socketpair()
        self.addCleanup(self.far.close)
        self.addCleanup(inner.close)
        self.inner = inner
        self.seen: list[bytes] = []
        self.tapped = TappedSocket(inner, self.seen.append)

    def test_reads(self) -> None:
        """Every read is shown, by either method, as a copy; the end is not."""
        buffer = bytearray(10)
        self.far.send(b"one")
        self.assertEqual(self.tapped.recv(10), b"one")
        self.far.send(b"two")
        self.assertEqual(self.tapped.recv_into(memoryview(buffer)), 3)
        buffer[:] = bytes(10)
        self.far.close()
        self.assertEqual(self.tapped.recv(10), b"")
        self.assertEqual(self.tapped.recv_into(memoryview(buffer)), 0)
        self.assertEqual(self.seen, [b"one", b"two"])

    def test_the_rest(self) -> None:
        """All else is the socket's."""
        self.assertEqual(self.tapped.fileno(), self.inner.fileno())
        self.tapped.send(b"back")
        self.assertEqual(self.far.recv(10), b"back")
        self.assertIn("TappedSocket", repr(self.tapped))
