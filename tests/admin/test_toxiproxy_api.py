"""Tests of `portfwd.admin.toxiproxy_api`: requests and answers, as clients of toxiproxy know them."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.toxiproxy_api import (
    API_VERSION,
    MOST_BODY,
    MOST_DIGITS,
    MOST_VALUES,
    ToxiproxyError,
    read_json,
    toxiproxy_site,
)

NOT_FOUND = ToxiproxyError("proxy not found", 404)


class FakeProxies:
    """
    Notes what is asked.

    :ivar problem: raised by everything, if set.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.problem: Exception | None = None
        self.half: ToxiproxyError | None = None

    def _note(self, *what: Any) -> Any:
        self.asked.append(what)
        if self.problem is not None:
            raise self.problem
        return {"did": what[0]}

    def proxies(self) -> Any:
        return self._note("proxies")

    def proxy(self, name: str) -> Any:
        return self._note("proxy", name)

    def toxics(self, name: str) -> Any:
        return self._note("toxics", name)

    def toxic(self, name: str, toxic: str) -> Any:
        return self._note("toxic", name, toxic)

    async def create(self, data: Any) -> Any:
        return self._note("create", data)

    async def update(self, name: str, data: Any) -> Any:
        return self._note("update", name, data)

    async def delete(self, name: str) -> None:
        self._note("delete", name)

    async def populate(self, data: Any) -> tuple[Any, ToxiproxyError | None]:
        return [self._note("populate", data)], self.half

    async def reset(self) -> None:
        self._note("reset")

    async def add_toxic(self, name: str, data: Any) -> Any:
        return self._note("add_toxic", name, data)

    async def change_toxic(self, name: str, toxic: str, data: Any) -> Any:
        return self._note("change_toxic", name, toxic, data)

    async def remove_toxic(self, name: str, toxic: str) -> None:
        self._note("remove_toxic", name, toxic)


class APICase(SynchronousTestCase):
    """The site, without a network."""

    def setUp(self) -> None:
        self.proxies = FakeProxies()
        self.clock = Clock()
        self.site = toxiproxy_site(self.clock, self.proxies)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """A request's status and body; None for an empty one."""
        lines = [
            f"{method} {path} HTTP/1.0",
            *(f"{key.replace('_', '-')}: {value}" for key, value in headers.items()),
        ]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        transport = StringTransport()
        protocol = self.site.serve("a test")
        protocol.makeConnection(transport)
        protocol.dataReceived("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        self.clock.advance(0)
        head, _, rest = transport.value().partition(b"\r\n\r\n")
        self.transport = transport
        if not head:
            return 0, None
        self.head = head.decode().lower()
        return int(head.split()[1]), self.read(rest)

    def read(self, rest: bytes) -> Any:
        """A body."""
        try:
            return json.loads(rest) if rest else None
        except ValueError:
            return rest.decode()


class RouteTests(APICase):
    """What each path and method does."""

    def test_all(self) -> None:
        """Every request of the API does its one thing, with the status that clients expect."""
        body = b'{"a": 1}'
        data = {"a": 1}
        for method, path, status, asked in (
            ("GET", "/proxies", 200, [("proxies",)]),
            ("POST", "/proxies", 201, [("create", data)]),
            ("GET", "/proxies/x", 200, [("proxy", "x")]),
            ("POST", "/proxies/x", 200, [("proxy", "x"), ("update", "x", data)]),
            ("PATCH", "/proxies/x", 200, [("proxy", "x"), ("update", "x", data)]),
            ("DELETE", "/proxies/x", 204, [("delete", "x")]),
            ("GET", "/proxies/x/toxics", 200, [("toxics", "x")]),
            ("POST", "/proxies/x/toxics", 200, [("add_toxic", "x", data)]),
            ("GET", "/proxies/x/toxics/t", 200, [("toxic", "x", "t")]),
            ("POST", "/proxies/x/toxics/t", 200, [("toxic", "x", "t"), ("change_toxic", "x", "t", data)]),
            ("PATCH", "/proxies/x/toxics/t", 200, [("toxic", "x", "t"), ("change_toxic", "x", "t", data)]),
            ("DELETE", "/proxies/x/toxics/t", 204, [("remove_toxic", "x", "t")]),
            ("POST", "/populate", 201, [("populate", data)]),
            ("POST", "/reset", 204, [("reset",)]),
        ):
            self.proxies.asked.clear()
            found, answer = self.ask(method, path, None if method in ("GET", "DELETE") else body)
            self.assertEqual((found, self.proxies.asked), (status, asked), (method, path))
            if status == 204:
                self.assertIsNone(answer)
            elif path == "/populate":
                self.assertEqual(answer, {"proxies": [{"did": "populate"}]})
            else:
                self.assertEqual(answer, {"did": asked[-1][0]})
                self.assertIn("content-type: application/json", self.head)

    def test_log(self) -> None:
        """Requests that change something are logged with the client; others are not."""
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.ask("GET", "/proxies")
        self.ask("POST", "/reset")
        lines = [formatEvent(one) for one in events if "who" in one]
        self.assertEqual(len(lines), 1)
        self.assertRegex(lines[0], r"\Aoperator \S+:\S+ \(toxiproxy\): POST /reset\Z")

    def test_version(self) -> None:
        """It says which toxiproxy it is like."""
        status, answer = self.ask("GET", "/version")
        self.assertEqual((status, answer["version"]), (200, API_VERSION))

    def test_names(self) -> None:
        """Names may have any characters, encoded; a query is nothing."""
        self.ask("GET", "/proxies/a%20b%2Fc%C3%A9?x=1")
        self.assertEqual(self.proxies.asked, [("proxy", "a b/cé")])

    def test_elsewhere(self) -> None:
        """There is nothing else, and nothing else can be done."""
        for path in ("/", "/proxy", "/proxies/a/b", "/proxies/a/toxics/b/c", "/version/x"):
            self.assertEqual(self.ask("GET", path), (404, "404 page not found\n"), path)
        for method, path in (("PUT", "/proxies"), ("GET", "/reset"), ("DELETE", "/version")):
            self.assertEqual(self.ask(method, path), (405, None))
        self.assertEqual(self.proxies.asked, [])


class RefusalTests(APICase):
    """What goes wrong."""

    def test_problems(self) -> None:
        """A problem is an object with its text and its status, under both keys that clients read."""
        self.proxies.problem = NOT_FOUND
        body = {"error": "proxy not found", "title": "proxy not found", "status": 404}
        self.assertEqual(self.ask("GET", "/proxies/x"), (404, body))
        self.assertEqual(self.ask("PATCH", "/proxies/x", b"{"), (404, body))

    def test_bodies(self) -> None:
        """What is no JSON is refused; what follows the first value is ignored."""
        for body in (b"", b"{", b"\xff", b"[" * 100_000, b"NaN", b"nul"):
            status, answer = self.ask("POST", "/proxies", body)
            self.assertEqual((status, answer["status"]), (400, 400), body[:10])
            self.assertIn("bad request body: ", answer["error"])
        self.assertEqual(self.ask("POST", "/proxies", b"\xef\xbb\xbf [1] and more")[0], 201)
        self.assertEqual(self.proxies.asked, [("create", [1])])
        self.assertEqual(read_json(b" 5"), 5)

    def test_case_of_keys(self) -> None:
        """Keys may be written in any case, at every depth, as for Go; values keep theirs."""
        body = (
            b'{"NAME": "Db", "Toxics": [{"Type": "latency", "Attributes": {"LATENCY": 5}}], "name": "Last"}'
        )
        self.ask("POST", "/proxies", body)
        told = {"name": "Last", "toxics": [{"type": "latency", "attributes": {"latency": 5}}]}
        self.assertEqual(self.proxies.asked, [("create", told)])

    def test_half_populated(self) -> None:
        """Proxies that were made are told beside the problem of the next one."""
        self.proxies.half = ToxiproxyError("missing required field: name at proxy 2", 400)
        status, answer = self.ask("POST", "/populate", b"[]")
        self.assertEqual(
            (status, answer["error"][:7], answer["proxies"]), (400, "missing", [{"did": "populate"}])
        )

    def test_accident(self) -> None:
        """A mistake of ours is told as such, and the log has it."""
        self.proxies.problem = ZeroDivisionError()
        self.assertEqual(self.ask("GET", "/proxies")[0], 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_browsers(self) -> None:
        """A browser is refused, by its name or by fields that only browsers send."""
        for headers in (
            {"User_Agent": "Mozilla/5.0 (X11)"},
            {"Origin": "http://evil.example"},
            {"Origin": "HTTPS://evil.example"},
            {"Origin": "moz-extension://id"},
            {"Origin": "http://localhost:8474"},
            {"Origin": ""},
            {"Origin": "null"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-origin"},
        ):
            self.assertEqual(self.ask("POST", "/reset", b"", **headers)[0], 403, headers)
        self.assertEqual(self.ask("GET", "/", User_Agent="Mozilla/5.0")[1], "User agent not allowed\n")
        self.assertEqual(self.proxies.asked, [])
        self.assertEqual(self.ask("POST", "/reset", b"", User_Agent="axios/1.7 Mozilla/5.0")[0], 204)

    def test_hosts(self) -> None:
        """A host name that somebody can register is refused; those of containers and machines are not."""
        for host in ("evil.example", "127.0.0.1.nip.io:8474", "toxiproxy.example.com.", "evil.internal.com"):
            self.assertEqual(self.ask("GET", "/proxies", Host=host)[0], 421, host)
        self.assertEqual(self.proxies.asked, [])
        for host in (
            "localhost:8474",
            "toxiproxy:8474",
            "test_toxiproxy_1",
            "127.0.0.1:8474",
            "[::1]:8474",
            "host.docker.internal:8474",
            "toxiproxy.default.svc.cluster.local",
            "a.localhost",
            "",
        ):
            self.assertEqual(self.ask("GET", "/proxies", Host=host)[0], 200, host)
        self.site = toxiproxy_site(self.clock, self.proxies, ("toxi.example.com",))
        self.assertEqual(self.ask("GET", "/proxies", Host="Toxi.example.com:8474")[0], 200)

    def test_before_the_body(self) -> None:
        """A page's request is refused when its head is there, before any of its body is."""
        transport = StringTransport()
        protocol = self.site.serve("a page")
        protocol.makeConnection(transport)
        protocol.dataReceived(
            b"POST /proxies HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n"
        )
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 403 Forbidden\r\n"))
        self.assertTrue(transport.disconnecting)

    def test_forms(self) -> None:
        """A body is read as JSON whatever its type is: curl calls it a form."""
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            self.assertEqual(self.ask("POST", "/proxies", b"[1]", Content_Type=kind)[0], 201)
        self.assertEqual(self.proxies.asked, [("create", [1])] * 2)

    def test_large(self) -> None:
        """A body that is too long is refused."""
        status, _ = self.ask("POST", "/proxies", b" " * (MOST_BODY + 1))
        self.assertEqual((status, self.proxies.asked, self.transport.disconnecting), (413, [], True))
        self.assertEqual(self.ask("POST", "/proxies", b" " * (MOST_BODY - 1) + b"1")[0], 201)

    def test_expensive(self) -> None:
        """JSON that takes long to read is refused: many values, and long integers."""
        for body in (
            b"[" + b"1e1," * MOST_VALUES + b"1]",
            b"[" + b"[]," * MOST_VALUES + b"1]",
            b'{"a":{' * MOST_VALUES,
            b"[" + b"1" * (MOST_DIGITS + 1) + b"]",
        ):
            self.assertEqual(self.ask("POST", "/proxies", body)[0], 400, body[:20])
        self.assertEqual(self.proxies.asked, [])
        many = [{"name": "a" * 50, "listen": ":1", "upstream": "b" * 50 + ":1", "enabled": True}] * 1000
        self.assertEqual(self.ask("POST", "/populate", json.dumps(many).encode())[0], 201)
