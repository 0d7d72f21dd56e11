"""A forwarder that says what a test wants: a control socket served by a thread, and commands against it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portfwd.admin.answers import answer, event, greeting, refusal
from portfwd.admin.requests import Request, read_request
from tests.cli.running import CommandTestCase
from tests.integration.programs import temporary_directory

#: Seconds after which a test that hangs is given up.
TIMEOUT = 20.0


class ScriptedForwarder:
    """
    A control socket.

    :ivar path: where it listens.
    :ivar asked: every request, in order.
    :ivar answers: what is said to each command, in lines; one after the other if there are several lists.
    :ivar hello: its first line.
    """

    def __init__(self, directory: Path) -> None:
        self.path = os.fspath(directory / "a.sock")
        self.asked: list[Request] = []
        self.answers: dict[str, list[bytes]] = {}
        self.hello = greeting("1.2.3", "operator")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen()
        self._listening.settimeout(TIMEOUT)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def says(self, command: str, *results: Mapping[str, Any], events: list[Any] | None = None) -> None:
        """Answer `command` with each of `results` in turn, behind `events`."""
        before = b"".join(event(one) for one in events or [])
        self.answers[command] = [before + answer(one) for one in results]

    def refuses(self, command: str, code: str, message: str, **details: Any) -> None:
        """Refuse `command`."""
        self.answers[command] = [refusal(code, message, details)]

    def lines(self) -> list[tuple[str, tuple[str, ...], dict[str, str]]]:
        """What was asked, in plain values."""
        return [(one.command, one.words, dict(one.options)) for one in self.asked]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(TIMEOUT)
        with client, client.makefile("rb") as lines:
            try:
                client.sendall(self.hello)
                for line in lines:
                    request = read_request(line.rstrip(b"\n"))
                    assert request is not None
                    self.asked.append(request)
                    left = self.answers.get(request.command, [])
                    if not left:
                        return
                    client.sendall(left.pop(0) if len(left) > 1 else left[0])
            except OSError:
                return  # the command has left

    def close(self) -> None:
        """Serve nobody any more."""
        # A socket that is only closed leaves its thread in accept().
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(TIMEOUT)


class ControlTestCase(CommandTestCase):
    """
    Commands against a scripted forwarder.

    :ivar forwarder: it.
    """

    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.forwarder = ScriptedForwarder(self.directory)
        self.addCleanup(self.forwarder.close)

    def run_there(self, command: str, *words: str) -> tuple[int, str, str]:
        """Run a command against it."""
        return self.run_main(command, "--socket", self.forwarder.path, *words)

    def json_of(self, command: str, *words: str) -> Any:
        """What it prints for programs."""
        code, out, err = self.run_there(command, "--json", *words)
        self.assertEqual((code, err), (0, ""))
        return json.loads(out)
