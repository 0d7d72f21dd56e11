"""Tests of the web listeners of a ruleset, with a forwarder behind them."""

from __future__ import annotations

import json
import os
import socket
import stat
from typing import Any
from unittest import mock

from twisted.application.service import MultiService

from portfwd.admin.turns import Turns
from portfwd.admin.web.connection import STUCK
from portfwd.errors import StartError
from portfwd.rules.admin_lines import web_specs
from portfwd.service.operators.operators import add_operators
from portfwd.service.operators.web import WebListeners
from tests.admin.web.asking import TOKEN, Answered, read_answer
from tests.service.operated import RULES, OperatedTestCase

BEARER = f"Authorization: Bearer {TOKEN.decode()}\r\n"


class WebTests(OperatedTestCase):
    """A port for looking, and a unix socket for steering, with a token."""

    text = (
        "web 127.0.0.1:0\n"
        f"web unix:{{directory}}/web.sock level=operator token-file={{directory}}/token mode=0660\n{RULES}"
    )

    def setUp(self) -> None:
        super().setUp()
        self.write_token(TOKEN)
        self.web = self.make()

    def write_token(self, token: bytes) -> None:
        """The file of the token."""
        path = self.directory / "token"
        path.write_bytes(token + b"\n")
        path.chmod(0o600)

    def make(self) -> WebListeners:
        """The service, not started."""
        return WebListeners(
            self.reactor, web_specs(self.ruleset), self.operating, self.forwarder, Turns(self.reactor)
        )

    def start(self) -> None:
        """Start it, and end it with the test."""
        self.web.startService()
        self.addCleanup(self.web.stopService)

    def ask(self, request: str, head: str = "", name: str = "web.sock") -> Answered:
        """Ask by the unix socket, or by the port."""
        client: Any
        if name:
            client = self.connect(self.directory / name)
        else:
            port = int(self.web.addresses[0].rstrip("/").rpartition(":")[2])
            client = socket.create_connection(("127.0.0.1", port))
            client.setblocking(False)
            self.addCleanup(client.close)
        client.send(f"{request} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
        self.turn(0.2)
        return read_answer(self.received(client) or b"")

    def test_levels(self) -> None:
        """Each has its permission bits, its level and its token."""
        self.start()
        self.assertEqual(stat.S_IMODE(os.stat(self.directory / "web.sock").st_mode), 0o660)
        self.assertEqual(self.ask("GET /api/v1/", name="").json["level"], "read")
        self.assertEqual(self.ask("GET /api/v1/").status, 401)
        self.assertEqual(self.ask("GET /api/v1/", BEARER).json["level"], "operator")
        body = json.dumps({"rule": "web"})
        head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.assertEqual(self.ask("POST /api/v1/stop", name="").json["error"], "forbidden")
        client = self.connect(self.directory / "web.sock")
        client.send(f"POST /api/v1/pause HTTP/1.1\r\nHost: localhost\r\n{head}{BEARER}\r\n{body}".encode())
        self.turn(0.2)
        self.assertEqual(read_answer(self.received(client) or b"").json["result"], {"rules": ["web"]})

    def test_pages(self) -> None:
        """The page, health and metrics are there."""
        self.start()
        self.assertEqual(self.ask("GET /", name="").status, 200)
        self.assertEqual(self.ask("GET /readyz", name="").body, b"ready\n")
        self.assertIn(b"portfwd_ready 1.0", self.ask("GET /metrics", name="").body)

    def test_without_prometheus(self) -> None:
        """Without prometheus-client only the metrics are missing."""
        with mock.patch.dict("sys.modules", {"portfwd.metrics.exposition": None}):
            self.start()
        self.assertEqual(self.ask("GET /metrics", name="").status, 501)
        self.assertEqual(self.ask("GET /readyz", name="").status, 200)

    def test_new_token(self) -> None:
        """A reload reads the token again; an invalid one leaves the old one in use."""
        self.start()
        self.write_token(b"another-token-of-some-length")
        self.assertEqual(list(self.web.renew()), [])
        self.assertEqual(self.ask("GET /api/v1/", BEARER).status, 401)
        self.write_token(TOKEN)
        self.assertEqual(list(self.web.renew()), [])
        (self.directory / "token").chmod(0o644)
        (line,) = self.web.renew()
        self.assertRegex(
            line, r"^web unix:.*web\.sock: .*token is accessible to others .*; the token is not changed$"
        )
        os.unlink(self.directory / "token")
        (line,) = self.web.renew()
        self.assertIn("token: No such file or directory; the token is not changed", line)
        self.assertEqual(self.ask("GET /api/v1/", BEARER).status, 200)

    def test_renew(self) -> None:
        """A socket whose file was removed is bound again by a reload."""
        self.start()
        for name in ("web.sock", "web.sock.lock"):
            os.unlink(self.directory / name)
        self.assertEqual(list(self.web.renew()), [])
        self.assertEqual(self.ask("GET /healthz").status, 200)

    def test_bad_token(self) -> None:
        """A token that others could read refuses the start, with the place of the line."""
        (self.directory / "token").chmod(0o644)
        error = self.assertRaises(StartError, self.make)
        self.assertRegex(
            error.failures[0], r"^web unix:.*: .*token is accessible to others.*\(test\.conf:2:1\)$"
        )

    def test_refused(self) -> None:
        """If one cannot be bound, none is, and the line says which."""
        os.mkdir(self.directory / "web.sock")
        error = self.assertRaises(StartError, self.web.privilegedStartService)
        self.assertIn(f"web: cannot listen on unix:{self.directory}/web.sock", error.failures[0])
        self.assertEqual(self.web.addresses, [])

    def test_taken_since(self) -> None:
        """So is one that cannot listen any more when it is its turn."""
        self.web.privilegedStartService()

        def taken() -> None:
            raise OSError(98, os.strerror(98))

        self.patch(self.web.listeners[1].port.listener, "open", taken)  # type: ignore[union-attr]
        error = self.assertRaises(StartError, self.web.startService)
        self.assertIn("Address already in use", error.failures[0])
        self.assertEqual(self.web.addresses, [])

    def test_stop(self) -> None:
        """They stay open until the forwarder has drained, and are not ready meanwhile."""
        self.start()
        self.client()
        stopped = self.web.stopService()
        self.turn()
        self.assertNoResult(stopped)
        self.assertEqual(self.ask("GET /readyz").status, 503)
        status = self.ask("GET /api/v1/status", BEARER).json
        self.assertEqual(status["result"]["state"], "draining")
        self.operating.kill(self.operating.session(1))
        self.turn_for(stopped)
        self.assertEqual(self.web.addresses, [])

    def test_stuck_client(self) -> None:
        """A client that requests events and does not read delays no session, and is disconnected."""
        self.start()
        stuck = self.connect(self.directory / "web.sock")
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client, upstream = self.client()
        request = f"GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n{BEARER}\r\n".encode()
        stuck.send(request * 100)
        for number in range(20):
            client.send(b"x" * 1000)
            self.turn()
            self.assertEqual(len(upstream.recv(2000)), 1000, number)
        self.assertIn("clients=1", repr(self.web.listeners[1].port))
        self.turn(STUCK + 1)
        self.assertIn("clients=0", repr(self.web.listeners[1].port))

    def test_operators(self) -> None:
        """One service has all of them."""
        parent = MultiService()
        renewals = add_operators(parent, self.ruleset, self.forwarder, self.reactor)
        _, found = list(parent)
        self.assertIsInstance(found, WebListeners)
        self.assertEqual(len(renewals), 1)
