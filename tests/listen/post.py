"""A forwarder in this process, on a reactor that the test turns; clients and an upstream of datagrams."""

from __future__ import annotations

import socket
import time
from typing import Any, cast
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.platform import Platform
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.rules import parse
from portfwd.service.run.forwarder import Forwarder
from portfwd.values import CloseReason, SessionSummary
from tests.relay.stage import TurnedReactor

#: Real seconds after which what is waited for does not come.
TIMEOUT = 5.0
#: Turns after which what was sent on the loopback has been read.
TURNS = 30


class OpenSocket(socket.socket):
    """A socket as any other, whose calls a test may replace."""


class PostCase(SynchronousTestCase):
    """A test with such a forwarder; time stands still unless the test moves it."""

    #: None: this machine's.
    platform: Platform | None = None
    wants_opened = True
    wants_closed = True

    def setUp(self) -> None:
        self.opened_lines: list[SessionSummary] = []
        self.closed_lines: list[SessionSummary] = []
        self.upstream = self.datagrams()

    def opened(self, summary: SessionSummary) -> None:
        """A session has an upstream."""
        self.opened_lines.append(summary)

    def closed(self, summary: SessionSummary) -> None:
        """A session is over."""
        self.closed_lines.append(summary)

    def forward(self, text: str, budget: int = 0) -> None:
        """
        Forward as `text` says.

        :param text: ``UP`` in it is the port of `upstream`.
        :param budget: descriptors that there are; 0 for as many as there are.
        """
        self.reactor = TurnedReactor()
        self.addCleanup(self.reactor.dispose)
        text = text.replace("UP", str(self.upstream.getsockname()[1]))
        ruleset = parse(text + "\n", "post.conf")
        reactor, log = cast(Any, self.reactor), cast(Any, self)
        self.forwarder = Forwarder(reactor, ruleset, log, platform=self.platform)
        with mock.patch("socket.socket", OpenSocket):
            self.forwarder.startService()
        if budget:
            self.forwarder.budget.limit = self.forwarder.budget.spent + budget
        self.addCleanup(self._stop, self.reactor, self.forwarder)

    def _stop(self, reactor: TurnedReactor, forwarder: Forwarder) -> None:
        """End everything at once."""
        self.reactor, self.forwarder = reactor, forwarder
        forwarder.cut(CloseReason.KILLED)
        stopped = forwarder.stopService()
        self.turn()
        self.reactor.now += 20
        self.turn()
        self.successResultOf(stopped)

    @property
    def listener(self) -> Any:
        """The first rule's."""
        (listener,) = self.forwarder.bound[0].listeners
        assert isinstance(listener, DatagramClients)
        return listener

    def datagrams(self, host: str = "127.0.0.1") -> socket.socket:
        """A socket of a client or of an upstream."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        sock.setblocking(False)
        self.addCleanup(sock.close)
        return sock

    def where(self, rule: str = "r", host: str = "127.0.0.1") -> tuple[str, int]:
        """Where clients send to."""
        return host, int(self.forwarder.addresses[rule][0].rpartition(":")[2])

    def turn(self, turns: int = TURNS) -> None:
        """Let the forwarder do what it has to."""
        for _ in range(turns):
            self.reactor.iterate(0)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.reactor.now += seconds
        self.turn()

    def receive(self, sock: socket.socket) -> tuple[bytes, Any]:
        """The next datagram of `sock`, and its sender."""
        limit = time.monotonic() + TIMEOUT
        while time.monotonic() < limit:
            self.reactor.iterate(0)
            try:
                return sock.recvfrom(70_000)
            except BlockingIOError:
                continue
        raise AssertionError(f"nothing came to {sock}: {self.forwarder.rules}")

    def assert_quiet(self, *socks: socket.socket) -> None:
        """Nothing comes to any of `socks`."""
        self.turn()
        for sock in socks:
            with self.assertRaises(BlockingIOError):
                sock.recvfrom(70_000)

    def ask(self, client: socket.socket, data: bytes = b"question", **where: str) -> Any:
        """Send `data` to the forwarder; see it come, and say from where."""
        client.sendto(data, self.where(**where))
        got, sender = self.receive(self.upstream)
        self.assertEqual(got, data)
        return sender
