"""The test case for operators: a forwarder with a control socket, an echo, and the ``portfwd`` command."""

from __future__ import annotations

import json
import os
import pty
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from tests.integration.case import ForwarderCase
from tests.integration.echo import EchoServer
from tests.integration.forwarder import ROOT, TIMEOUT, Forwarder, wait_until

#: How a test calls the command, in a process of its own.
COMMAND = (sys.executable, "-m", "portfwd.cli.main")


def environment() -> dict[str, str]:
    """For the command."""
    return os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"}


class Terminal:
    """
    A command on a terminal of its own.

    :ivar shown: all that it wrote there.
    """

    def __init__(self, *command: str) -> None:
        self.shown = ""
        self._controller, terminal = pty.openpty()
        self._process = subprocess.Popen(
            command,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=environment(),
            start_new_session=True,
        )
        os.close(terminal)

    def type(self, text: str) -> None:
        """Type it."""
        os.write(self._controller, text.encode())

    def wait_for(self, text: str, seconds: float = TIMEOUT) -> str:
        """What was shown up to `text`; it is not looked at again."""
        until = time.monotonic() + seconds
        while text not in self.shown:
            ready, _, _ = select.select([self._controller], [], [], max(0.0, until - time.monotonic()))
            data = self._read() if ready else b""
            if not data:
                raise AssertionError(f"no {text!r} in {self.shown!r}")
            self.shown += data.decode("utf-8", "replace")
        before, _, self.shown = self.shown.partition(text)
        return before

    def _read(self) -> bytes:
        try:
            return os.read(self._controller, 65536)
        except OSError:
            return b""  # Linux says EIO when nobody has the terminal open any more.

    def wait(self, seconds: float = TIMEOUT) -> int:
        """Its exit code."""
        while data := self._read():
            self.shown += data.decode("utf-8", "replace")
        return self._process.wait(seconds)

    def close(self) -> None:
        """Leave no process behind."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(TIMEOUT)
        os.close(self._controller)


class ControlCase(ForwarderCase):
    """A forwarder that operators can reach."""

    def setUp(self) -> None:
        super().setUp()
        self.echo = EchoServer()
        self.addCleanup(self.echo.close)
        self.path = str(self.directory / "admin.sock")

    def operated(self, rules: str, *lines: str, accidents: bool = False, drain: str = "2") -> Forwarder:
        """A forwarder with a control socket; ``ECHO`` in `rules` is the upstream."""
        text = "\n".join([f"admin unix:{self.path}", *lines, self.filled(rules)])
        return self.forwarder(text, accidents=accidents, drain=drain)

    def filled(self, rules: str) -> str:
        """`rules` with their upstream."""
        return rules.replace("ECHO", f"127.0.0.1:{self.echo.port}")

    def portfwd(self, command: str, *words: str, code: int = 0) -> str:
        """What the command prints; with another exit code than 0, on standard error."""
        done = subprocess.run(
            [*COMMAND, command, "--socket", self.path, *words],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env=environment(),
            check=False,
            stdin=subprocess.DEVNULL,
        )
        self.assertEqual(done.returncode, code, f"{command} {words}: {done.stdout}{done.stderr}")
        return done.stderr if code else done.stdout

    def json_of(self, command: str, *words: str) -> Any:
        """The same for programs."""
        return json.loads(self.portfwd(command, "--json", *words))

    def terminal(self, command: Sequence[str]) -> Terminal:
        """The command on a terminal."""
        terminal = Terminal(*command)
        self.addCleanup(terminal.close)
        return terminal

    def client(self, forwarder: Forwarder, rule: str = "web") -> socket.socket:
        """A session, opened."""
        client = socket.create_connection(("127.0.0.1", forwarder.port(rule)), timeout=TIMEOUT)
        self.addCleanup(client.close)
        return client

    def exchange(self, client: socket.socket, data: bytes) -> None:
        """Send `data`, and get it back."""
        client.sendall(data)
        self.assertEqual(read_exactly(client, len(data)), data)

    def wait_for_sessions(self, count: int) -> list[dict[str, Any]]:
        """The open sessions, once there are `count`."""
        wait_until(
            lambda: len(self.json_of("sessions")["sessions"]) == count,
            TIMEOUT,
            lambda: "not so many sessions",
        )
        rows: list[dict[str, Any]] = self.json_of("sessions")["sessions"]
        return rows


def read_exactly(sock: socket.socket, count: int) -> bytes:
    """That many bytes; fewer if the end comes before."""
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            break
        data += more
    return data
