"""What the tests of the service room share: rules from text, contexts without a reactor, ports, a log."""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from portfwd.kernel.platform import Platform
from portfwd.relay.context import RelayContext
from portfwd.rules import parse
from portfwd.rules.model import Ruleset
from portfwd.streams.opening import StreamMaker
from portfwd.values import SessionSummary
from tests.ports import free_port


def rules(text: str) -> Ruleset:
    """A rules file."""
    return parse(text, "test.conf")


def a_context(reactor: object | None = None, *, own_sockets: bool = True) -> RelayContext:
    """A context on a clock, or on a reactor."""
    return RelayContext(
        reactor=cast(Any, Clock() if reactor is None else reactor),
        platform=Platform(own_sockets=own_sockets, epoll=False),
        names=cast(Any, None),
        streams=StreamMaker(cast(Any, Clock() if reactor is None else reactor), None),
    )


def a_used_port(case: TestCase) -> int:
    """A port on which somebody listens until the test ends."""
    sock = socket.create_server(("127.0.0.1", 0))
    case.addCleanup(sock.close)
    return int(sock.getsockname()[1])


def a_free_port(family: int = socket.AF_INET) -> int:
    """A port of the loopback address that was free a moment ago."""
    return free_port("127.0.0.1" if family == socket.AF_INET else "::1")


def take_port(case: TestCase, port: int) -> None:
    """Listen on a port to which a socket is bound that does not listen yet, until the test ends."""
    sock = socket.socket()
    case.addCleanup(sock.close)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen()


class Lines:
    """A session log that keeps what it gets."""

    wants_opened = False
    wants_closed = True

    def __init__(self) -> None:
        self.closed_lines: list[SessionSummary] = []

    def opened(self, summary: SessionSummary) -> None: ...

    def closed(self, summary: SessionSummary) -> None:
        self.closed_lines.append(summary)
