"""Tests of `portfwd.admin.web.api`: commands as resources, and streams of events."""

from __future__ import annotations

import json
from typing import Any, cast

from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher

from portfwd.admin.web.access import Access
from portfwd.admin.web.api import HEARTBEAT, MAX_BODY, OPENING
from portfwd.admin.web.connection import STUCK
from portfwd.rules.admin_lines import Level
from portfwd.values import TO_CLIENT, CloseReason
from tests.admin.web.asking import Answered, WebCase, read_answer


class CommandTests(WebCase):
    """One answer for one request."""

    def refused(self, answered: Answered, status: int, code: str) -> None:
        """It is the control socket's refusal, with a status of HTTP."""
        self.assertEqual(
            (answered.status, answered.json["ok"], answered.json["error"]), (status, False, code)
        )
        self.assertEqual(answered.headers["content-type"], "application/json")

    def test_greeting(self) -> None:
        """The root says who answers and what may be asked."""
        expected = {"portfwd": "1.2.3", "protocol": 1, "level": "operator"}
        for path in ("/api/v1/", "/api/v1"):
            self.assertEqual(self.get(path).json, expected)
        self.assertEqual(self.ask("HEAD", "/api/v1/").body, b"")

    def test_description(self) -> None:
        """The description is there."""
        found = self.get("/api/v1/openapi.json").json
        self.assertEqual((found["openapi"], found["info"]["version"]), ("3.1.0", "1.2.3"))

    def test_looks(self) -> None:
        """What looks is answered with the control socket's JSON."""
        self.assertEqual(self.get("/api/v1/status").json, {"ok": True, "result": {"state": "running"}})
        found = self.get("/api/v1/sessions?limit=2&start=1").json["result"]
        self.assertEqual([row["id"] for row in found["sessions"]], [2, 3])
        self.assertEqual(self.get("/api/v1/session/2").json["result"]["session"]["id"], 2)
        self.assertEqual(self.ask("HEAD", "/api/v1/session/2").status, 200)

    def test_steers(self) -> None:
        """What steers is done, and logged with who asked for it."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        answered = self.post("/api/v1/kill", {"id": [1, 3]})
        self.assertEqual(answered.json, {"ok": True, "result": {"killed": 2}})
        self.assertEqual(
            [one.killed for one in self.operator.open], [CloseReason.KILLED, None, CloseReason.KILLED]
        )
        self.assertEqual([(event["who"], event["line"]) for event in events], [("somebody", "kill 1 3")])
        self.assertEqual(self.post("/api/v1/reload", {"dry-run": True}).json["result"]["applied"], False)
        self.assertEqual(self.post("/api/v1/stop").json["result"], {"stopping": True})

    def test_level(self) -> None:
        """Who may only look steers nothing, and taps nothing."""
        self.access = Access(Level.READ)
        for name, body in (("kill", {"id": [1]}), ("faults", {"rule": "lab", "what": "on"}), ("stop", None)):
            self.refused(self.post(f"/api/v1/{name}", body), 403, "forbidden")
        self.refused(self.get("/api/v1/tap/1"), 403, "forbidden")
        self.assertEqual(self.operator.asked, [])
        self.assertIsNone(self.operator.open[0].killed)

    def test_refusals(self) -> None:
        """Each refusal has its status."""
        self.refused(self.get("/api/v1/session/99"), 404, "not-found")
        self.refused(self.get("/api/v1/sessions?rule=none"), 404, "not-found")
        self.refused(self.get("/api/v1/nothing"), 404, "unknown-command")
        self.refused(self.get("/api/v1/sessions?limit=0"), 400, "bad-request")
        self.refused(self.get("/api/v1/top?interval=1ms"), 400, "bad-request")
        self.refused(self.post("/api/v1/pause", b"{"), 400, "bad-request")
        self.refused(self.post("/api/v1/kill?id=1", {"id": [1]}), 400, "bad-request")
        self.refused(self.post("/api/v1/pause", {"rule": "r" * 5000}), 400, "line-too-long")

    def test_methods(self) -> None:
        """Another method is refused, with those that there are."""
        for method, path, allowed in (
            ("GET", "/api/v1/kill", "POST"),
            ("POST", "/api/v1/status", "GET, HEAD"),
            ("HEAD", "/api/v1/top", "GET"),
            ("DELETE", "/api/v1/session/1", "GET, HEAD"),
            ("OPTIONS", "/api/v1/faults", "GET, HEAD, POST"),
            ("PUT", "/api/v1/openapi.json", "GET, HEAD"),
            ("POST", "/api/v1/", "GET, HEAD"),
        ):
            answered = self.ask(method, path)
            self.assertEqual((answered.status, answered.headers["allow"]), (405, allowed), method)

    def test_type(self) -> None:
        """A body is JSON by its type too: a form of a foreign page has another."""
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            answered = self.post("/api/v1/kill", b'{"id":[1]}', {"content-type": kind})
            self.refused(answered, 415, "bad-type")
        answered = self.post("/api/v1/kill", {"id": [1]}, {"content-type": "Application/JSON; charset=utf-8"})
        self.assertEqual(answered.status, 200)

    def test_large_body(self) -> None:
        """A body that is too large is not read, whether its size is told or not."""
        self.assertEqual(self.post("/api/v1/kill", b" " * (MAX_BODY + 1)).status, 413)
        protocol, transport = self.connect()
        protocol.dataReceived(self.request("POST", "/api/v1/kill", None, {"transfer-encoding": "chunked"}))
        for _ in range(3):
            protocol.dataReceived(b"%x\r\n%s\r\n" % (MAX_BODY // 2 + 1, b" " * (MAX_BODY // 2 + 1)))
        protocol.dataReceived(b"0\r\n\r\n")
        self.turn()
        self.assertEqual(transport.value().count(b"HTTP/1.1 413"), 1)
        self.assertTrue(transport.disconnecting)

    def test_mistake(self) -> None:
        """A mistake in portfwd is told as one, and logged."""
        self.operator.broken = ValueError("no")
        self.refused(self.get("/api/v1/status"), 500, "internal")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_left(self) -> None:
        """Who leaves before the answer is there gets none."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.request("GET", "/api/v1/sessions"))
        protocol.connectionLost(cast(Any, ConnectionError()))
        self.turn()
        self.assertEqual(transport.value(), b"")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_after_the_other(self) -> None:
        """A connection serves several requests."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.request("GET", "/api/v1/status") * 2)
        self.turn()
        self.turn()
        self.assertEqual(transport.value().count(b'{"ok":true'), 2)


class StreamTests(WebCase):
    """``top`` and ``tap`` as server-sent events."""

    def begin(self, path: str) -> tuple[Any, StringTransport]:
        """Begin to watch."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.request("GET", path))
        self.turn()
        return protocol, transport

    def events(self, transport: StringTransport) -> list[tuple[str, Any]]:
        """What was sent so far: kinds and their JSON."""
        found = []
        for block in read_answer(transport.value()).body.decode("ascii").split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if lines:
                found.append((lines.get("event", "message"), json.loads(lines["data"])))
        return found

    def test_looks(self) -> None:
        """Each look is an event, and the answer the last one."""
        _, transport = self.begin("/api/v1/top?count=2&interval=1s&limit=1")
        self.assertEqual(len(self.events(transport)), 1)
        self.clock.advance(1)
        self.turn()
        first, second, last = self.events(transport)
        self.assertEqual((first[0], len(first[1]["rows"]), first[1]["sessions"]), ("message", 1, 3))
        self.assertEqual(second[0], "message")
        self.assertEqual(last, ("end", {"ok": True, "result": {"looks": 2, "missed": 0}}))
        answered = read_answer(transport.value())
        self.assertEqual((answered.status, answered.headers["content-type"]), (200, "text/event-stream"))

    def test_bytes(self) -> None:
        """Bytes of a session come until its limit."""
        _, transport = self.begin("/api/v1/tap/1?limit=2")
        assert self.operator.saw is not None
        self.operator.saw(TO_CLIENT, b"abc")
        self.clock.advance(0.1)
        (_, event), (kind, end) = self.events(transport)
        self.assertEqual((event["data"], kind, end["result"]["ended"]), ("YWI=", "end", "limit"))

    def test_refused(self) -> None:
        """What cannot be watched is refused as anything else."""
        answered = self.get("/api/v1/tap/99")
        self.assertEqual((answered.status, answered.json["error"]), (404, "not-found"))

    def test_refused_later(self) -> None:
        """A stream that fails when it has begun says so in its last event."""
        _, transport = self.begin("/api/v1/top?interval=1s")
        self.operator.broken = ValueError("no")
        self.clock.advance(1)
        self.turn()
        self.assertEqual(self.events(transport)[-1][1]["error"], "internal")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_silence(self) -> None:
        """A stream without events begins soon, and says now and then that it is there."""
        _, transport = self.begin("/api/v1/tap/1")
        self.assertEqual(transport.value(), b"")
        self.clock.advance(OPENING)
        self.assertEqual(read_answer(transport.value()).status, 200)
        for count in (2, 3):
            self.clock.advance(HEARTBEAT)
            self.assertEqual(transport.value().count(b": still here"), count)
        self.assertEqual(self.events(transport), [])

    def test_not_read(self) -> None:
        """Nothing is kept for a client that does not read, and it is dropped after a while."""
        protocol, transport = self.begin("/api/v1/top?interval=1s")
        transport.producer.pauseProducing()
        size = len(transport.value())
        for _ in range(int(STUCK) - 1):
            self.clock.advance(1)
            self.turn()
        self.assertEqual(len(transport.value()), size)
        self.assertFalse(transport.disconnected)
        self.clock.advance(1)
        self.assertTrue(transport.disconnected)
        protocol.connectionLost(cast(Any, ConnectionError()))
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_read_again(self) -> None:
        """Who reads again goes on, and is told how much was missed."""
        _, transport = self.begin("/api/v1/top?interval=1s&count=2")
        transport.producer.pauseProducing()
        self.clock.advance(1)
        self.turn()
        transport.producer.resumeProducing()
        self.clock.advance(1)
        self.turn()
        self.assertEqual(self.events(transport)[-1][1]["result"], {"looks": 2, "missed": 1})

    def test_left(self) -> None:
        """Who leaves ends it, and leaves nothing behind."""
        protocol, _ = self.begin("/api/v1/tap/1")
        protocol.connectionLost(cast(Any, ConnectionError()))
        self.turn()
        self.assertIsNone(self.operator.saw)
        self.assertEqual(self.clock.getDelayedCalls(), [])
