"""Tests for `bench.loads.ticking`."""

import sys

from twisted.trial.unittest import SynchronousTestCase

from bench.lab import Lab, Place
from bench.loads.reload import parse_worst
from bench.loads.ticking import Client
from bench.peers.checkout import environment

TICKING = [sys.executable, "-m", "bench.loads.ticking"]


class TickingTests(SynchronousTestCase):
    """The two programs, with nothing between them."""

    def test_exchange(self) -> None:
        """Bytes go to and fro and connections come; the longest wait is a number, and nothing fails."""
        with Lab(loopback=True) as lab:
            serving, asking = ([*TICKING, role, "127.0.0.1", "18767"] for role in ("server", "client"))
            with (
                lab.program(Place.SERVER, "server", serving, asked=True, env=environment()) as server,
                lab.program(Place.CLIENT, "client", asking, asked=True, env=environment()) as client,
            ):
                server.wait_listening([18767])
                self.assertEqual(client.ask("begin", 10), "begun")
                self.assertEqual(client.ask("dance", 5), "unknown dance")
                worst, failures = parse_worst(client.ask("worst", 30))
                self.assertGreater(worst, 0)
                self.assertEqual(failures, 0)

    def test_nobody_there(self) -> None:
        """Connections that do not come about are counted, not hidden."""
        client = Client("127.0.0.1", 1)
        client.enough.wait = lambda _: client.failures > 0  # type: ignore[method-assign, assignment]
        client.again_and_again(client.newcomer)
        self.assertEqual((client.failures, client.connections), (1, 0))
