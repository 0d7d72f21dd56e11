# -*- test-case-name: tests.bench.test_peers -*-
"""
What a contestant is.

A `Peer` turns a `Setup` (where to listen, where to forward, whether to log) into
files and a command line. The lab starts that and asks for `Counters`, which a
peer without any simply does not have.
"""

from __future__ import annotations

import enum
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar

from attrs import frozen

from bench.processes import Program


class AbsentError(Exception):
    """A contestant cannot take part; the message says why and is shown."""


class Logs(enum.Enum):
    """What a contestant writes about sessions during a row."""

    OFF = "logs-off"
    ON = "logs-on"
    #: Off, except for one who can only count in its log; for rows with a handful of sessions.
    COUNTERS = "counters"


@frozen
class Forward:
    """One rule: a port of the forwarder's address, and the server's address and port."""

    name: str
    port: int
    target_host: str
    target_port: int


@frozen
class Setup:
    """
    What a contestant is to do.

    :ivar host: address to listen on.
    :ivar folder: empty, writable, its own.
    :ivar read_size: bytes; None: its best known setting.
    :ivar datagrams: each of `forwards` is one for UDP as well, on the same ports.
    """

    host: str
    forwards: tuple[Forward, ...]
    folder: Path
    logs: Logs = Logs.OFF
    read_size: int | None = None
    datagrams: bool = False


@frozen
class Counters:
    """
    What a contestant says it did since it started.

    :ivar bytes: relayed, both directions; None where it does not say.
    :ivar calls: system calls that read or wrote them; None likewise.
    :ivar spliced: bytes that never left the kernel; None likewise.
    """

    bytes: int | None = None
    calls: int | None = None
    spliced: int | None = None


class Peer:
    """
    A contestant.

    :ivar name: short, unique, stable: results are compared by it.
    :cvar about: its setting in a few words.
    :cvar forks: whether it takes a process for each connection.
    :cvar starts: whether there is anything to start (the row without forwarder has nothing).
    :cvar in_quick: whether ``--quick`` asks it too: those that a goal refers to, and no forwarder at all.
    :cvar only_group: the only group of rows that it takes part in; empty: in all that take it.
    :cvar ready_line: text of its output that means ready; empty: it is ready when it listens.
    """

    name: str
    about: ClassVar[str]
    forks: ClassVar[bool] = False
    starts: ClassVar[bool] = True
    logs_access: ClassVar[bool] = True
    takes_read_size: ClassVar[bool] = False
    takes_datagrams: ClassVar[bool] = False
    in_quick: ClassVar[bool] = True
    only_group: ClassVar[str] = ""
    ready_line: ClassVar[str] = ""

    def __repr__(self) -> str:
        return f"<Peer {self.name}: {self.about}>"

    def version(self) -> str:
        """
        Its version.

        :raises AbsentError: if it cannot take part here.
        """
        raise NotImplementedError

    def command(self, setup: Setup) -> list[str]:
        """Write its files into ``setup.folder`` and return its command line."""
        raise NotImplementedError

    def environment(self) -> dict[str, str] | None:
        """The environment it is started in; None: the lab's."""
        return None

    def counters(self, setup: Setup, program: Program) -> Counters:
        """What it counted since its start."""
        return Counters()


def said_by(argv: list[str]) -> str:
    """
    The first line a program says about itself.

    :raises AbsentError: if it is not installed.
    """
    if shutil.which(argv[0]) is None:
        raise AbsentError(f"{argv[0]} is not installed")
    done = subprocess.run(argv, capture_output=True, timeout=10, check=False)
    lines = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()
    return lines[0].strip() if lines else "unknown version"
