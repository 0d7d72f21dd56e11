"""psql against a PostgreSQL server, through portfwd."""

from __future__ import annotations

from tests.integration.case import ForwarderCase
from tests.integration.programs import needs, run
from tests.integration.servers import start_postgresql


class PostgreSQLTests(ForwarderCase):
    """A database session, its cancel request on a second connection, and bulk."""

    def setUp(self) -> None:
        """A cluster of its own, and a rule that leads to it."""
        super().setUp()
        self.psql = needs("psql")
        port = start_postgresql(self)
        self.through = self.forwarder(f"db: 127.0.0.1:0 -> 127.0.0.1:{port}\n")
        self.url = f"postgresql://tester@127.0.0.1:{self.through.port('db')}/postgres"

    def test_query(self) -> None:
        """Statements and their results, written and read back."""
        done = run(
            self.psql, "-XAtq", "-v", "ON_ERROR_STOP=1", self.url,
            "-c", "create table t as select generate_series(1, 100000) as n",
            "-c", "select sum(n), count(*) from t",
        )  # fmt: skip
        self.assertEqual(done.stdout, b"5000050000|100000\n")
        (line,) = self.through.access_lines(1)
        self.assertEqual(line.reason, "--")

    def test_copy_out_and_in(self) -> None:
        """Bulk in both directions of the protocol."""
        rows = b"".join(b"%d\trow %d\n" % (n, n) for n in range(200_000))
        run(self.psql, "-Xq", self.url, "-c", "create table u (n int, t text)")
        run(self.psql, "-Xq", self.url, "-c", "copy u from stdin", data=rows)
        done = run(self.psql, "-Xq", self.url, "-c", "copy (select * from u order by n) to stdout")
        self.assertEqual(done.stdout, rows)
        for line in self.through.access_lines(3):
            self.assertEqual(line.reason, "--")
