"""Tests for `bench.loads.crowd`."""

import sys

from twisted.trial.unittest import SynchronousTestCase

from bench.lab import Lab, Place
from bench.loads.crowd import Pattern
from bench.peers.checkout import environment


class PatternTests(SynchronousTestCase):
    """Bytes that name their connection."""

    def test_differs(self) -> None:
        """The same place of two connections holds different bytes; pieces join seamlessly."""
        pattern = Pattern()
        self.assertNotEqual(bytes(pattern.piece(1, 0, 64)), bytes(pattern.piece(2, 0, 64)))
        whole = bytes(pattern.piece(3, 1000, 500))
        self.assertEqual(whole, bytes(pattern.piece(3, 1000, 200)) + bytes(pattern.piece(3, 1200, 300)))


class CrowdTests(SynchronousTestCase):
    """The two programs, with nothing between them."""

    def test_stopped_and_read(self) -> None:
        """Readers that stop hold the sender back; when they read, every byte is right and none is missing."""
        size = 32 << 20
        crowd = [sys.executable, "-m", "bench.loads.crowd"]
        with Lab(loopback=True) as lab:
            serving = [*crowd, "server", "127.0.0.1", "18765", str(size)]
            asking = [*crowd, "client", "127.0.0.1", "18765"]
            with (
                lab.program(Place.SERVER, "server", serving, asked=True, env=environment()) as server,
                lab.program(Place.CLIENT, "client", asking, asked=True, env=environment()) as client,
            ):
                server.wait_listening([18765])
                self.assertEqual(client.ask("open 2", 10), "open 2 0")
                self.assertLess(int(server.ask("sent", 20).split()[1]), 2 * size)
                self.assertEqual(client.ask("read", 30), f"read {2 * size} 0")
                self.assertEqual(client.ask("dance", 5), "unknown dance")

    def test_nobody_there(self) -> None:
        """Connections that do not come about are counted, not hidden."""
        with Lab(loopback=True) as lab:
            argv = [sys.executable, "-m", "bench.loads.crowd", "client", "127.0.0.1", "18766"]
            with lab.program(Place.CLIENT, "client", argv, asked=True, env=environment()) as client:
                self.assertEqual(client.ask("open 3", 10), "open 0 3")
