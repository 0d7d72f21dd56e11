"""curl through ``socks5`` and ``http-connect``: in, out, refused, and told why."""

from __future__ import annotations

import socket

from portfwd.filters.builtin.users import hash_password
from tests.integration.filter_case import TLS_ENDS, Fetched, FilterCase
from tests.integration.forwarder import Forwarder
from tests.integration.servers import start_nginx, write_certificates
from tests.ports import free_port

SERVERS = """
    server {{
        listen 127.0.0.1:{web};
        location = / {{ return 200 "hello\\n"; }}
    }}
    server {{
        listen 127.0.0.1:{secure} ssl;
        ssl_certificate {directory}/localhost.pem;
        ssl_certificate_key {directory}/localhost.pem;
        location = / {{ return 200 "secret\\n"; }}
    }}
"""
PASSWORD = "correct horse:battery"


class TunnelCase(FilterCase):
    """A rule for everybody, one with a password, and one that says nothing of destinations."""

    #: The filter.
    name = ""

    def setUp(self) -> None:
        """Web servers on the loopback, which only two of the rules allow."""
        super().setUp()
        self.web, self.secure, self.nobody = free_port(), free_port(), free_port()
        write_certificates(self, "localhost")
        start_nginx(
            self,
            [self.web, self.secure],
            SERVERS.format(web=self.web, secure=self.secure, directory=self.directory),
        )
        users = self.directory / "users"
        users.write_text(hash_password("alice", PASSWORD, b"saltsaltsaltsalt", 1000) + "\n")
        own = f"127.0.0.1:{self.nobody}"
        allow = "allow=127.0.0.0/8,::1"
        self.through: Forwarder = self.forwarder(
            self.rule("open", f"{own} connect-timeout=400ms", f"filter {self.name} {allow}")
            + self.rule("users", own, f"filter {self.name} {allow} users={users}")
            + self.rule("away", own, f"filter {self.name}")
        )
        self.page = f"http://127.0.0.1:{self.web}/"

    def silent_port(self) -> int:
        """A port of the loopback that answers no more, because its queue is full."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.addCleanup(listener.close)
        for _ in range(2):
            waiting = socket.socket()
            waiting.setblocking(False)
            self.addCleanup(waiting.close)
            waiting.connect_ex(listener.getsockname())
        return int(listener.getsockname()[1])


class Socks5Tests(TunnelCase):
    """SOCKS 5."""

    name = "socks5"

    def through_proxy(self, rule: str, url: str, *arguments: str, way: str = "--socks5-hostname") -> Fetched:
        """What curl gets by way of `rule`."""
        return self.fetch(url, way, f"127.0.0.1:{self.through.port(rule)}", *arguments)

    def test_tunnels(self) -> None:
        """Names and addresses, TLS, and much: what is behind the answer is a connection as any other."""
        expected = self.write_large()
        fetched = [
            self.through_proxy("open", f"http://localhost:{self.web}/"),
            self.through_proxy("open", self.page, way="--socks5"),
            self.through_proxy("open", f"{self.page}large"),
        ]
        for got in fetched:
            self.assertEqual(got.facts["exitcode"], 0, got.facts["errormsg"])
            self.expect()
        secret = self.through_proxy(
            "open", f"https://localhost:{self.secure}/", "--cacert", str(self.directory / "ca.pem")
        )
        self.assertEqual(secret.body, b"secret\n", secret.facts["errormsg"])
        self.expect(*TLS_ENDS)
        lines = self.closing_lines(self.through)
        self.assertEqual([got.body for got in fetched[:2]], [b"hello\n"] * 2)
        for line, got in zip(lines, fetched, strict=False):
            # Of what the client said to us nothing goes on; what we said to it, 2 and 10 bytes, came to it.
            self.assertEqual(line.to_upstream, got.facts["size_request"])
            self.assertEqual(line.to_client, got.answer_size + 12)
            self.assertEqual(line.upstream, f"127.0.0.1:{self.web}")
        self.assert_bulk(lines[2], fetched[2].body, expected)

    def test_passwords(self) -> None:
        """With a file of users the right password opens; a wrong one and none do not."""
        got = self.through_proxy("users", self.page, "--proxy-user", f"alice:{PASSWORD}")
        self.assertEqual(got.body, b"hello\n", got.facts["errormsg"])
        self.expect()
        for arguments, why in (
            (("--proxy-user", "alice:wrong"), "a wrong SOCKS password"),
            (("--proxy-user", f"bob:{PASSWORD}"), "a wrong SOCKS password"),
            ((), "without a way to log in"),
        ):
            got = self.through_proxy("users", self.page, *arguments)
            self.assertEqual((got.body, got.facts["exitcode"]), (b"", 97), got.facts["errormsg"])
            self.expect_refused("FD", why)
        self.closing_lines(self.through)
        self.assertNotIn(PASSWORD, self.through.log)

    def test_refused(self) -> None:
        """The code says why: not permitted, refused, out of time."""
        for rule, url, code, reason in (
            ("away", self.page, 2, "FD"),
            ("away", f"http://localhost:{self.web}/", 2, "FD"),
            ("open", f"http://127.0.0.1:{self.nobody}/", 5, "SC"),
            ("open", f"http://127.0.0.1:{self.silent_port()}/", 4, "sC"),
        ):
            got = self.through_proxy(rule, url)
            self.assertIn(f"({code})", got.facts["errormsg"])
            self.expect_refused(reason)
        got = self.through_proxy("open", self.page, way="--socks4")
        self.assertEqual(got.facts["exitcode"], 97)
        self.expect_refused("FD")
        self.closing_lines(self.through)


class Socks5PairTests(Socks5Tests):
    """The same over the pair."""

    relay_option = "pair"


class HTTPConnectTests(TunnelCase):
    """HTTP's CONNECT."""

    name = "http-connect"

    def through_proxy(self, rule: str, url: str, *arguments: str) -> Fetched:
        """What curl gets by way of `rule`."""
        return self.fetch(url, "-x", f"http://127.0.0.1:{self.through.port(rule)}", *arguments)

    def test_tunnels(self) -> None:
        """Names and addresses, TLS, and much: what is behind the answer is a connection as any other."""
        expected = self.write_large()
        fetched = [
            self.through_proxy("open", f"http://localhost:{self.web}/", "--proxytunnel"),
            self.through_proxy("open", f"{self.page}large", "--proxytunnel"),
        ]
        for got in fetched:
            self.assertEqual((got.facts["http_connect"], got.facts["exitcode"]), (200, 0))
            self.expect()
        secret = self.through_proxy(
            "open", f"https://localhost:{self.secure}/", "--cacert", str(self.directory / "ca.pem")
        )
        self.assertEqual(secret.body, b"secret\n", secret.facts["errormsg"])
        self.expect(*TLS_ENDS)
        lines = self.closing_lines(self.through)
        for line, got in zip(lines, fetched, strict=False):
            # curl counts the answer to CONNECT too, which came to it. CONNECT went no further: curl 7.88
            # counts it, 8.14 does not.
            self.assertEqual(line.to_client, got.answer_size)
            self.assertTrue(0 < line.to_upstream <= got.facts["size_request"], str(line.raw))
        self.assertEqual(fetched[0].body, b"hello\n")
        self.assert_bulk(lines[1], fetched[1].body, expected)

    def test_passwords(self) -> None:
        """With a file of users the right password opens, also for who sends it only when asked (407)."""
        user = ("--proxytunnel", "--proxy-user", f"alice:{PASSWORD}")
        got = self.through_proxy("users", self.page, *user)
        self.assertEqual(got.body, b"hello\n", got.facts["errormsg"])
        self.expect()
        got = self.through_proxy("users", self.page, *user, "--proxy-anyauth")
        self.assertEqual(got.body, b"hello\n", got.facts["errormsg"])
        self.expect_refused("FD", "no password")
        self.expect()
        for arguments in (("--proxy-user", "alice:wrong"), ("--proxy-user", f"bob:{PASSWORD}"), ()):
            got = self.through_proxy("users", self.page, "--proxytunnel", *arguments)
            self.assertEqual((got.facts["http_connect"], got.body), (407, b""))
            self.expect_refused("FD", "password")
        self.closing_lines(self.through)
        self.assertNotIn(PASSWORD, self.through.log)

    def test_refused(self) -> None:
        """The status says why: not permitted, refused, out of time, no tunnel, no request."""
        tunnel = "--proxytunnel"
        for rule, url, status, reason in (
            ("away", self.page, 403, "FD"),
            ("away", f"http://localhost:{self.web}/", 403, "FD"),
            ("open", f"http://127.0.0.1:{self.nobody}/", 502, "SC"),
            ("open", f"http://127.0.0.1:{self.silent_port()}/", 504, "sC"),
        ):
            got = self.through_proxy(rule, url, tunnel)
            self.assertEqual(got.facts["http_connect"], status, got.facts["errormsg"])
            self.expect_refused(reason)
        got = self.through_proxy("open", self.page)
        self.assertEqual(got.facts["http_code"], 405)
        self.expect_refused("FD", "not CONNECT")
        got = self.through_proxy("open", self.page, tunnel, "--proxy-header", f"X-Long: {'x' * 70_000}")
        self.assertEqual(got.facts["http_connect"], 431, got.facts["errormsg"])
        self.expect_refused("FD")
        self.closing_lines(self.through)


class HTTPConnectPairTests(HTTPConnectTests):
    """The same over the pair."""

    relay_option = "pair"
