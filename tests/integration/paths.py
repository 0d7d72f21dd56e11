"""
Every way through a forwarder to one server: each relay, a filter that sees every byte, TLS on both sides.

A test of a real program runs the same client over all of them. The outcome is that of a direct connection.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.integration.case import ForwarderCase
from tests.integration.forwarder import Forwarder
from tests.integration.servers import write_certificates
from tests.ports import free_port

#: The rules that a client may connect to. ``tls`` leads through a second rule, which terminates TLS.
PATHS = ("auto", "pair", "copy", "splice", "filter", "tls")


class PathsCase(ForwarderCase):
    """A test that runs one client over every path."""

    def start_paths(self, port: int, options: str = "") -> Forwarder:
        """
        A forwarder with a rule for each of `PATHS`, all of which lead to `port` on 127.0.0.1.

        :param options: of each rule that leads to `port` directly, behind its target.
        """
        write_certificates(self, "localhost")
        pem = self.directory / "localhost.pem"
        tls_port = free_port()
        target = f"127.0.0.1:{port}"
        return self.forwarder(
            f"auto: 127.0.0.1:0 -> {target} {options}\n"
            f"pair: 127.0.0.1:0 -> {target} relay=pair {options}\n"
            f"copy: 127.0.0.1:0 -> {target} relay=copy {options}\n"
            f"splice: 127.0.0.1:0 -> {target} relay=splice {options}\n"
            f"filter: 127.0.0.1:0 -> {target} {options}\n"
            "    filter python:tests.filters.passing.PassThrough\n"
            f"inner: tls:127.0.0.1:{tls_port} cert={pem} key={pem} -> {target} {options}\n"
            f"tls: 127.0.0.1:0 -> tls:localhost:{tls_port} ca={self.directory / 'ca.pem'}\n"
        )

    def each_path(self, forwarder: Forwarder) -> Iterator[tuple[str, int]]:
        """The name and the port of each path."""
        for name in PATHS:
            yield name, forwarder.port(name)

    def assert_orderly(self, forwarder: Forwarder, sessions: int = 1) -> None:
        """Every session of every path has ended in order; the path with TLS has two for each client."""
        lines = forwarder.access_lines(sessions * (len(PATHS) + 1))
        self.assertEqual({(line.rule, line.reason) for line in lines}, {(r, "--") for r in (*PATHS, "inner")})
