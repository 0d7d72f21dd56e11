"""Tests of what listens: a reactor of the test's own, turned by hand, and clients of unix sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.programs import temporary_directory
from tests.relay.stage import TurnedReactor

T = TypeVar("T")

#: Turns of a reactor in which all that can happen within one process has happened.
TURNS = 12


class TurningTestCase(SynchronousTestCase):
    """
    A test with a reactor.

    :ivar reactor: it, as its users want it.
    :ivar directory: of this test's own, and of nobody else's.
    """

    def setUp(self) -> None:
        self.turned = TurnedReactor()
        self.addCleanup(self.turned.dispose)
        self.reactor = cast(Any, self.turned)
        self.directory: Path = temporary_directory(self)

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and happen what can."""
        self.turned.now += seconds
        for _ in range(TURNS):
            self.turned.iterate(0)

    def turn_until(self, reached: Callable[[], object], turns: int = 2000) -> None:
        """Turn until something is so; fail if it never is."""
        for _ in range(turns):
            if reached():
                return
            self.turned.iterate(0.01)
        self.fail("it never came")

    def turn_for(self, done: Deferred[T]) -> T:
        """
        Turn until a Deferred has its result, and return that.

        One whose callback returned another Deferred was called long before.
        """
        results: list[T] = []
        done.addCallback(results.append)
        self.turn_until(lambda: results)
        return results[0]

    def connect(self, path: str | os.PathLike[str]) -> socket.socket:
        """A client, closed when the test ends."""
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.connect(os.fspath(path))
        client.setblocking(False)
        return client

    def received(self, client: socket.socket) -> bytes | None:
        """What came; ``b""`` for the end, None for nothing."""
        self.turn()
        try:
            return client.recv(1 << 20)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return b""
