"""What operators do during a soak: reload, kill, tap, scrape, pause, drain and resume, at random."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.integration.forwarder import Forwarder, wait_until
from tests.soak.rules import PLACES

#: Seconds for an answer.
TIMEOUT = 60.0


def ask(path: Path, request: str) -> dict[str, Any]:
    """The control socket's last answer to a request."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(str(path))
        sock.sendall(request.encode() + b"\n")
        sock.shutdown(socket.SHUT_WR)
        text = b""
        while data := sock.recv(65536):
            text += data
    answer: dict[str, Any] = json.loads(text.splitlines()[-1])
    return answer


class Operators:
    """
    A thread of them.

    :ivar done: how often each thing was done.
    :ivar complaints: what was refused and should not have been.
    """

    def __init__(
        self, forwarder: Forwarder, ports: dict[str, int], chance: Random, rules: Callable[[], str]
    ) -> None:
        """:param rules: other rules, each time."""
        self._forwarder = forwarder
        self._path = forwarder.directory / "admin.sock"
        self._url = f"http://127.0.0.1:{ports['metrics']}/metrics"
        self._chance = chance
        self._rules = rules
        self._stop = threading.Event()
        self.done: dict[str, int] = {}
        self.complaints: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being done, and leave every rule at work."""
        self._stop.set()
        self._thread.join(2 * TIMEOUT)
        for place in PLACES:
            accepts = partial(self._accepts, f"resume {place.name}")
            wait_until(accepts, TIMEOUT, partial("{} does not accept".format, place.name))

    def agree(self, rules: str) -> None:
        """Have these rules at work: the same before each look at the figures, which depend on them."""
        self._write(rules)
        self._told_to_reload()

    def _accepts(self, request: str) -> bool:
        return bool(ask(self._path, request).get("ok"))

    def _run(self) -> None:
        ways = (self._reload, self._reload, self._hang_up, self._kill, self._tap, self._scrape, self._look)
        ways += (self._pause, self._drain, self._break)
        while not self._stop.wait(self._chance.random() * 0.5):
            way = self._chance.choice(ways)
            name = way.__name__.lstrip("_")
            try:
                way()
            except Exception as problem:
                self.complaints.append(f"{name}: {problem!r}")
            self.done[name] = self.done.get(name, 0) + 1

    def _told(self, request: str) -> dict[str, Any]:
        answer = ask(self._path, request)
        if not answer.get("ok") and answer.get("error") not in ("not-found", "conflict", "refused"):
            self.complaints.append(f"{request}: {answer}")
        return answer

    def _write(self, rules: str) -> None:
        file = self._forwarder.directory / "rules.conf"
        beside = file.with_suffix(".new")
        beside.write_text(rules)
        beside.replace(file)

    def _reload(self) -> None:
        self._write(self._rules())
        self._told_to_reload()

    def _told_to_reload(self) -> None:
        answer = ask(self._path, "reload")
        if not answer.get("ok"):
            self.complaints.append(f"reload: {answer}")

    def _hang_up(self) -> None:
        self._write(self._rules())
        self._forwarder.signal(signal.SIGHUP)

    def _break(self) -> None:
        """A file that is refused, and the good one again."""
        file = self._forwarder.directory / "rules.conf"
        good = file.read_text()
        file.write_text(good + "nonsense\n")
        if ask(self._path, "reload").get("ok"):
            self.complaints.append("a bad file was taken")
        file.write_text(good)

    def _kill(self) -> None:
        self._told(f"kill rule={self._chance.choice(PLACES).name}")

    def _tap(self) -> None:
        rows = self._told("sessions limit=20")["result"]["sessions"]
        if rows:
            with contextlib.suppress(ConnectionResetError):
                self._told(f"tap {self._chance.choice(rows)['id']} limit=10KiB")

    def _look(self) -> None:
        for request in ("status", "rules", "sessions", "top count=1 interval=0.5s"):
            self._told(request)

    def _scrape(self) -> None:
        with urllib.request.urlopen(self._url, timeout=TIMEOUT) as page:
            page.read()

    def _pause(self) -> None:
        name = self._chance.choice(PLACES).name
        self._told(f"pause {name}")
        self._stop.wait(self._chance.random())
        self._told(f"resume {name}")

    def _drain(self) -> None:
        name = self._chance.choice(PLACES).name
        self._told(f"drain {name}")
        self._stop.wait(self._chance.random())
        self._told(f"resume {name}")
