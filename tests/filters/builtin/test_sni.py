"""Tests of `portfwd.filters.builtin.sni`, with what OpenSSL sends."""

from __future__ import annotations

from typing import Any

from portfwd.filters import RouteClause
from portfwd.filters.builtin.sni import PLUGIN, UNRECOGNIZED_NAME, SNIOptions
from portfwd.values import TLSInfo
from tests.filters.feeding import FilterTestCase, Talk, make_connection
from tests.wire.hellos import openssl
from tests.wire.test_client_hello import message, records

ROUTES = [
    RouteClause(("git.example.com",), "git"),
    RouteClause(("alpn:acme-tls/1",), "acme"),
    RouteClause(("*.Example.COM", "example.org"), "web"),
    RouteClause(("*.bad.example",), None),
]


def sni(*clauses: RouteClause, **options: Any) -> Any:
    """Make a factory."""
    return PLUGIN.configure(SNIOptions(**options), clauses or ROUTES)


class RouteTests(FilterTestCase):
    """The name chooses."""

    def test_names(self) -> None:
        """The first line with a pattern of the name decides, without one the rule's own target."""
        for name, target in (
            ("git.example.com", "git"), ("GIT.example.com", "git"), ("www.example.com", "web"),
            ("example.org", "web"), ("elsewhere.example", None),
        ):  # fmt: skip
            hello = openssl(name)
            talk = self.talk(sni(), data=hello)
            self.assertEqual((talk.target, b"".join(talk.upstream), talk.client), (target, hello, b""))
            self.assertEqual(talk.connection.tags, {"server-name": name.lower()})

    def test_protocols(self) -> None:
        """A protocol that the client offers is a key too, with a name or without."""
        for name in ("www.example.com", None):
            self.assertEqual(self.talk(sni(), data=openssl(name, ("h2", "acme-tls/1"))).target, "acme")
        self.assertEqual(self.talk(sni(), data=openssl("git.example.com", ("acme-tls/1",))).target, "git")

    def test_close(self) -> None:
        """A line may say close; the client is told by an alert."""
        talk = self.talk(sni(), data=openssl("very.bad.example"))
        self.assertIn("close", talk.reason)
        self.assertEqual((talk.client, talk.upstream, talk.dial), (UNRECOGNIZED_NAME, [], None))

    def test_large(self) -> None:
        """A hello in several records is held until it is complete, and goes on as it came."""
        hello = openssl("git.example.com", tuple(f"{number:0200}" for number in range(90)))
        self.assertGreater(len(hello), 16 * 1024)
        talk = self.talk(sni(), data=hello)
        self.assertEqual((talk.target, b"".join(talk.upstream)), ("git", hello))

    def test_bytes_behind(self) -> None:
        """What the client sends behind the hello goes the same way."""
        hello = openssl("git.example.com")
        talk = self.talk(sni(), data=hello + b"early data")
        self.assertEqual(b"".join(talk.upstream), hello + b"early data")


class TerminatedTests(FilterTestCase):
    """Behind a listener that has ended TLS, what its handshake said chooses."""

    def ended(self, tls: TLSInfo, *, otherwise: str = "close") -> Talk:
        """A connection with that handshake, through routes by name and by protocol."""
        clauses = [
            RouteClause(("a.example",), "a"),
            RouteClause(("alpn:h2",), "h2"),
            RouteClause(("no.*",), None),
        ]
        factory = PLUGIN.configure(SNIOptions(otherwise=otherwise), clauses)
        return Talk(factory, connection=make_connection(tls=tls))

    def test_chosen(self) -> None:
        """The name, or the protocol that was agreed on; the client's bytes pass from the first on."""
        for tls, target in (
            (TLSInfo("a.example"), "a"),
            (TLSInfo("b.example", "h2"), "h2"),
            (TLSInfo("", "h2"), "h2"),
            (TLSInfo("b.example"), None),
        ):
            talk = self.ended(tls).say(b"hello")
            self.assertEqual((talk.target, talk.upstream), (target, [b"hello"]), tls)

    def test_refused(self) -> None:
        """A route that says close, or no name, close without a byte: an alert would be one inside of TLS."""
        for tls in (TLSInfo("no.example"), TLSInfo()):
            talk = self.ended(tls)
            self.assertEqual((talk.finish is None, talk.client), (False, b""))
        self.assertIsNone(self.ended(TLSInfo(), otherwise="pass").target)


class OtherwiseTests(FilterTestCase):
    """What cannot be routed."""

    def test_no_name(self) -> None:
        """Without a name the connection is closed with an alert, or goes to the rule's own target."""
        hello = openssl(None)
        talk = self.talk(sni(), data=hello)
        self.assertEqual((talk.client, talk.dial), (UNRECOGNIZED_NAME, None))
        self.assertIn("without a server name", talk.reason)
        talk = self.talk(sni(RouteClause(("*",), "there"), otherwise="pass"), data=hello)
        self.assertEqual((talk.target, b"".join(talk.upstream)), (None, hello))
        self.assertEqual(talk.connection.tags, {})

    def test_not_tls(self) -> None:
        """What is no ClientHello is closed without a word, or goes to the rule's own target."""
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", records(message(tail=b"x"))):
            talk = self.talk(sni(), data=data)
            self.assertEqual((talk.client, talk.dial), (b"", None))
            talk = self.talk(sni(otherwise="pass"), data=data)
            self.assertEqual((talk.target, b"".join(talk.upstream)), (None, data))

    def test_end(self) -> None:
        """The same holds for a client that ends too early."""
        part = openssl()[:50]
        self.assertIn("before its ClientHello", Talk(sni()).say(part).end().reason)
        talk = Talk(sni(otherwise="pass")).say(part).end()
        self.assertEqual((talk.target, talk.upstream), (None, [part]))

    def test_time(self) -> None:
        """A client that says too little in time is closed in any case."""
        for otherwise in ("close", "pass"):
            talk = Talk(sni(otherwise=otherwise, timeout=4.0)).say(b"\x16\x03")
            self.assertEqual(talk.wait(), 4.0)
            self.assertIn("could not decide", talk.reason)


class PatternTests(FilterTestCase):
    """Patterns that can match nothing are errors."""

    def test_bad(self) -> None:
        """Names with what no name has, and protocols without a name."""
        for pattern in ("a.example:443", "alpn:", "alpn:é", "ALPN:\x07", "https://a"):
            error = self.assertRaises(ValueError, sni, RouteClause((pattern,), "there"))
            self.assertIn("route pattern", str(error))
