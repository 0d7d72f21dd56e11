"""
Tests of `portfwd.admin.web.connection`.

`tests.admin.test_metrics_page` tests time-outs, unread answers and bodies of sites that take none.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from portfwd.admin.web.access import Access
from portfwd.admin.web.api import HALF_CLOSED_HEARTBEAT, MAX_BODY
from portfwd.admin.web.connection import LINGER, READ_AHEAD, BoundedRequest, QuietSite
from portfwd.admin.web.step_queue import STEPS_PER_TURN
from portfwd.rules.admin_lines import Level
from portfwd.values import TO_CLIENT
from portfwd.wire.http_body import MAX_CHUNKS
from tests.admin.fakes import TURN
from tests.admin.web.asking import TOKEN, WebCase

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
FOREIGN = b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"


@implementer(IHalfCloseableDescriptor)
class HalfCloseable(StringTransport):
    """A transport that can end its direction."""

    has_ended = False

    def loseWriteConnection(self) -> None:
        self.has_ended = True

    def writeConnectionLost(self, reason: object) -> None:
        """See `IHalfCloseableDescriptor`."""

    def readConnectionLost(self, reason: object) -> None:
        """See `IHalfCloseableDescriptor`."""


class ConnectionCase(WebCase):
    """Connections of real transports' abilities."""

    def connect(self) -> tuple[Any, Any]:
        protocol: Any = self.factory.serve("somebody")
        transport = HalfCloseable()
        protocol.makeConnection(transport)
        return protocol, transport

    def status(self, transport: StringTransport) -> int:
        """The status of the first answer; 0 for none."""
        data = transport.value()
        return int(data.split()[1]) if data else 0


class ConnectionTests(ConnectionCase):
    """A connection and its requests."""

    def test_who(self) -> None:
        """A connection knows who is there."""
        protocol, _ = self.connect()
        self.assertEqual(protocol.who, "somebody")
        self.assertEqual(repr(protocol), "<BoundedConnection inactive>")

    def test_site(self) -> None:
        """Requests are bounded ones, and nothing is logged of them."""
        site = self.factory.wrappedFactory
        assert isinstance(site, QuietSite)
        self.assertIs(site.requestFactory, BoundedRequest)

    def test_split_anywhere(self) -> None:
        """A request with a body is the same however its bytes come."""
        fields = {"transfer-encoding": "chunked", "content-type": "application/json"}
        for request in (
            self.request("POST", "/api/v1/pause", {"rule": "web"}),
            self.request("POST", "/api/v1/pause", None, fields)
            + b'5\r\n{"rul\r\n9;x\r\ne":"web"}\r\n0\r\n\r\n',
        ):
            for size in (1, 7, 1000):
                protocol, transport = self.connect()
                for start in range(0, len(request), size):
                    protocol.dataReceived(request[start : start + size])
                    self.clock.advance(TURN)
                self.turn()
                self.assertEqual(self.status(transport), 200, (request, size))

    def test_expect(self) -> None:
        """A client that waits before it sends its body is told to, if it has access."""
        for host, answers in (("localhost", b"HTTP/1.1 100 Continue\r\n\r\n"), ("evil.example", b"")):
            protocol, transport = self.connect()
            fields = {"host": host, "expect": "100-continue", "content-length": "2"}
            protocol.dataReceived(self.request("POST", "/api/v1/stop", None, fields))
            self.assertEqual(transport.value().startswith(b"HTTP/1.1 100"), bool(answers))
            self.turn()

    def test_close(self) -> None:
        """``Connection: close`` is found among other options."""
        protocol, transport = self.connect()
        protocol.dataReceived(HEALTH[:-2] + b"Connection: TE, Close\r\n\r\n")
        self.assertTrue(transport.disconnecting)

    def test_forms(self) -> None:
        """A form is bytes: it is not parsed, whatever its size."""
        for kind in (
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "application/x-www-form-urlencoded",
        ):
            body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n--x--'
            answered = self.post("/api/v1/pause", body, {"content-type": kind})
            self.assertEqual(answered.json["error"], "bad-type", kind)


class TurnTests(ConnectionCase):
    """Work in one iteration of the reactor."""

    def test_pipelined(self) -> None:
        """However many requests come in one read, few are answered before traffic is served."""
        for request in (HEALTH, FOREIGN, self.request("GET", "/api/v1/"), self.request("POST", "/", b"")):
            protocol, transport = self.connect()
            self.turn()
            protocol.dataReceived(request * 50)
            for turn in range(1, 50 // STEPS_PER_TURN):
                self.assertEqual(transport.value().count(b"HTTP/1.1 "), turn * STEPS_PER_TURN)
                self.clock.advance(TURN)
            self.turn(3)
            self.assertEqual(transport.value().count(b"HTTP/1.1 "), 50)

    def test_many_connections(self) -> None:
        """The bound is one for all connections, which take turns."""
        connections = [self.connect() for _ in range(20)]
        for protocol, _ in connections:
            protocol.dataReceived(FOREIGN * 10)

        def answers() -> list[int]:
            return [transport.value().count(b"HTTP/1.1 ") for _, transport in connections]

        for turn in range(1, 100):
            self.assertEqual(sum(answers()), turn * STEPS_PER_TURN)
            self.assertLessEqual(max(answers()) - min(answers()), 2)
            self.clock.advance(TURN)

    def test_read_ahead(self) -> None:
        """Nothing more is read while much is waiting, and reading goes on afterwards."""
        protocol, transport = self.connect()
        protocol.dataReceived(HEALTH * (2 * READ_AHEAD // len(HEALTH)))
        self.assertEqual(transport.producerState, "paused")
        self.turn(READ_AHEAD // len(HEALTH) + 2)
        self.assertEqual(transport.producerState, "producing")

    def test_chunks(self) -> None:
        """A body of very many chunks is refused."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.request("POST", "/api/v1/stop", None, {"transfer-encoding": "chunked"}))
        protocol.dataReceived(b"1\r\n \r\n" * (MAX_CHUNKS + 1))
        self.turn()
        self.assertEqual(self.status(transport), 413)


class RefusalTests(ConnectionCase):
    """Requests that are not served."""

    def test_framing(self) -> None:
        """What is no valid request has its status, closes the connection, and is not logged."""
        post = b"POST /api/v1/stop HTTP/1.1\r\nHost: localhost\r\n"
        for status, request in (
            (400, b"GET / HTTP/1.1\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x00\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: localhost\r\nX\xff: a\r\n\r\n"),
            (400, b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n"),
            (400, b"GET /\r\n\r\n"),
            (400, b"GET / HTTP/1.1\nHost: localhost\n\n"),
            (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            (400, b"\x16\x03\x01\x00\xf8\x01\x00"),
            (431, b"GET /" + b"a" * 20000),
            (431, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 600 + b"\r\n"),
            (431, b"GET / HTTP/1.1\r\n" + b"x" * 20000),
            (400, post + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"),
            (400, post + b"Content-Length: x\r\n\r\n"),
            (400, post + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (413, post + b"Content-Length: 99999999\r\n\r\n"),
            (501, post + b"Transfer-Encoding: gzip\r\n\r\n"),
            (400, post + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 200 + b"\r\n"),
            (413, post + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n"),
            (400, post + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz"),
        ):
            protocol, transport = self.connect()
            protocol.dataReceived(request + HEALTH)
            self.turn()
            self.assertEqual(self.status(transport), status, request[:60])
            self.assertNotIn(b"Unknown Status", transport.value())
            self.assertTrue(transport.has_ended, request[:60])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_phrase(self) -> None:
        """Every status has its phrase."""
        protocol, transport = self.connect()
        protocol.dataReceived(FOREIGN)
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 421 Misdirected Request\r\n"))

    def test_before_the_body(self) -> None:
        """A request without access is refused when its head is there; its body is not read."""
        self.access = Access(Level.OPERATOR, frozenset(), TOKEN)
        for fields, status in (
            ({"host": "evil.example"}, 421),
            ({"origin": "http://evil.example"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({}, 401),
        ):
            for framing in (
                {"content-length": str(MAX_BODY)},
                {"content-length": "9" * 5000},
                {"transfer-encoding": "chunked"},
            ):
                protocol, transport = self.connect()
                protocol.dataReceived(
                    self.request("POST", "/api/v1/stop", None, {**fields, **framing}) + b"1"
                )
                self.turn()
                self.assertEqual((self.status(transport), transport.has_ended), (status, True), fields)

    def test_lingering(self) -> None:
        """The rest of a refused request is dropped until the client ends or a time limit."""
        for ends in (True, False):
            protocol, transport = self.connect()
            protocol.dataReceived(
                self.request("POST", "/", None, {"host": "x.example", "content-length": "9"})
            )
            self.turn()
            size = len(transport.value())
            protocol.dataReceived(HEALTH * 1000)
            self.turn()
            self.assertEqual((len(transport.value()), transport.disconnecting), (size, False))
            if ends:
                protocol.readConnectionLost()
                self.assertTrue(transport.disconnecting)
            else:
                self.clock.advance(LINGER)
                self.assertTrue(transport.disconnected)
            protocol.connectionLost(cast(Any, ConnectionError()))
            self.turn()
            self.assertEqual(self.clock.getDelayedCalls(), [])


class HalfCloseTests(ConnectionCase):
    """Clients that end their direction after their requests."""

    def test_answered(self) -> None:
        """They get all answers, then the end; an incomplete request is dropped."""
        for rest in (b"", b"GET / HT"):
            for request in (HEALTH, self.request("GET", "/api/v1/sessions")):
                protocol, transport = self.connect()
                protocol.dataReceived(request * 3 + rest)
                protocol.readConnectionLost()
                protocol.writeConnectionLost()
                self.turn(30)
                self.assertEqual(transport.value().count(b"HTTP/1.1 200"), 3)
                self.assertTrue(transport.disconnecting)

    def test_idle(self) -> None:
        """A client without a request is disconnected at once."""
        for before in (b"", HEALTH, b"GET"):
            protocol, transport = self.connect()
            protocol.dataReceived(before)
            self.turn()
            protocol.readConnectionLost()
            self.turn()
            self.assertTrue(transport.disconnecting, before)

    def test_stream(self) -> None:
        """A stream goes on, and finds out soon if the client has closed the connection instead."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.request("GET", "/api/v1/tap/1?limit=2"))
        self.turn()
        protocol.readConnectionLost()
        for count in (1, 2):
            self.assertEqual(transport.value().count(b": still here"), count)
            self.clock.advance(HALF_CLOSED_HEARTBEAT)
        assert self.operator.saw is not None
        self.operator.saw(TO_CLIENT, b"abc")
        self.clock.advance(0.1)
        self.turn()
        self.assertIn(b'"ended":"limit"', transport.value())
        self.assertTrue(transport.disconnecting)
