"""Tests of `portfwd.filters.builtin.http_host`."""

from __future__ import annotations

from typing import Any

from portfwd.filters import RouteClause
from portfwd.filters.builtin.http_host import PLUGIN, HTTPHostOptions
from portfwd.wire.http_head import MAX_HEAD, PREFACE
from tests.filters.feeding import FilterTestCase, Talk

ROUTES = [
    RouteClause(("git.example.com", "2001:db8::1"), "git"),
    RouteClause(("*.example.com",), "web"),
    RouteClause(("bad.example",), None),
]


def http_host(**options: Any) -> Any:
    """Make a factory."""
    return PLUGIN.configure(HTTPHostOptions(**options), ROUTES)


def request(host: str, target: str = "/") -> bytes:
    """Make a request with a body."""
    return f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello".encode()


class RouteTests(FilterTestCase):
    """The host chooses."""

    def test_hosts(self) -> None:
        """Name, letters and port do not matter to the line that matches; bytes pass untouched."""
        for host, target in (
            ("git.example.com", "git"), ("Git.Example.Com:8080", "git"), ("[2001:DB8::1]:80", "git"),
            ("www.example.com", "web"), ("elsewhere.example", None),
        ):  # fmt: skip
            data = request(host)
            talk = self.talk(http_host(), data=data)
            self.assertEqual((talk.target, b"".join(talk.upstream), talk.client), (target, data, b""))
        self.assertEqual(talk.connection.tags, {"http-host": "elsewhere.example"})

    def test_absolute(self) -> None:
        """An absolute target routes too; where Host says another name nobody is dialled."""
        talk = self.talk(http_host(), data=request("git.example.com", "http://git.example.com/"))
        self.assertEqual(talk.target, "git")
        talk = self.talk(http_host(), data=request("www.example.com", "http://git.example.com/"))
        self.assertIsNone(talk.dial)
        self.assertIn(b" 400 ", talk.client)

    def test_first_only(self) -> None:
        """A second request on the connection goes where the first one went."""
        data = request("git.example.com") + request("www.example.com")
        talk = self.talk(http_host(), data=data)
        self.assertEqual((talk.target, b"".join(talk.upstream)), ("git", data))

    def test_close(self) -> None:
        """A line may say close; the client is told that nobody answers for this host here."""
        talk = self.talk(http_host(), data=request("bad.example"))
        self.assertTrue(talk.client.startswith(b"HTTP/1.1 421 "))
        self.assertEqual((talk.dial, talk.upstream), (None, []))


class OtherwiseTests(FilterTestCase):
    """What cannot be routed."""

    def check(self, data: bytes, status: bytes) -> None:
        """It is answered and closed, or goes to the rule's own target."""
        talk = self.talk(http_host(), data=data)
        self.assertTrue(talk.client.startswith(b"HTTP/1.1 " + status), talk.client)
        self.assertEqual((talk.dial, talk.upstream), (None, []))
        talk = self.talk(http_host(otherwise="pass"), data=data)
        self.assertEqual((talk.target, b"".join(talk.upstream), talk.client), (None, data, b""))

    def test_bad(self) -> None:
        """What is no request, or an ambiguous one, gets 400."""
        for data in (
            b"\x16\x03\x01\x00\x05\x01", b"GET / HTTP/1.1\r\n\r\n", request("a b"), PREFACE,
            b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: git.example.com\r\n\r\n",
        ):  # fmt: skip
            self.check(data, b"400 ")

    def test_too_large(self) -> None:
        """A head beyond the limits gets 431."""
        data = b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD
        self.check(data, b"431 ")

    def test_end(self) -> None:
        """A client that ends too early is closed, or its bytes go to the rule's own target."""
        self.assertIn("before its request", Talk(http_host()).say(b"GET /").end().reason)
        talk = Talk(http_host(otherwise="pass")).say(b"GET /").end()
        self.assertEqual((talk.target, talk.upstream), (None, [b"GET /"]))

    def test_time(self) -> None:
        """A client that says too little in time is closed in any case."""
        talk = Talk(http_host(otherwise="pass", timeout=4.0)).say(b"GET /")
        self.assertEqual(talk.wait(), 4.0)
        self.assertIsNone(talk.dial)

    def test_pattern(self) -> None:
        """A pattern with a port is refused."""
        clauses = [RouteClause(("a.example:80",), "there")]
        self.assertRaises(ValueError, PLUGIN.configure, HTTPHostOptions(), clauses)
