# -*- test-case-name: tests.bench.test_loads -*-
"""What a row of the lab is, and what it is handed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from bench.lab import Lab, Place
from bench.peers.api import Counters, Logs, Peer, Setup
from bench.processes import Memory, Program, cpu_seconds, memory

GIB: Final = 2**30
#: Where the servers listen, and under which name a forwarder's rule leads there.
TARGETS: Final = {"bulk": 5201, "ping": 6379, "web": 8080, "hold": 9000}
#: Ports of the first contestant's rules; the next has its own fifty further on.
FIRST_PORT: Final = 20000


@frozen
class Scale:
    """
    How much of each work is done.

    :ivar seconds: of bulk traffic for each sample.
    :ivar requests: of request/response for each sample; a tenth of it for one connection.
    :ivar connections: new ones for each sample.
    :ivar stopped: readers that stop.
    :ivar stopped_bytes: that each is sent; more than socket buffers and a pipe full of large segments hold.
    """

    seconds: float
    requests: int
    connections: int
    stopped: int
    stopped_bytes: int


FULL: Final = Scale(3, 60000, 10000, 50, 24 * 2**20)
QUICK: Final = Scale(1, 20000, 3000, 10, 24 * 2**20)
SMOKE: Final = Scale(1, 1000, 200, 4, 24 * 2**20)


@frozen
class Running:
    """
    A contestant at work.

    :ivar program: None for the row without forwarder.
    :ivar ready_s: seconds from its start until it was ready; None likewise.
    """

    peer: Peer
    setup: Setup
    program: Program | None
    lab: Lab
    ready_s: float | None = None

    def reach(self, target: str) -> tuple[str, int]:
        """Host and port at which the client finds `target` through this contestant."""
        if self.program is None:
            return self.lab.address(Place.SERVER), TARGETS[target]
        # Of many rules to one target the last is taken: if that one is there, all are.
        ports = [forward.port for forward in self.setup.forwards if forward.target_port == TARGETS[target]]
        return self.setup.host, ports[-1]

    def cpu(self) -> float:
        """CPU seconds of the forwarder so far; 0 where there is none."""
        return cpu_seconds(self.program.pid) if self.program else 0.0

    def memory(self) -> Memory:
        """What the forwarder holds."""
        return memory(self.program.pid) if self.program else Memory(0, 0, 0)

    def counters(self) -> Counters:
        """What the forwarder counted; a contestant that cannot be asked just now has none."""
        if self.program is None:
            return Counters()
        with contextlib.suppress(OSError):
            return self.peer.counters(self.setup, self.program)
        return Counters()


class Load:
    """
    A row of the lab.

    :ivar name: unique; goals refer to it.
    :ivar group: what ``--only`` takes.
    :ivar title: heading of its table.
    :ivar logs: what contestants log during it.
    :ivar read_size: bytes they are asked to read at once, or None.
    :ivar fresh: whether each sample needs a contestant that has done nothing yet.
    :ivar rules: rules each contestant gets; 0: one for each target.
    :ivar datagrams: whether contestants are to forward UDP as well.
    :ivar in_quick: whether ``--quick`` includes it.
    """

    logs: Logs = Logs.OFF
    read_size: int | None = None
    fresh: bool = False
    rules: int = 0
    datagrams: bool = False
    in_quick: bool = True

    def __init__(self, name: str, group: str, title: str) -> None:
        self.name = name
        self.group = group
        self.title = title

    def __repr__(self) -> str:
        return f"<Load {self.name}>"

    def skipped(self, folder: Path) -> str:
        """Why this row cannot be measured at all; empty if it can."""
        return ""

    def takes(self, peer: Peer) -> bool:
        """Whether this contestant is asked."""
        return True

    def servers(self, lab: Lab, stack: contextlib.ExitStack) -> None:
        """Start what must listen before the contestants do; it runs as long as `stack`."""

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """
        Take one sample.

        :raises LabError: if it cannot be had; the table says why.
        """
        raise NotImplementedError
