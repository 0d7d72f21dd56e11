"""socat, through portfwd: half-close as a shell pipeline uses it."""

from __future__ import annotations

from tests.integration.case import ForwarderCase
from tests.integration.programs import Program, needs, run
from tests.ports import free_port


class SocatTests(ForwarderCase):
    """A server that answers only when it has read to the end."""

    def setUp(self) -> None:
        """``wc -c`` as a service."""
        super().setUp()
        self.socat = needs("socat")
        port = free_port()
        server = Program(
            [self.socat, "-t", "10", f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr", "EXEC:wc -c"],
            self.directory / "socat.log",
        )
        self.addCleanup(server.clean_up)
        server.wait_for_port(port)
        unix = self.directory / "in.sock"
        self.through = self.forwarder(
            f"tcp: 127.0.0.1:0 -> 127.0.0.1:{port}\nunix: unix:{unix} -> 127.0.0.1:{port}\n"
        )
        self.unix = unix

    def count(self, address: str) -> None:
        """Send 5 MB and end; the count comes back although our direction is closed."""
        done = run(self.socat, "-t", "10", "-", address, data=bytes(5_000_000))
        self.assertEqual(done.stdout.strip(), b"5000000")
        (line,) = self.through.access_lines(1)
        self.assertEqual((line.reason, line.ended_first), ("--", "client"))
        self.assertEqual(line.to_upstream, 5_000_000)

    def test_half_close_over_tcp(self) -> None:
        """Over TCP."""
        self.count(f"TCP:127.0.0.1:{self.through.port('tcp')}")

    def test_half_close_over_unix(self) -> None:
        """Over a unix socket."""
        self.count(f"UNIX-CONNECT:{self.unix}")
