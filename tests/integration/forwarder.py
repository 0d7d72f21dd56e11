"""
A running ``twistd portfwd``, watched from outside.

It is started as a user starts it, in a process of its own, and everything a
test wants to know comes from where an operator would look: its log, its access
log, ``/proc``. Ports are always chosen by the kernel and read back from the
log, so that any number of tests can run at once.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from portfwd.values import Address, InetAddress, UnixAddress

ROOT = Path(__file__).resolve().parents[2]
TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
#: Seconds for things that take a fraction of one unless they never happen. Generous, since
#: it is only waited for in failures, and a virtual machine can lose seconds to its host.
TIMEOUT = 60.0
CLOSE_WAIT = "08"


@frozen
class AccessLine:
    """The closing line of one session, read from the JSON form."""

    rule: str
    reason: str
    to_upstream: int
    to_client: int
    ended_first: str | None
    client: str | None
    upstream: str | None
    relay: str
    raw: dict[str, Any]

    @classmethod
    def read(cls, text: str) -> AccessLine:
        """The fields the tests look at."""
        line = json.loads(text)
        return cls(
            rule=line["rule"],
            reason=line["reason"],
            to_upstream=line["to_upstream"]["bytes"],
            to_client=line["to_client"]["bytes"],
            ended_first=line["ended_first"],
            client=line["client"],
            upstream=line["upstream"],
            relay=line["relay"],
            raw=line,
        )


def wait_until(reached: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    """Look every few milliseconds until `reached`; fail with `what` after `seconds`."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not reached():
        if time.monotonic() > until:
            raise AssertionError(what())
        pause.wait(0.01)


class Forwarder:
    """
    One process.

    :param directory: its working directory; rules, log and access log stand there.
    :param rules: the text of the rules file; None: the arguments say it all.
    :param arguments: after ``portfwd``.
    :param twistd: before ``portfwd``, in place of ``-n --pidfile=``.
    :param program: what forwards, in place of all that.
    :param descriptors: ``ulimit -n``, soft and hard; None: as it is.
    :param launcher: a command that is given twistd's, and execs it.
    :param pass_fds: descriptors that are inherited.
    """

    def __init__(
        self,
        directory: Path,
        rules: str | None,
        arguments: Sequence[str] = (),
        *,
        twistd: Sequence[str] = ("-n", "--pidfile="),
        program: Sequence[str] = (),
        descriptors: int | None = None,
        launcher: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.directory = directory
        self.access_log = directory / "access.log"
        command = [*(program or (sys.executable, "-c", TWISTD, *twistd, "portfwd"))]
        if rules is not None:
            file = directory / "rules.conf"
            file.write_text(rules)
            command += ["-c", str(file)]
        command += arguments
        if descriptors is not None:
            command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command]
        command = [*launcher, *command]
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            pass_fds=pass_fds,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __repr__(self) -> str:
        return f"<Forwarder {self.pid} {self._process.poll()}>"

    def _read(self) -> None:
        output = self._process.stdout
        assert output is not None
        for line in output:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def log(self) -> str:
        """All it has written so far."""
        with self._news:
            return "\n".join(self.lines)

    def wait_for_line(self, pattern: str, seconds: float = TIMEOUT) -> re.Match[str]:
        """The first match of `pattern` in a line of the log, waiting until it is there."""
        until = time.monotonic() + seconds
        seen = 0
        with self._news:
            while True:
                for line in self.lines[seen:]:
                    if (match := re.search(pattern, line)) is not None:
                        return match
                seen = len(self.lines)
                left = until - time.monotonic()
                if left <= 0 or not (self._reader.is_alive() or self.lines[seen:]):
                    gone = "" if self._process.poll() is None else f" (exited with {self._process.poll()})"
                    raise AssertionError(f"no line {pattern!r}{gone} in:\n" + "\n".join(self.lines))
                self._news.wait(min(left, 0.2))

    def wait_until_ready(self) -> None:
        """Wait for the line that says every listener is bound."""
        self.wait_for_line("portfwd is ready")

    def addresses(self, rule: str) -> list[Address]:
        """Where `rule` listens, in the order of its ports."""
        found = addresses_in(self.log, rule)
        if not found:
            raise AssertionError(f"rule {rule!r} listens nowhere:\n{self.log}")
        return found

    def address(self, rule: str) -> Address:
        """The only address of `rule`."""
        (address,) = self.addresses(rule)
        return address

    def port(self, rule: str) -> int:
        """The port of `rule`."""
        address = self.address(rule)
        assert isinstance(address, InetAddress), address
        return address.port

    # -- the access log ----------------------------------------------------------

    def access_text(self) -> str:
        """The access log as it is now."""
        return self.access_log.read_text() if self.access_log.exists() else ""

    def access_lines(self, count: int, seconds: float = TIMEOUT) -> list[AccessLine]:
        """
        The closing lines of a JSON access log, once there are `count` of them.

        :raises AssertionError: if there are more, or not so many in time.
        """
        wait_until(
            lambda: self.access_text().count("\n") >= count,
            seconds,
            lambda: f"not {count} access lines:\n{self.access_text()}\nlog:\n{self.log}",
        )
        lines = [AccessLine.read(line) for line in self.access_text().splitlines()]
        if len(lines) != count:
            raise AssertionError(f"{len(lines)} access lines, expected {count}:\n{self.access_text()}")
        return lines

    # -- what the kernel says ------------------------------------------------------

    def open_descriptors(self) -> int:
        """How many descriptors the process has, pipes not counted: `open_pipes`."""
        return sum(not target.startswith("pipe:") for target in self.descriptors())

    def open_pipes(self) -> int:
        """How many ends of pipes it has; empty pipes are kept for the next flow in bulk."""
        return sum(target.startswith("pipe:") for target in self.descriptors())

    def descriptors(self) -> list[str]:
        """What each descriptor is, as ``/proc/PID/fd`` tells it."""
        found = []
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{self.pid}/fd/{name}"))
            except FileNotFoundError:
                continue  # Closed since the directory was listed.
        return found

    def cpu_seconds(self) -> float:
        """User and system time the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def main_thread(self) -> tuple[float, float]:
        """
        Seconds for which its main thread has run, and for which it was ready to run and had no CPU.

        The first is late by a tick of the kernel while the thread runs.
        """
        ran, waited, _ = Path(f"/proc/{self.pid}/schedstat").read_text().split()
        return int(ran) / 1e9, int(waited) / 1e9

    def sockets_in_close_wait(self) -> list[str]:
        """Lines of ``/proc/net/tcp``: the process's sockets whose peer has ended and that nobody closed."""
        inodes = {target[8:-1] for target in self.descriptors() if target.startswith("socket:[")}
        found = []
        for table in ("tcp", "tcp6"):
            path = Path("/proc/net") / table
            if path.exists():
                rows = [row.split() for row in path.read_text().splitlines()[1:]]
                found += [" ".join(row) for row in rows if row[3] == CLOSE_WAIT and row[9] in inodes]
        return found

    # -- the end ---------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def wait(self, seconds: float = TIMEOUT) -> int:
        """The exit code, once the process has ended."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.log}") from None
        self._reader.join(seconds)
        return code

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.running:
            self.signal(signal.SIGTERM)
        return self.wait()

    def clean_up(self) -> None:
        """Whatever happened, leave no process behind."""
        if self.running:
            self._process.kill()
        self._process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        if self._process.stdout is not None:
            self._process.stdout.close()


def is_listening(port: int) -> bool:
    """Whether some socket listens on `port`, without connecting to it."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [row.split() for row in table][1:]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def addresses_in(log: str, rule: str) -> list[Address]:
    """Where `rule` listens, as `log` tells it; each port of a range is called ``RULE:PORT``."""
    pattern = re.compile(rf"(?:^|\s){re.escape(rule)}(?::\d+)?: listening on (\S+)")
    return [address_from(match[1]) for line in log.splitlines() if (match := pattern.search(line))]


def address_from(text: str) -> Address:
    """Read an address as the log prints it."""
    if text.startswith("unix:"):
        return UnixAddress(text[5:])
    host, _, port = text.removeprefix("tls:").removesuffix("/udp").rpartition(":")
    return InetAddress(host.strip("[]").replace("*", ""), int(port))
