# -*- test-case-name: tests.bench.test_lab -*-
"""
The place: three network namespaces, client – forwarder – server, joined by veth.

Where they cannot be had (not root, no ``ip``), everything runs on loopback and
the tables say so. The addresses are private and exist only inside the
namespaces. All that was made is removed at the end, also after Ctrl-C; what a
lab left behind that was killed outright is removed by the next one.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from bench.processes import LabError, Program, raise_descriptors, run, start

_PREFIX: Final = "pfbench"
_SETTINGS: Final = {
    # The row "none" goes from client to server through this router.
    "net/ipv4/ip_forward": "1",
    # Listening ports of the lab are below, so no outgoing connection takes one of them.
    "net/ipv4/ip_local_port_range": "28000 65535",
    # Thousands of short connections a second to one address: the same for every contestant.
    "net/ipv4/tcp_tw_reuse": "1",
    "net/core/somaxconn": "4096",
}


class Place(enum.Enum):
    """Where in the lab a program runs."""

    CLIENT = "client"
    FORWARDER = "forwarder"
    SERVER = "server"


_ADDRESSES: Final = {Place.CLIENT: "10.77.1.2", Place.FORWARDER: "10.77.1.1", Place.SERVER: "10.77.2.2"}


def namespace_name(pid: int, place: Place) -> str:
    """The name of a namespace of the lab that runs as `pid`."""
    return f"{_PREFIX}-{pid}-{place.value}"


def left_behind(names: Sequence[str], living: Sequence[int]) -> list[str]:
    """Those of `names` that a lab made which is no longer among the `living` processes."""
    found = []
    for name in names:
        prefix, _, rest = name.partition("-")
        pid, _, place = rest.partition("-")
        if prefix == _PREFIX and pid.isdigit() and place and int(pid) not in living:
            found.append(name)
    return found


def can_make_namespaces() -> str:
    """Empty if namespaces can be made here, else the reason why not."""
    if os.geteuid() != 0:
        return "not root"
    for tool in ("ip", "nsenter"):
        if shutil.which(tool) is None:
            return f"there is no {tool} command"
    probe = f"{_PREFIX}-{os.getpid()}-probe"
    try:
        run(["ip", "netns", "add", probe], 10)
        run(["ip", "netns", "del", probe], 10)
    except LabError as error:
        return str(error)
    return ""


def _remove(name: str) -> None:
    """Kill what runs in a namespace of ours and delete it."""
    with contextlib.suppress(LabError):
        for pid in run(["ip", "netns", "pids", name], 10).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    with contextlib.suppress(LabError):
        run(["ip", "netns", "del", name], 10)


def _lock_path(pid: int | str) -> Path:
    return Path(tempfile.gettempdir(), f"{_PREFIX}-{pid}.lock")


def _lock() -> int:
    """Say that this process runs a lab: a locked file, which the kernel unlocks however the process ends."""
    path = _lock_path(os.getpid())
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A sweep may have removed the file between the two calls.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _labs() -> list[int]:
    """Processes that run a lab now; the lock files of those that were killed are removed."""
    found = []
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}-*.lock"):
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    path.unlink()
            except BlockingIOError:
                found.append(int(path.stem.rpartition("-")[2]))
            finally:
                os.close(descriptor)
    return found


def sweep() -> list[str]:
    """Remove the namespaces and folders of labs that were killed; returns their names."""
    # What is there is listed before the living are asked: a lab that begins in between has nothing here yet.
    listed = []
    if can_make_namespaces() == "":
        listed = [line.split()[0] for line in run(["ip", "netns", "list"], 10).splitlines() if line.strip()]
    temporary = Path(tempfile.gettempdir())
    there = [path.name for path in temporary.glob(f"{_PREFIX}-*")]
    living = _labs()
    namespaces = left_behind(listed, living)
    for name in namespaces:
        _remove(name)
    folders = left_behind(there, living)
    for name in folders:
        shutil.rmtree(temporary / name, ignore_errors=True)
    return namespaces + folders


class Lab:
    """
    A context manager: the namespaces exist within it, programs started from it end with it.

    :ivar scratch: folder for configurations and logs, removed at the end.
    :ivar why_loopback: empty when there are namespaces, else why there are none.
    """

    def __init__(self, loopback: bool = False) -> None:
        self.why_loopback = "asked for" if loopback else can_make_namespaces()
        self.scratch = Path()
        self._programs: list[Program] = []
        self._counter = 0
        self._lock = -1

    @property
    def is_loopback(self) -> bool:
        """Whether everything runs on 127.0.0.1 in one namespace."""
        return bool(self.why_loopback)

    def __repr__(self) -> str:
        return f"<Lab {'loopback' if self.is_loopback else 'namespaces'} programs={len(self._programs)}>"

    def __enter__(self) -> Lab:
        raise_descriptors()
        self._lock = _lock()
        sweep()
        self.scratch = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{os.getpid()}-"))
        try:
            # nginx opens its configuration as root and its logs as an unprivileged worker.
            self.scratch.chmod(0o755)
            if not self.is_loopback:
                self._build()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean()

    def _build(self) -> None:
        client, forwarder, server = (namespace_name(os.getpid(), place) for place in Place)
        for name in (client, forwarder, server):
            run(["ip", "netns", "add", name], 10)
            run(["ip", "-n", name, "link", "set", "lo", "up"], 10)
        for here, device, there, subnet in (
            (client, "client", forwarder, "10.77.1"),
            (server, "server", forwarder, "10.77.2"),
        ):
            cable = ["type", "veth", "peer", "name", f"to{device}", "netns", there]
            run(["ip", "link", "add", "name", "uplink", "netns", here, *cable], 10)
            for namespace, name, host in ((here, "uplink", 2), (there, f"to{device}", 1)):
                run(["ip", "-n", namespace, "addr", "add", f"{subnet}.{host}/24", "dev", name], 10)
                run(["ip", "-n", namespace, "link", "set", name, "up"], 10)
            run(["ip", "-n", here, "route", "add", "default", "via", f"{subnet}.1"], 10)
        for place in Place:
            for key, value in _SETTINGS.items():
                run(self.within(place, ["sh", "-c", f"echo {value} > /proc/sys/{key}"]), 10)

    def _clean(self) -> None:
        # A second Ctrl-C while cleaning would leave namespaces and programs behind.
        kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for program in reversed(self._programs):
                program.stop(signal.SIGKILL, 1.0)
            if not self.is_loopback:
                for place in Place:
                    _remove(namespace_name(os.getpid(), place))
            shutil.rmtree(self.scratch, ignore_errors=True)
            _lock_path(os.getpid()).unlink(missing_ok=True)
            os.close(self._lock)
        finally:
            for number, action in kept.items():
                signal.signal(number, action)

    def address(self, place: Place) -> str:
        """The address by which `place` is reached."""
        return "127.0.0.1" if self.is_loopback else _ADDRESSES[place]

    def within(self, place: Place, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` at `place`; the process id stays that of `argv`."""
        if self.is_loopback:
            return list(argv)
        return ["nsenter", f"--net=/run/netns/{namespace_name(os.getpid(), place)}", *argv]

    def folder(self, name: str) -> Path:
        """A new empty folder under `scratch`."""
        self._counter += 1
        path = self.scratch / f"{self._counter:05d}-{name}"
        path.mkdir()
        path.chmod(0o777)
        return path

    @contextlib.contextmanager
    def program(
        self,
        place: Place,
        name: str,
        argv: Sequence[str],
        *,
        asked: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Iterator[Program]:
        """
        A program that runs for the length of a ``with`` block.

        :param asked: talk to it by `Program.ask` instead of keeping its output in a file.
        """
        self._counter += 1
        log = None if asked else self.scratch / f"{self._counter:05d}-{name}.out"
        program = start(name, self.within(place, argv), log, env, cwd)
        self._programs.append(program)
        try:
            yield program
        finally:
            program.stop()
            self._programs.remove(program)
            if log is not None:
                log.unlink(missing_ok=True)

    def run(self, place: Place, argv: Sequence[str], seconds: float) -> str:
        """Run `argv` at `place` to its end; its standard output."""
        return run(self.within(place, argv), seconds)
