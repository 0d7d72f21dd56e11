"""One port for many servers: ``sni``, ``http-host`` and ``sniff``, spoken to by curl, OpenSSL and OpenSSH."""

from __future__ import annotations

import hashlib
import re
import socket

from portfwd.testing.data import Pattern
from tests.integration.filter_case import LARGE, TLS_ENDS, Fetched, FilterCase
from tests.integration.forwarder import ROOT, Forwarder
from tests.integration.programs import needs, run
from tests.integration.servers import start_nginx, start_redis, start_sshd, write_certificates
from tests.ports import free_port

SECURE = """
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {directory}/{name}.pem;
        ssl_certificate_key {directory}/{name}.pem;
        location = / {{ return 200 "{name}\\n"; }}
    }}
"""
PLAIN = """
    server {{
        listen 127.0.0.1:{port};
        location = / {{ return 200 "{name} $connection_requests\\n"; }}
    }}
"""


class SNICase(FilterCase):
    """Two servers with TLS behind one port."""

    def setUp(self) -> None:
        """A server for each name, rules to them, and one that cuts what clients send into slow pieces."""
        super().setUp()
        ports = [free_port(), free_port()]
        names = ("one.example", "two.example")
        write_certificates(self, *names)
        start_nginx(
            self,
            ports,
            "".join(
                SECURE.format(port=port, name=name, directory=self.directory)
                for port, name in zip(ports, names, strict=True)
            ),
        )
        one, two = (f"127.0.0.1:{port}" for port in ports)
        inner = f"unix:{self.directory}/inner.sock"
        routes = (f"route two.example *.two.example -> {two}", "route closed.* -> close")
        self.through: Forwarder = self.forwarder(
            self.rule("tls", one, "filter sni", *routes)
            + self.rule("kind", one, "filter sni otherwise=pass", *routes)
            + self.rule("protocols", one, "filter sni", f"route alpn:h2 -> {two}")
            + self.rule("inner", one, "filter sni timeout=30s", *routes, listen=inner)
            + self.rule("slow", inner, "filter faults slicer size=40 delay=2ms direction=up")
        )

    def get(self, name: str, *arguments: str, rule: str = "tls", page: str = "") -> Fetched:
        """What curl gets when it asks for `name`."""
        return self.fetch(
            f"https://{name}/{page}", "--connect-to", f"{name}:443:127.0.0.1:{self.through.port(rule)}",
            "--cacert", str(self.directory / "ca.pem"), *arguments,
        )  # fmt: skip

    def s_client(self, *arguments: str, rule: str = "tls") -> str:
        """All that ``openssl s_client`` says."""
        done = run(
            needs("openssl"), "s_client", "-connect", f"127.0.0.1:{self.through.port(rule)}", *arguments,
            check=False,
        )  # fmt: skip
        return (done.stdout + done.stderr).decode(errors="replace")

    def server_of(self, said: str) -> str:
        """The name on the certificate that ``s_client`` was shown."""
        found = re.search(r"^subject=.*CN ?= ?(\S+)$", said, re.MULTILINE)
        self.assertIsNotNone(found, said)
        return "" if found is None else found[1]


class SNITests(SNICase):
    """Connections that are brought to their server."""

    def test_names(self) -> None:
        """Each name leads to its server, whose certificate is the right one."""
        for name in ("one.example", "TWO.example"):
            got = self.get(name)
            self.assertEqual(got.body.decode(), f"{name.lower()}\n", got.facts["errormsg"])
            self.expect(*TLS_ENDS)
        got = self.get("any.two.example", "--insecure")
        self.assertEqual(got.body, b"two.example\n")
        self.expect(*TLS_ENDS)
        for line in self.closing_lines(self.through):
            self.assertGreater(line.to_upstream, got.facts["size_request"])

    def test_slow_and_large(self) -> None:
        """A ClientHello in many small pieces, or in several records, is put together."""
        got = self.get("two.example", rule="slow")
        self.assertEqual(got.body, b"two.example\n", got.facts["errormsg"])
        protocols = ",".join(f"protocol-number-{number}" for number in range(100))
        said = self.s_client(
            "-alpn", f"{protocols},h2", "-servername", "two.example", "-max_send_frag", "512", rule="slow"
        )
        self.assertEqual(self.server_of(said), "two.example")
        self.assertIn("ALPN protocol: h2", said)
        for _ in range(4):  # each passes two rules
            self.expect(*TLS_ENDS)
        lines = self.closing_lines(self.through)
        self.assertEqual([line.rule for line in lines], ["slow", "inner"] * 2)
        self.assertGreater(lines[3].raw["to_upstream"]["reads"], 20)

    def test_bulk(self) -> None:
        """Behind the name it is a connection as any other."""
        expected = self.write_large()
        bodies = []
        for version in ("--http2", "--http1.1"):
            bodies.append(self.get("two.example", version, page="large").body)
            self.expect(*TLS_ENDS)
        for line, body in zip(self.closing_lines(self.through), bodies, strict=True):
            self.assertGreater(line.to_client, LARGE)
            self.assert_bulk(line, body, expected)


class SNIPairTests(SNITests):
    """The same over the pair."""

    relay_option = "pair"


class SNIRefusalTests(SNICase):
    """Who asks for nothing that there is, and protocols instead of names."""

    def test_protocols(self) -> None:
        """A protocol that a line names chooses, also for who asks for no name."""
        for arguments, server in (
            (("-alpn", "h2", "-servername", "one.example"), "two.example"),
            (("-alpn", "x,h2", "-noservername"), "two.example"),
            (("-alpn", "http/1.1", "-servername", "one.example"), "one.example"),
        ):
            self.assertEqual(self.server_of(self.s_client(*arguments, rule="protocols")), server)
            self.expect(*TLS_ENDS)
        said = self.s_client("-alpn", "http/1.1", "-noservername", rule="protocols")
        self.assertIn("unrecognized name", said)
        self.expect_refused("FD", "without a server name")
        self.closing_lines(self.through)

    def test_no_name(self) -> None:
        """Who asks for nothing, or what a line closes, is told so by an alert; or goes to the rule's own."""
        self.assertIn("unrecognized name", self.s_client("-noservername"))
        self.expect_refused("FD", "without a server name")
        self.assertIn("unrecognized name", self.s_client("-servername", "closed.example"))
        self.expect_refused("FD", "a route says close")
        self.assertNotEqual(self.fetch(f"http://127.0.0.1:{self.through.port('tls')}/").facts["exitcode"], 0)
        self.expect_refused("FD", "TLS")
        self.assertEqual(self.server_of(self.s_client("-noservername", rule="kind")), "one.example")
        self.expect(*TLS_ENDS)
        got = self.fetch(f"http://127.0.0.1:{self.through.port('kind')}/")
        self.assertEqual(got.facts["http_code"], 400, "the server itself says that this is not TLS")
        self.expect(fetched=got)
        self.closing_lines(self.through)


class HTTPHostTests(FilterCase):
    """Two web servers behind one port."""

    def setUp(self) -> None:
        """A server for each name, and a rule for both."""
        super().setUp()
        ports = [free_port(), free_port()]
        names = ("one.example", "two.example")
        start_nginx(
            self,
            ports,
            "".join(PLAIN.format(port=port, name=name) for port, name in zip(ports, names, strict=True)),
        )
        one, two = (f"127.0.0.1:{port}" for port in ports)
        clauses = (
            f"target second={two}", "route two.example *.two.example -> second", "route closed.* -> close",
        )  # fmt: skip
        self.through: Forwarder = self.forwarder(
            self.rule("web", one, "filter http-host", *clauses)
            + self.rule("kind", one, "filter http-host otherwise=pass", *clauses)
        )
        self.url = f"http://127.0.0.1:{self.through.port('web')}/"

    def test_hosts(self) -> None:
        """The host of the first request leads to its server, and all behind it follows."""
        expected = self.write_large()
        for host, server in (("one.example", "one"), ("Two.Example:8080", "two"), ("a.b.two.example", "two")):
            got = self.fetch(self.url, "-H", f"Host: {host}")
            self.assertEqual(got.body.decode(), f"{server}.example 1\n")
            self.expect(fetched=got)
        done = run(
            needs("curl"), "-sS", "-H", "Host: two.example", self.url,
            "--next", "-sS", "-H", "Host: one.example", self.url,
        )  # fmt: skip
        self.assertEqual(done.stdout, b"two.example 1\ntwo.example 2\n")
        self.expect()
        # As of a proxy: the name is in the request's target too.
        got = self.fetch("http://two.example/", "-x", self.url, "-H", "Proxy-Connection:")
        self.assertEqual(got.body, b"two.example 1\n")
        self.expect(fetched=got)
        large = self.fetch(f"{self.url}large", "-H", "Host: two.example")
        self.expect(fetched=large)
        self.assert_bulk(self.closing_lines(self.through)[-1], large.body, expected)

    def test_refused(self) -> None:
        """No host is 400, a host that a line closes 421, a head without end 431."""
        for arguments, status, why in (
            (("--http1.0", "-H", "Host:"), 400, "without a host"),
            (("-H", "Host: closed.example"), 421, "a route says close"),
            (("-H", f"X-Long: {'x' * 70_000}"), 431, ""),
        ):
            got = self.fetch(self.url, *arguments)
            self.assertEqual((got.facts["http_code"], got.facts["exitcode"]), (status, 0))
            self.expect_refused("FD", why)
        got = self.fetch(f"http://127.0.0.1:{self.through.port('kind')}/", "--http1.0", "-H", "Host:")
        self.assertEqual(got.body, b"one.example 1\n")
        self.expect(fetched=got)
        self.closing_lines(self.through)

    def test_upload(self) -> None:
        """A body that comes with the head arrives whole, though it came before the upstream was dialled."""
        body = self.directory / "sent"
        body.write_bytes(Pattern(3).slice(0, 900_000))
        got = self.fetch(self.url, "-H", "Host: two.example", "--data-binary", f"@{body}", "-H", "Expect:")
        self.assertEqual(got.body, b"two.example 1\n", got.facts["errormsg"])
        self.expect()
        (line,) = self.closing_lines(self.through)
        self.assertEqual(line.to_upstream, got.request_size)


class HTTPHostPairTests(HTTPHostTests):
    """The same over the pair."""

    relay_option = "pair"


class SniffTests(FilterCase):
    """SSH, HTTPS, HTTP and redis on one port."""

    # With relay=auto bulk is spliced, and it depends on the speed of sshd whether there is bulk.
    relay_option = "splice"

    def setUp(self) -> None:
        """A server of each kind, and one rule."""
        super().setUp()
        self.ssh_port, self.ssh_options = start_sshd(self)
        secure, plain = free_port(), free_port()
        write_certificates(self, "one.example")
        start_nginx(
            self,
            [secure, plain],
            SECURE.format(port=secure, name="one.example", directory=self.directory)
            + PLAIN.format(port=plain, name="plain"),
        )
        redis = start_redis(self)
        self.through: Forwarder = self.forwarder(
            self.rule(
                "all",
                f"127.0.0.1:{self.ssh_port}",
                "filter sniff timeout=300ms",
                f"target redis=unix:{redis}",
                f"route tls -> 127.0.0.1:{secure}",
                f"route http -> 127.0.0.1:{plain}",
                "route unknown -> redis",
            )
        )
        self.port = self.through.port("all")

    def test_each_protocol(self) -> None:
        """What a client says first leads to who understands it, and silence to a server that speaks first."""
        done = run(
            needs("ssh"), *self.ssh_options, "-p", str(self.port), "127.0.0.1", "cat; exit 7",
            data=b"from here\n", check=False,
        )  # fmt: skip
        self.assertEqual((done.stdout, done.returncode), (b"from here\n", 7), done.stderr)
        self.expect()
        got = self.fetch(
            "https://one.example/", "--connect-to", f"one.example:443:127.0.0.1:{self.port}",
            "--cacert", str(self.directory / "ca.pem"),
        )  # fmt: skip
        self.assertEqual(got.body, b"one.example\n", got.facts["errormsg"])
        self.expect(*TLS_ENDS)
        got = self.fetch(f"http://127.0.0.1:{self.port}/")
        self.assertEqual(got.body, b"plain 1\n")
        self.expect(fetched=got)
        self.assertEqual(run(needs("redis-cli"), "-p", str(self.port), "PING").stdout, b"PONG\n")
        self.expect()
        # Who says nothing waits for the server, and is brought to the rule's own when the time is up.
        with socket.create_connection(("127.0.0.1", self.port), 30) as client:
            self.assertTrue(client.recv(4).startswith(b"SSH"))
        # sshd ends a client that leaves without a word, or resets it.
        self.expect("--", "CD", "SD", "CH", "SH")
        silent = self.closing_lines(self.through)[-1]
        self.assertGreater(silent.raw["duration"], 0.29)

    def test_bulk(self) -> None:
        """A file over SSH has the hash it should have, and is moved in the kernel."""
        data = Pattern(5).slice(0, LARGE)
        (self.directory / "file").write_bytes(data)
        there = f"127.0.0.1:{self.directory}/file"
        run(needs("scp"), *self.ssh_options, "-q", "-P", str(self.port), there, str(self.directory / "copy"))
        self.expect()
        (line,) = self.closing_lines(self.through)
        copy = (self.directory / "copy").read_bytes()
        self.assert_bulk(line, copy, hashlib.sha256(data).hexdigest())


class SniffPairTests(SniffTests):
    """The same over the pair."""

    relay_option = "pair"


class OnePortTests(FilterCase):
    """The example with two rules, one behind the other."""

    def test_example(self) -> None:
        """Protocols are told apart by one rule and names by the next; what has no way is closed."""
        ssh_port, ssh_options = start_sshd(self)
        plain, own, git, front = (free_port() for _ in range(4))
        secure = {"www.example.com": own, "git.example.com": git}
        write_certificates(self, *secure)
        start_nginx(
            self,
            [plain, *secure.values()],
            PLAIN.format(port=plain, name="plain")
            + "".join(SECURE.format(port=secure[n], name=n, directory=self.directory) for n in secure),
        )
        rules = (ROOT / "examples" / "one-port.conf").read_text()
        for written, here in (
            (" :443 ", f" 127.0.0.1:{front} "),
            (":22\n", f":{ssh_port}\n"),
            (":8080\n", f":{plain}\n"),
            (":8443\n", f":{own}\n"),
            (":8444\n", f":{git}\n"),
            ("/run/portfwd/", f"{self.directory}/"),
        ):
            self.assertIn(written, rules)
            rules = rules.replace(written, here)
        through = self.forwarder(rules)
        for name in secure:
            got = self.fetch(
                f"https://{name}/", "--connect-to", f"{name}:443:127.0.0.1:{front}",
                "--cacert", str(self.directory / "ca.pem"),
            )  # fmt: skip
            self.assertEqual(got.body.decode(), f"{name}\n", got.facts["errormsg"])
            for _ in range(2):
                self.expect(*TLS_ENDS)
        self.assertEqual(self.fetch(f"http://127.0.0.1:{front}/").body, b"plain 1\n")
        self.expect()
        said = run(needs("ssh"), *ssh_options, "-p", str(front), "127.0.0.1", "echo in").stdout
        self.assertEqual(said, b"in\n")
        self.expect()
        got = self.fetch("https://other.example/", "--connect-to", f"other.example:443:127.0.0.1:{front}")
        self.assertNotEqual(got.facts["exitcode"], 0)
        self.expect(*TLS_ENDS, "SR")
        self.expect_refused("FD", "a route says close")
        with socket.create_connection(("127.0.0.1", front), 20) as client:
            client.sendall(b"PING\r\n")
            self.assertEqual(client.recv(100), b"")
        self.expect_refused("FD", "a route says close")
        self.closing_lines(through)
