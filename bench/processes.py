# -*- test-case-name: tests.bench.test_processes -*-
"""
Programs under measurement: started, awaited, accounted for by the kernel, ended.

CPU time and memory come from ``/proc`` for a program and all its children, so
that programs that fork are judged like those that do not. Every program is a
session of its own and dies with the lab. Linux only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import selectors
import shutil
import signal
import stat
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import define, frozen

PROC: Final = Path("/proc")
_F_GETPIPE_SZ: Final = 1032
#: A poll of readiness: short beside the times that are measured, long enough not to disturb them.
POLL: Final = 0.01


#: Sockets on both sides of 10 000 sessions, and room.
_DESCRIPTORS: Final = 65536


def raise_descriptors() -> None:
    """Allow this process and its children as many descriptors as the system lets it have, up to 65536."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, hard))
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    except (ValueError, OSError):
        # Only with CAP_SYS_RESOURCE may the hard limit be raised, which not every root has.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors() -> int:
    """How many descriptors a program of the lab may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class LabError(Exception):
    """A sample could not be taken; the message says why and stands in the table."""


@frozen
class Memory:
    """
    What a program holds, in bytes.

    :ivar resident: RSS of all its processes.
    :ivar piped: bytes that lie in its pipes.
    :ivar pipe_room: what those pipes could hold in slots of one page; a slot takes up no memory before it
        is filled, and may then hold a segment that is larger than a page.
    """

    resident: int
    piped: int
    pipe_room: int


@frozen
class StatLine:
    """The fields of ``/proc/PID/stat`` that are used here (proc_pid_stat(5)); times in clock ticks."""

    parent: int
    own_ticks: int
    reaped_ticks: int


def parse_stat(text: str) -> StatLine:
    """
    Read ``/proc/PID/stat``.

    The command name is in parentheses and may itself hold blanks and parentheses, so fields are counted
    from the last closing one.
    """
    fields = text.rpartition(")")[2].split()
    return StatLine(int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]))


def parse_listening(text: str) -> set[int]:
    """The ports in state LISTEN (``0A``) in the text of ``/proc/PID/net/tcp`` or ``tcp6``."""
    ports = set()
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == "0A":
            ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def tree(pid: int) -> list[int]:
    """`pid` and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir(PROC):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                parent = parse_stat((PROC / entry / "stat").read_text()).parent
                children.setdefault(parent, []).append(int(entry))
    found = [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system seconds of `pid`, its living descendants, and those already waited for."""
    ticks = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            line = parse_stat((PROC / str(member) / "stat").read_text())
            ticks += line.own_ticks + line.reaped_ticks
    return ticks / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    return int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _pipes(pid: int) -> tuple[int, int]:
    """Bytes in the pipes of `pid`, and the room of those pipes; each pipe counts once."""
    seen: set[int] = set()
    held = room = 0
    folder = PROC / str(pid) / "fd"
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            what = os.stat(folder / name)
            if not stat.S_ISFIFO(what.st_mode) or what.st_ino in seen:
                continue
            seen.add(what.st_ino)
            fd = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK)
            try:
                held += struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
                room += fcntl.fcntl(fd, _F_GETPIPE_SZ)
            finally:
                os.close(fd)
    return held, room


def memory(pid: int) -> Memory:
    """What `pid` and its living descendants hold."""
    resident = piped = room = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            resident += _resident(member)
            more_piped, more_room = _pipes(member)
            piped += more_piped
            room += more_room
    return Memory(resident, piped, room)


def complaint(output: str) -> str:
    """What to quote of a failed program's output: its first line about an error, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    about = [line for line in lines if re.search(r"error: |\[emerg\]|\[alert\]", line, re.IGNORECASE)]
    return (about or lines[-1:] or ["it said nothing"])[0]


def until(is_true: Callable[[], bool], seconds: float, what: str) -> None:
    """
    Wait for `is_true`.

    :raises LabError: naming `what` when `seconds` have passed.
    """
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds:g} s")
        time.sleep(POLL)


@define
class Program:
    """
    One started program.

    :ivar name: what messages call it.
    :ivar log: where its output goes; None when the lab talks to it through pipes.
    :ivar started: `time.monotonic` of its start.
    """

    name: str
    popen: subprocess.Popen[bytes]
    log: Path | None
    started: float

    @property
    def pid(self) -> int:
        """The process that was started; its children are found from it."""
        return self.popen.pid

    def output(self) -> str:
        """All it has written so far."""
        return self.log.read_text(errors="replace") if self.log else ""

    def check_alive(self) -> None:
        """Raise `LabError` with its own words if it has exited."""
        code = self.popen.poll()
        if code is not None:
            raise LabError(f"{self.name} exited with {code}: {complaint(self.output())}")

    def listening(self) -> set[int]:
        """TCP ports somebody listens on in this program's network namespace."""
        ports: set[int] = set()
        for table in ("tcp", "tcp6"):
            with contextlib.suppress(OSError):
                ports |= parse_listening((PROC / str(self.pid) / "net" / table).read_text())
        return ports

    def wait_listening(self, ports: Iterable[int], seconds: float = 10.0) -> None:
        """Wait until all `ports` are listened on, without connecting to any."""
        wanted = set(ports)

        def are_open() -> bool:
            self.check_alive()
            return wanted <= self.listening()

        until(are_open, seconds, f"{self.name} listening on {len(wanted)} port(s)")

    def wait_output(self, text: str, seconds: float = 10.0) -> None:
        """Wait until `text` has been written."""

        def is_said() -> bool:
            self.check_alive()
            return text in self.output()

        until(is_said, seconds, f"{self.name} saying {text!r}")

    def ask(self, line: str, seconds: float) -> str:
        """Write one line to a program that was started with pipes; return its one line of answer."""
        if self.popen.stdin is None or self.popen.stdout is None:
            raise LabError(f"{self.name} was not started to be asked")
        try:
            self.popen.stdin.write(line.encode() + b"\n")
            self.popen.stdin.flush()
        except BrokenPipeError:
            raise LabError(f"{self.name} ended before {line!r}") from None
        answer = b""
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.popen.stdout, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise LabError(f"{self.name}: no answer to {line!r} within {seconds:g} s")
                piece = os.read(self.popen.stdout.fileno(), 4096)
                if not piece:
                    raise LabError(f"{self.name} ended at {line!r}")
                answer += piece
        return answer.decode().strip()

    def stop(self, first: signal.Signals = signal.SIGTERM, seconds: float = 3.0) -> None:
        """End it and its process group: `first`, then SIGKILL. Does nothing if it has ended already."""
        for number, timeout in ((first, seconds), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout)
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _tied(argv: Sequence[str]) -> list[str]:
    """`argv` so that the kernel kills it when the lab dies without cleaning up."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *argv] if setpriv else list(argv)


def start(
    name: str,
    argv: Sequence[str],
    log: Path | None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Program:
    """
    Start a program in a session of its own.

    :param log: file for its output; None: its standard input and output are pipes for `Program.ask`.
    """
    started = time.monotonic()
    if log is None:
        popen = subprocess.Popen(
            _tied(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    else:
        with log.open("wb") as sink:
            popen = subprocess.Popen(
                _tied(argv),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
    return Program(name, popen, log, started)


def run(argv: Sequence[str], seconds: float, env: Mapping[str, str] | None = None) -> str:
    """
    Run a program to its end and return its standard output.

    :raises LabError: if it fails or takes longer than `seconds`.
    """
    try:
        done = subprocess.run(
            _tied(argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, env=env, check=False
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{Path(argv[0]).name}: not finished within {seconds:g} s") from None
    if done.returncode != 0:
        said = complaint((done.stderr or done.stdout).decode(errors="replace"))
        raise LabError(f"{' '.join(argv[-6:])}: exit {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")
