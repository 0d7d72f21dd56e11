"""Tests of the control sockets of a ruleset, with a forwarder behind them."""

from __future__ import annotations

import os
import socket
import stat
from typing import Any
from unittest import mock

from portfwd.admin.control import STUCK
from portfwd.errors import StartError
from portfwd.rules.admin_lines import admin_specs
from portfwd.service.operators.control import ControlSockets
from tests.admin.fakes import objects
from tests.service.operated import RULES, OperatedTestCase


class ControlTests(OperatedTestCase):
    """Two sockets of different levels."""

    text = (
        f"admin unix:{{directory}}/op.sock\nadmin unix:{{directory}}/read.sock mode=0666 level=read\n{RULES}"
    )

    def setUp(self) -> None:
        super().setUp()
        self.sockets = self.make()

    def make(self) -> ControlSockets:
        """The service, not started."""
        return ControlSockets(
            self.reactor, admin_specs(self.ruleset), self.operating, self.forwarder.stopService
        )

    def start(self) -> None:
        """Start it, and end it with the test."""
        self.sockets.startService()
        self.addCleanup(self.sockets.stopService)

    def ask(self, name: str, line: str) -> list[dict[str, Any]]:
        """The greeting and the answer."""
        client = self.connect(self.directory / name)
        client.send(f"{line}\n".encode())
        self.turn()
        return objects(self.received(client) or b"")

    def test_levels(self) -> None:
        """Each has its permission bits and its level."""
        self.start()
        modes = [stat.S_IMODE(os.stat(self.directory / name).st_mode) for name in ("op.sock", "read.sock")]
        self.assertEqual(modes, [0o600, 0o666])
        greeting, answer = self.ask("op.sock", "pause web")
        self.assertEqual((greeting["level"], answer["result"]), ("operator", {"rules": ["web"]}))
        greeting, answer = self.ask("read.sock", "resume web")
        self.assertEqual((greeting["level"], answer["error"]), ("read", "forbidden"))
        self.assertEqual(self.ask("read.sock", "status")[1]["result"]["rules"], 2)

    def test_renew(self) -> None:
        """A socket whose file was removed is bound again by a reload, or the reason is reported."""
        self.start()
        self.assertEqual(list(self.sockets.renew()), [])
        for name in ("op.sock", "op.sock.lock"):
            os.unlink(self.directory / name)
        self.assertEqual(list(self.sockets.renew()), [])
        self.assertEqual(self.ask("op.sock", "status")[1]["result"]["rules"], 2)
        os.unlink(self.directory / "op.sock")
        with mock.patch("portfwd.service.operators.control.bind", side_effect=PermissionError(13, "no")):
            (line,) = self.sockets.renew()
        self.assertRegex(line, r"^admin unix:.*op.sock: its file was removed and cannot be made again: no$")
        self.assertEqual(list(self.sockets.renew()), [])
        self.assertEqual(self.ask("op.sock", "status")[1]["result"]["rules"], 2)
        self.assertEqual(len(list(self.directory.glob("op.sock*"))), 2)

    def test_refused(self) -> None:
        """If one cannot be bound, none is, and the line says which."""
        os.mkdir(self.directory / "read.sock")
        error = self.assertRaises(StartError, self.sockets.privilegedStartService)
        self.assertIn(f"cannot listen on unix:{self.directory}/read.sock", error.failures[0])
        self.assertFalse((self.directory / "op.sock").exists())

    def test_taken_since(self) -> None:
        """So is one that cannot listen any more when it is its turn."""
        self.sockets.privilegedStartService()

        def taken(backlog: int) -> None:
            raise OSError(98, os.strerror(98))

        self.patch(self.sockets.ports[1].listener, "open", lambda: taken(1))
        error = self.assertRaises(StartError, self.sockets.startService)
        self.assertIn("Address already in use", error.failures[0])
        self.assertFalse((self.directory / "op.sock").exists())

    def test_stop(self) -> None:
        """They stay open until the forwarder has drained, so what is left can be seen, and cut."""
        self.start()
        self.client()
        stopped = self.sockets.stopService()
        self.turn()
        self.assertNoResult(stopped)
        _, status = self.ask("op.sock", "status")
        self.assertEqual(status["result"]["state"], "draining")
        _, killed = self.ask("op.sock", "kill 1")
        self.assertEqual(killed["result"], {"killed": 1})
        self.turn_for(stopped)
        self.assertFalse((self.directory / "op.sock").exists())

    def test_stuck_client(self) -> None:
        """A client that sends requests and does not read delays no session and no other client."""
        self.start()
        stuck = self.connect(self.directory / "op.sock")
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client, upstream = self.client()
        stuck.send(b"help\n" * 3000)
        for number in range(20):
            client.send(b"x" * 1000)
            self.turn()
            self.assertEqual(len(upstream.recv(2000)), 1000, number)
        self.assertEqual(self.ask("op.sock", "status")[1]["result"]["sessions"], 1)
        self.assertIn("clients=2", repr(self.sockets.ports[0]))
        self.turn(STUCK + 1)
        self.assertIn("clients=1", repr(self.sockets.ports[0]))
