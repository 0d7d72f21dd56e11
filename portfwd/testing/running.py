# -*- test-case-name: tests.testing.test_running -*-
"""
A running forwarder for tests, in its own process on the loopback address.

>>> with RunningForwarder("web: 127.0.0.1:0 -> 127.0.0.1:8080") as forwarder:  # doctest: +SKIP
...     client = forwarder.connect("web")

It is a process, because test runners other than trial have no running reactor. Filters in the directory of
the test can be used: ``filter python:my_module.MyFilter``.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from attrs import define, field

from portfwd.values import counted

#: Maximum seconds for a start, and for a stop.
TIME_LIMIT: Final = 30.0

_LISTENS: Final = re.compile(
    r"(?P<rule>[\w.-]+): listening on (?:tls:)?(?P<host>\S+):(?P<port>\d+)(?:/udp)? -> "
)


class ForwarderFailed(Exception):
    """The forwarder did not start, or did not stop. The text has its log."""


@define(eq=False)
class RunningForwarder:
    """
    A context manager that runs a forwarder in a process of its own while its block runs.

    :ivar rules: lines of a rules file. Each rule needs a name. Port 0 is any free port.
    :ivar path: the directories for ``python:`` filters; by default the current directory.
    :ivar addresses: the bound address of each rule, by name, while the forwarder runs.
    """

    rules: str
    path: Sequence[str] = field(factory=lambda: [os.getcwd()])
    addresses: dict[str, tuple[str, int]] = field(factory=dict, init=False)
    _directory: tempfile.TemporaryDirectory[str] | None = field(default=None, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> str:
        """The text of its log so far."""
        return self._file("log").read_text("utf-8", "replace") if self._directory is not None else ""

    @property
    def sessions(self) -> list[Mapping[str, Any]]:
        """The sessions that are over: the JSON objects of the access log."""
        access = self._file("access")
        return [json.loads(line) for line in access.read_text().splitlines()] if access.exists() else []

    def wait_for_sessions(self, count: int) -> list[Mapping[str, Any]]:
        """
        Wait until `count` sessions are over, and return them.

        :raises ForwarderFailed: they are not over after 30 seconds.
        """
        deadline = time.monotonic() + TIME_LIMIT
        while len(found := self.sessions) < count:
            if time.monotonic() > deadline:
                raise ForwarderFailed(f"{len(found)} of {counted(count, 'session')} over:\n{self.log}")
            time.sleep(0.02)
        return found

    def _file(self, name: str) -> Path:
        assert self._directory is not None
        return Path(self._directory.name, name)

    def __enter__(self) -> RunningForwarder:
        """
        Start the forwarder.

        :raises ForwarderFailed: it cannot be started; the text has its log.
        """
        self._directory = tempfile.TemporaryDirectory()
        access = self._file("access")
        self._file("rules.conf").write_text(f"log access=json file={access}\n{self.rules}\n", "utf-8")
        paths = [os.path.abspath(one) for one in self.path]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]),
        }
        with open(self._file("log"), "wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - all arguments are ours
                [sys.executable, "-m", "portfwd.cli.main", "run", "-c", os.fspath(self._file("rules.conf"))],
                stdout=log,
                stderr=log,
                cwd=self._directory.name,
                env=environment,
            )
        self._wait("portfwd is ready")
        for found in _LISTENS.finditer(self.log):
            self.addresses[found["rule"]] = (found["host"].strip("[]"), int(found["port"]))
        return self

    def _wait(self, words: str) -> None:
        deadline = time.monotonic() + TIME_LIMIT
        assert self._process is not None
        while words not in self.log:
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = self.log
                self.stop()
                raise ForwarderFailed(f"the forwarder does not run:\n{log}")
            time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def stop(self) -> None:
        """End the process; open sessions are cut. `log` and `sessions` are gone after that."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                # A second signal ends the drain.
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                process.terminate()
                try:
                    process.wait(TIME_LIMIT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        directory, self._directory = self._directory, None
        if directory is not None:
            directory.cleanup()

    def connect(self, rule: str, timeout: float = 5.0) -> socket.socket:
        """Connect a client to `rule`."""
        return socket.create_connection(self.addresses[rule], timeout)
