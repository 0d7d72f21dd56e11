"""Redis, through portfwd: small questions and answers, many at once."""

from __future__ import annotations

from tests.integration.case import ForwarderCase
from tests.integration.programs import needs, run
from tests.integration.servers import start_redis


class RedisTests(ForwarderCase):
    """A server on a unix socket, clients over TCP."""

    def setUp(self) -> None:
        """A server with no port of its own, and a rule that leads to its socket."""
        super().setUp()
        socket = start_redis(self)
        self.through = self.forwarder(f"db: 127.0.0.1:0 -> unix:{socket}\n")
        self.port = str(self.through.port("db"))

    def test_commands(self) -> None:
        """What was set can be read, a large value too."""
        client = [needs("redis-cli"), "-h", "127.0.0.1", "-p", self.port]
        self.assertEqual(run(*client, "SET", "a", "1").stdout, b"OK\n")
        value = b"v" * 3_000_000
        self.assertEqual(run(*client, "-x", "SET", "big", data=value).stdout, b"OK\n")
        self.assertEqual(run(*client, "GET", "big").stdout.rstrip(b"\n"), value)
        for line in self.through.access_lines(3):
            self.assertEqual(line.reason, "--")

    def test_many_clients(self) -> None:
        """Fifty clients with pipelined requests all get their answers."""
        done = run(
            needs("redis-benchmark"), "-h", "127.0.0.1", "-p", self.port,
            "-c", "50", "-n", "5000", "-P", "4", "-t", "set,get", "-q",
        )  # fmt: skip
        self.assertIn(b"SET:", done.stdout)
        self.assertIn(b"GET:", done.stdout)
        self.assertNotIn(b"Error", done.stdout + done.stderr)
