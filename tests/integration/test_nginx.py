"""curl against nginx, through portfwd."""

from __future__ import annotations

import hashlib

from portfwd.testing.data import Pattern
from tests.integration.case import ForwarderCase
from tests.integration.forwarder import Forwarder
from tests.integration.programs import Program, needs, run
from tests.ports import free_port

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        root {directory}/www;
        location /connection {{ return 200 "$connection $connection_requests\\n"; }}
        location /upload {{
            dav_methods PUT;
            root {directory}/put;
        }}
    }}
}}
"""
#: 100 MB, as a browser would count them.
BODY = 100_000_000


class NginxTests(ForwarderCase):
    """HTTP as programs speak it."""

    def setUp(self) -> None:
        """A web server with one large file, and a rule that leads to it."""
        super().setUp()
        self.curl = needs("curl")
        nginx = needs("nginx")
        self.port = free_port()
        for name in ("www", "put/upload"):
            (self.directory / name).mkdir(parents=True)
        # Its worker may run as another user.
        self.directory.chmod(0o755)
        (self.directory / "put/upload").chmod(0o777)
        configuration = self.directory / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(directory=self.directory, port=self.port))
        (self.directory / "www/small").write_text("hello\n")
        server = Program(
            [nginx, "-p", str(self.directory), "-c", str(configuration)], self.directory / "nginx.log"
        )
        self.addCleanup(server.clean_up)
        server.wait_for_port(self.port)
        self.through: Forwarder = self.forwarder(f"web: 127.0.0.1:0 -> 127.0.0.1:{self.port}\n")
        self.url = f"http://127.0.0.1:{self.through.port('web')}"

    def test_keep_alive(self) -> None:
        """Three requests share one connection, on both sides of the forwarder."""
        page = f"{self.url}/connection"
        done = run(self.curl, "-sS", "--fail", page, page, page)
        numbers = [line.split() for line in done.stdout.decode().splitlines()]
        self.assertEqual(len({connection for connection, _ in numbers}), 1)
        self.assertEqual([count for _, count in numbers], ["1", "2", "3"])
        (line,) = self.through.access_lines(1)
        self.assertEqual(line.reason, "--")

    def test_large_body(self) -> None:
        """100 MB arrive with the hash they were sent with."""
        body = Pattern(7).slice(0, BODY)
        (self.directory / "www/large").write_bytes(body)
        got = self.directory / "got"
        run(self.curl, "-sS", "--fail", "-o", str(got), f"{self.url}/large")
        self.assertEqual(hashlib.sha256(got.read_bytes()).hexdigest(), hashlib.sha256(body).hexdigest())
        (line,) = self.through.access_lines(1)
        self.assertEqual(line.reason, "--")
        self.assertGreater(line.to_client, BODY)

    def test_http_1_0(self) -> None:
        """The server ends the connection to end the answer; the end arrives after the last byte."""
        done = run(self.curl, "-sS", "--fail", "--http1.0", f"{self.url}/small")
        self.assertEqual(done.stdout, b"hello\n")
        (line,) = self.through.access_lines(1)
        self.assertEqual((line.reason, line.ended_first), ("--", "upstream"))

    def test_refused_upload(self) -> None:
        """The server answers 405 and closes while curl still uploads: curl sees the answer."""
        body = self.directory / "upload"
        body.write_bytes(bytes(20_000_000))
        done = run(
            self.curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect:", "-T", str(body),
            f"{self.url}/small", check=False,
        )  # fmt: skip
        self.assertEqual(done.stdout, b"405", done.stderr)

    def test_many_at_once(self) -> None:
        """Fifty parallel transfers are fifty sessions."""
        pages = [f"{self.url}/small"] * 50
        done = run(
            self.curl, "-sS", "--fail", "--no-keepalive", "-H", "Connection: close",
            "--parallel", "--parallel-max", "50", *pages,
        )  # fmt: skip
        self.assertEqual(done.stdout.count(b"hello\n"), 50)
        for line in self.through.access_lines(50):
            self.assertEqual(line.reason, "--")
