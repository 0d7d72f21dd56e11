"""iperf3, through portfwd: bulk on parallel connections, either way."""

from __future__ import annotations

import json

from tests.integration.case import ForwarderCase
from tests.integration.forwarder import is_listening
from tests.integration.programs import Program, needs, run
from tests.ports import free_port


class Iperf3Tests(ForwarderCase):
    """A control connection and two with data."""

    def measure(self, *options: str) -> None:
        """One second of bulk; iperf3 itself says whether it was cut short."""
        iperf3 = needs("iperf3")
        port = free_port()
        server = Program(
            [iperf3, "-s", "-1", "-B", "127.0.0.1", "-p", str(port)], self.directory / "iperf3.log"
        )
        self.addCleanup(server.clean_up)
        # It serves one client only: connecting to see whether it listens would be that one.
        server.wait_until(lambda: is_listening(port), "the server")
        forwarder = self.forwarder(f"bulk: 127.0.0.1:0 -> 127.0.0.1:{port}\n")
        done = run(
            iperf3, "-c", "127.0.0.1", "-p", str(forwarder.port("bulk")), "-t", "1", "-P", "2", "-J", *options
        )
        end = json.loads(done.stdout)["end"]
        self.assertGreater(end["sum_received"]["bytes"], 1_000_000)
        lines = forwarder.access_lines(3)
        moved = sum(line.to_upstream + line.to_client for line in lines)
        self.assertGreater(moved, end["sum_received"]["bytes"])

    def test_upload(self) -> None:
        """Client to server."""
        self.measure()

    def test_download(self) -> None:
        """Server to client."""
        self.measure("-R")
