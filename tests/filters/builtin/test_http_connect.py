"""Tests of `portfwd.filters.builtin.http_connect`: conversations with clients."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from portfwd.errors import ConnectRefused, ConnectTimedOut, NameNotResolved
from portfwd.filters import InetAddress
from portfwd.filters.builtin.http_connect import PLUGIN
from portfwd.filters.builtin.proxies import ProxyOptions
from portfwd.filters.builtin.users import hash_password, read_users
from portfwd.wire.http_head import MAX_HEAD
from portfwd.wire.http_reply import CONNECTED
from tests.filters.feeding import FilterTestCase, Talk

USERS = read_users(hash_password("alice", "a:secret", b"sixteen bytes...", 1000))


def http_connect(**options: Any) -> Any:
    """Make a factory."""
    return PLUGIN.configure(ProxyOptions(**options), ())


def connect(target: str = "example.com:443", *fields: str) -> bytes:
    """Make a request."""
    return "\r\n".join([f"CONNECT {target} HTTP/1.1", f"Host: {target}", *fields, "", ""]).encode()


def login(text: str, scheme: str = "Basic") -> str:
    """Make the field with a name and a password."""
    return f"Proxy-Authorization: {scheme} {b64encode(text.encode()).decode()}"


class ConnectTests(FilterTestCase):
    """Requests that are served."""

    def test_tunnel(self) -> None:
        """The answer comes when the dial succeeded; the head is for us, what follows for the upstream."""
        talk = self.talk(http_connect(), data=connect("Example.com:443", "X: y") + b"hello")
        self.assertEqual(talk.target, InetAddress("example.com", 443))
        self.assertEqual((talk.client, b"".join(talk.upstream)), (CONNECTED, b"hello"))
        talk = self.talk(http_connect(), data=connect("[2001:db8::1]:22"))
        self.assertEqual((talk.target, talk.upstream), (InetAddress("2001:db8::1", 22), []))

    def test_password(self) -> None:
        """With users the client has to log in; the password never reaches the upstream."""
        for scheme in ("Basic", "basic", "BASIC"):
            data = connect("a:1", login("alice:a:secret", scheme))
            talk = self.talk(http_connect(users=USERS), data=data + b"hello")
            self.assertEqual((talk.client, b"".join(talk.upstream)), (CONNECTED, b"hello"))


class RefuseTests(FilterTestCase):
    """Clients that get nothing."""

    def check(self, data: bytes, status: int, *fields: bytes, **options: Any) -> None:
        """The client gets a response, and nothing is dialled."""
        talk = self.talk(http_connect(**options), data=data)
        self.assertTrue(talk.client.startswith(b"HTTP/1.1 %d " % status), talk.client)
        for field in fields:
            self.assertIn(b"\r\n" + field + b"\r\n", talk.client)
        self.assertEqual((talk.dial, talk.upstream), (None, []))

    def test_methods(self) -> None:
        """Other methods are not served, with an absolute target neither."""
        for line in ("GET /", "GET http://a/", "OPTIONS *"):
            self.check(f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 405, b"Allow: CONNECT")

    def test_password(self) -> None:
        """Without the right password of a user, once, there is no tunnel, and no word of methods."""
        good = login("alice:a:secret")
        for fields in (
            [], [login("alice:a:secreT")], [login("eve:a:secret")], [login("alice")], [login("")],
            [good, good],
            ["Proxy-Authorization: Basic %%%"], ["Proxy-Authorization: Basic"],
            [login("alice:a:secret", "Bearer")], [login("alice:a:secret").replace("Proxy-", "")],
        ):  # fmt: skip
            self.check(
                connect("a:1", *fields),
                407,
                b'Proxy-Authenticate: Basic realm="portfwd", charset="UTF-8"',
                users=USERS,
            )
        self.check(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 407, users=USERS)

    def test_malformed(self) -> None:
        """What is no request, or no destination, gets 400, what is too large 431."""
        for data in (
            b"\x05\x01\x00",
            b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
            connect("a:99999"),
            connect("a b:1"),
        ):
            self.check(data, 400)
        self.check(b"CONNECT a:1 HTTP/1.1\r\nX: " + b"x" * MAX_HEAD, 431)

    def test_end_and_time(self) -> None:
        """A client that ends or stops too early is closed."""
        self.assertIn("before its request", Talk(http_connect()).say(b"CONN").end().reason)
        for options, seconds in (({}, 10.0), ({"timeout": 3.0}, 3.0)):
            talk = Talk(http_connect(**options)).say(b"CONN")
            self.assertEqual(talk.wait(), seconds)
            self.assertIsNone(talk.dial)


class DialTests(FilterTestCase):
    """What the client is told of the dial."""

    def test_failures(self) -> None:
        """504 where nobody answered in time, 502 for the rest."""
        for problem, status in (
            (ConnectTimedOut("no"), b"504"), (ConnectRefused("no"), b"502"), (NameNotResolved("no"), b"502"),
        ):  # fmt: skip
            talk = self.talk(http_connect(), data=connect(), problem=problem)
            self.assertTrue(talk.client.startswith(b"HTTP/1.1 " + status), talk.client)

    def test_not_permitted(self) -> None:
        """403 where every address was refused."""
        talk = Talk(http_connect(), problem=ConnectRefused("no"), asked=[InetAddress("127.0.0.1", 80)])
        talk.say(connect("localhost:80"))
        self.assertTrue(talk.client.startswith(b"HTTP/1.1 403 "), talk.client)
