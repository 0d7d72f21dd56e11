"""A forwarder in a process of its own, for tests."""

from __future__ import annotations

import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from portfwd.testing.running import ForwarderFailed, RunningForwarder

FILTER = """
from portfwd.filters import Filter

class Loud(Filter):
    def received(self, direction, data):
        return data.upper()
"""


class RunningForwarderTests(SynchronousTestCase):
    """Starts, carries traffic, and ends."""

    def test_traffic(self) -> None:
        """A filter of the test's own directory sees the bytes, and the session can be read."""
        place = Path(self.mktemp())
        place.mkdir()
        (place / "loud_filter.py").write_text(FILTER)
        upstream = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(upstream.close)
        rules = (
            f"web: 127.0.0.1:0 -> 127.0.0.1:{upstream.getsockname()[1]}\n    filter python:loud_filter.Loud"
        )
        with RunningForwarder(rules, [str(place)]) as forwarder:
            with forwarder.connect("web") as client:
                server, _ = upstream.accept()
                client.sendall(b"hello")
                client.shutdown(socket.SHUT_WR)
                received = b""
                while piece := server.recv(100):
                    received += piece
                server.close()
                client.recv(1)
            (session,) = forwarder.wait_for_sessions(1)
            self.assertEqual((session["rule"], session["to_upstream"]["bytes"]), ("web", 5))
            address = forwarder.addresses["web"]
            self.assertIn("web: listening on", forwarder.log)
        self.assertEqual(received, b"HELLO")
        self.assertRaises(ConnectionRefusedError, socket.create_connection, address, 5)

    def test_wrong_rules(self) -> None:
        """Rules that are refused are told with what is wrong."""
        error = self.assertRaises(ForwarderFailed, RunningForwarder("web: :80 -> ").__enter__)
        self.assertIn("no target follows", str(error))
