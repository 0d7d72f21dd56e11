"""A web listener without sockets, for tests of what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.turns import Turns
from portfwd.admin.web.access import Access
from portfwd.admin.web.api import ApiContext
from portfwd.admin.web.site import WebRoot, web_factory
from portfwd.rules.admin_lines import Level
from tests.admin.fakes import TURN, FakeOperator, FakeSession, Turning

TOKEN = b"correct-horse-battery-staple"


@frozen
class Answered:
    """An answer of HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(data: bytes) -> Answered:
    """The first answer in `data`; a chunked body is joined."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    headers = {name.lower(): value for name, _, value in pairs}
    if headers.get("transfer-encoding") == "chunked":
        joined = b""
        while body and not body.startswith(b"0\r\n"):
            size, _, body = body.partition(b"\r\n")
            joined, body = joined + body[: int(size, 16)], body[int(size, 16) + 2 :]
        body = joined
    return Answered(int(first.split()[1]), headers, body)


class WebCase(SynchronousTestCase):
    """A listener with three sessions behind it, at the level of operators."""

    def setUp(self) -> None:
        self.clock: Clock = Turning()
        self.operator = FakeOperator(*(FakeSession(number) for number in (1, 2, 3)))
        self.access = Access(Level.OPERATOR)
        self.ready = True
        self.context = context = ApiContext(self.operator, self.clock, Turns(self.clock), lambda: self.access)
        self.factory = web_factory(self.clock, WebRoot(context, lambda: self.ready, None))

    def connect(self) -> tuple[Any, StringTransport]:
        """One connection."""
        protocol: Any = self.factory.serve("somebody")
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def turn(self, times: int = 8) -> None:
        """Let the reactor run."""
        for _ in range(times):
            self.clock.advance(TURN)

    def request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """A request as bytes; a `body` that is no bytes is sent as JSON."""
        lines = {"host": "localhost:8080", **(headers or {})}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if body is not None:
            lines = {"content-type": "application/json", "content-length": str(len(data)), **lines}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answered:
        """Ask one thing."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.request(method, path, body, headers))
        self.turn()
        return read_answer(transport.value())

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answered:
        """Look at something."""
        return self.ask("GET", path, None, headers)

    def post(self, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answered:
        """Change something."""
        return self.ask("POST", path, body, headers)
