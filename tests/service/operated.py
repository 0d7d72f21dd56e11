"""Tests of what operators see and do: a forwarder on a reactor that the test turns, and peers."""

from __future__ import annotations

import socket

from portfwd.service.operators.forwarder_operator import ForwarderOperator
from portfwd.service.run.forwarder import Forwarder
from portfwd.values import CloseReason
from tests.service.contexts import Lines, rules
from tests.service.turning import TurningTestCase

RULES = """\
web: 127.0.0.1:0 -> {target}
lab: 127.0.0.1:0 -> {target}
    filter faults latency delay=1ms
"""


class OperatedTestCase(TurningTestCase):
    """
    A forwarder with two rules.

    :ivar operating: the forwarder as operators see it.
    :ivar lines: its access log.
    """

    text = RULES

    def setUp(self) -> None:
        super().setUp()
        self.upstream = socket.create_server(("127.0.0.1", 0))
        self.upstream.setblocking(False)
        self.addCleanup(self.upstream.close)
        target = f"127.0.0.1:{self.upstream.getsockname()[1]}"
        self.ruleset = rules(self.text.format(target=target, directory=self.directory))
        self.lines = Lines()
        self.forwarder = Forwarder(self.reactor, self.ruleset, self.lines, drain=5.0)
        self.forwarder.startService()
        self.addCleanup(self.end_forwarder)
        self.operating = ForwarderOperator(self.forwarder, self.reactor)

    def end_forwarder(self) -> None:
        """Leave nothing behind."""
        self.forwarder.cut(CloseReason.KILLED)
        if self.forwarder.running:
            self.forwarder.stopService()
        self.turn(10)

    def client(self, rule: str = "web") -> tuple[socket.socket, socket.socket]:
        """Both ends of a session."""
        host, _, port = self.forwarder.addresses[rule][0].rpartition(":")
        client = socket.create_connection((host, int(port)))
        client.setblocking(False)
        self.addCleanup(client.close)
        self.turn()
        upstream, _ = self.upstream.accept()
        upstream.setblocking(False)
        self.addCleanup(upstream.close)
        self.turn()
        return client, upstream
