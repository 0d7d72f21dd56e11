"""The recipes of the documentation before real servers: MariaDB, dnsmasq, nginx and aiosmtpd."""

from __future__ import annotations

import shutil
import smtplib
import socket
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from twisted.trial import unittest

from portfwd.testing.running import RunningForwarder
from tests.integration.case import ForwarderCase, needs_deep
from tests.integration.forwarder import TIMEOUT, is_listening, wait_until
from tests.integration.programs import Program, needs, run
from tests.integration.servers import start_dnsmasq, start_nginx, start_smtp
from tests.ports import free_port

LISTINGS = [str(Path(__file__).resolve().parents[2] / "docs" / "listings")]

NGINX_SERVERS = """
    server {{
        listen 127.0.0.1:{port};
        location /yes/ {{ }}
        location /no/ {{ return 403 "not you\\n"; }}
        location / {{ return 200 "this is {name}\\n"; }}
    }}
"""


#: Asks for each URL with a connection of its own.
TREQ = """
import sys
import treq
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

async def ask(reactor):
    for url in sys.argv[1:]:
        response = await treq.get(url, reactor=reactor, persistent=False, timeout=20)
        print(await response.text(), end="")

react(lambda reactor: ensureDeferred(ask(reactor)))
"""


class RecipesTests(ForwarderCase):
    """One recipe each, before the server that it is for."""

    def start(self, rules: str) -> RunningForwarder:
        """A forwarder that finds the recipes, ended after the test."""
        forwarder = RunningForwarder(rules, LISTINGS)
        forwarder.__enter__()
        self.addCleanup(forwarder.stop)
        return forwarder

    def start_web(self, *names: str) -> list[int]:
        """Servers of one nginx; each says its name."""
        ports = [free_port() for _ in names]
        servers = [
            NGINX_SERVERS.format(port=port, name=name) for port, name in zip(ports, names, strict=True)
        ]
        folder = start_nginx(self, ports, "".join(servers)) / "yes"
        folder.mkdir()
        (folder / "127.0.0.1").write_bytes(b"come in\n" * 100_000)
        return ports

    def curl(self, forwarder: RunningForwarder, path: str, rule: str = "web") -> str:
        """What curl prints."""
        host, port = forwarder.addresses[rule]
        done = run(needs("curl"), "-s", "-m", "10", f"http://{host}:{port}{path}", check=False)
        return done.stdout.decode()

    def test_authorise(self) -> None:
        """A web server says who comes in; its answers have bodies, and leave no connection behind."""
        (port,) = self.start_web("web")
        clause = "filter python:recipe_authorise.PLUGIN keep=0s url=http://127.0.0.1"
        forwarder = self.start(
            f"web: 127.0.0.1:0 -> 127.0.0.1:{port}\n    {clause}:{port}/yes/\n"
            f"shut: 127.0.0.1:0 -> 127.0.0.1:{port}\n    {clause}:{port}/no/"
        )
        for _ in range(20):
            self.assertEqual(self.curl(forwarder, "/"), "this is web\n")
        self.assertEqual(self.curl(forwarder, "/", "shut"), "")
        (last,) = (one for one in forwarder.wait_for_sessions(21) if one["rule"] == "shut")
        self.assertIn("not authorised", last["detail"])

        def open_connections() -> list[str]:
            found = run(needs("ss"), "-Htn", "state", "established", f"( dport = :{port} )")
            return found.stdout.decode().splitlines()

        wait_until(lambda: not open_connections(), TIMEOUT, lambda: "\n".join(open_connections()))

    def test_first_line(self) -> None:
        """The request line chooses the server."""
        web, api = self.start_web("web", "api")
        forwarder = self.start(
            f"web: 127.0.0.1:0 -> 127.0.0.1:{web}\n    filter python:recipe_first_line.FirstLine\n"
            f'    route "GET /api*" -> 127.0.0.1:{api}\n    route "GET /secret*" -> close'
        )
        answers = [self.curl(forwarder, path) for path in ("/", "/api/x", "/secret")]
        self.assertEqual(answers, ["this is web\n", "this is api\n", ""])

    def test_treq(self) -> None:
        """Requests of treq choose their server by the first line of each."""
        if find_spec("treq") is None:
            raise unittest.SkipTest("needs treq")
        web, api = self.start_web("web", "api")
        forwarder = self.start(
            f"web: 127.0.0.1:0 -> 127.0.0.1:{web}\n    filter python:recipe_first_line.FirstLine\n"
            f'    route "GET /api*" -> 127.0.0.1:{api}'
        )
        host, port = forwarder.addresses["web"]
        script = self.directory / "ask.py"
        script.write_text(TREQ)
        done = run(sys.executable, str(script), f"http://{host}:{port}/", f"http://{host}:{port}/api/x")
        self.assertEqual(done.stdout, b"this is web\nthis is api\n")

    def test_mail(self) -> None:
        """A client of SMTP sees another banner; the lines that it sends are counted."""
        mails: list[tuple[str, bytes]] = []
        forwarder = self.start(
            f"mail: 127.0.0.1:0 -> 127.0.0.1:{start_smtp(self, mails)}\n"
            '    filter python:recipe_banner.Banner banner="220 mail.example ESMTP"\n'
            "    filter python:counting.PLUGIN"
        )
        with smtplib.SMTP(timeout=10) as client:
            banner = client.connect(*forwarder.addresses["mail"])
            client.sendmail("a@example", ["b@example"], b"Subject: hello\r\n\r\nline\r\n")
        self.assertEqual(banner, (220, b"mail.example ESMTP"))
        self.assertEqual(len(mails), 1)
        (session,) = forwarder.wait_for_sessions(1)
        # EHLO, MAIL, RCPT, DATA, three lines and the dot, QUIT.
        self.assertEqual(session["notes"], {"commands": 9})

    def test_dnsmasq(self) -> None:
        """A health check is answered in the place of a name server, which answers all else."""
        port = free_port()
        start_dnsmasq(self, port, "--host-record=example.com,192.0.2.33")
        forwarder = self.start(
            f"dns: 127.0.0.1:0/udp -> 127.0.0.1:{port}/udp\n    filter python:recipe_datagrams.Pong"
        )
        host, number = forwarder.addresses["dns"]
        asked = f"+short +notcp @{host} -p {number} example.com".split()
        self.assertEqual(run(needs("dig"), *asked).stdout, b"192.0.2.33\n")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10.0)
            client.sendto(b"PING", (host, number))
            self.assertEqual(client.recv(100), b"PONG")

    def test_mariadb(self) -> None:
        """A database is reached through an HTTP proxy, by who may come in."""
        needs_deep()
        port = self.start_mariadb()
        (web,) = self.start_web("web")
        proxy = free_port()
        forwarder = self.start(
            f"proxy: 127.0.0.1:{proxy} -> 127.0.0.1:1\n    filter http-connect allow=127.0.0.0/8\n"
            f"db: 127.0.0.1:0 -> 127.0.0.1:{proxy}\n"
            f"    filter python:recipe_authorise.PLUGIN url=http://127.0.0.1:{web}/yes/\n"
            f"    filter python:recipe_connect.Connect host=127.0.0.1 port={port}"
        )
        host, number = forwarder.addresses["db"]
        client = shutil.which("mariadb")
        assert client is not None
        where = ["--no-defaults", "-h", host, "-P", str(number), "-u", "tester", "--skip-ssl", "-N", "-e"]
        self.assertEqual(run(client, *where, "select @@port").stdout.decode().strip(), str(port))
        sql = "select length(repeat('x', 3000000)); select repeat('y', 3000000)"
        answer = run(client, *where, sql).stdout
        self.assertEqual(answer, b"3000000\n" + b"y" * 3_000_000 + b"\n")

    def start_mariadb(self) -> int:
        """A MariaDB whose user ``tester`` needs no password; its port."""
        server, install = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
        if server is None or install is None or shutil.which("mariadb") is None:
            raise unittest.SkipTest("mariadb-server is not installed")
        data = self.directory / "mariadb"
        common = ["--no-defaults", f"--datadir={data}", "--user=root"]
        run(install, *common, "--auth-root-authentication-method=normal", "--skip-test-db")
        setup = self.directory / "setup.sql"
        setup.write_text("create user tester@'127.0.0.1';\ngrant all on *.* to tester@'127.0.0.1';\n")
        port = free_port()
        program = Program(
            [
                server,
                *common,
                f"--port={port}",
                "--bind-address=127.0.0.1",
                f"--socket={self.directory}/mariadb.sock",
                f"--pid-file={self.directory}/mariadb.pid",
                f"--init-file={setup}",
                "--skip-name-resolve",
                "--max-allowed-packet=16M",
            ],
            self.directory / "mariadb.log",
        )
        self.addCleanup(program.clean_up)
        program.wait_until(partial(is_listening, port), f"port {port}")
        return port
