# -*- test-case-name: tests.bench.test_loads -*-
"""
What a connection costs that does nothing, and one whose reader has stopped.

Memory is the difference between a forwarder that has served one connection and
the same with the crowd: RSS, and the bytes that lie in its pipes, which the
kernel holds for it. Socket buffers are the kernel's for every contestant and
are not counted.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Final

from bench.lab import Lab, Place
from bench.loads.api import TARGETS, Load, Running, Scale
from bench.peers.api import Peer
from bench.peers.checkout import environment
from bench.processes import LabError, Memory, Program, descriptors

_CROWD: Final = (sys.executable, "-m", "bench.loads.crowd")

#: Descriptors that contestants keep for themselves: listeners, pipes, logs, a reserve.
_SPARE: Final = 1000


def start_crowd_server(lab: Lab, stack: contextlib.ExitStack, size: int) -> Program:
    """The sending side of `bench.loads.crowd`."""
    port = TARGETS["hold"]
    argv = [*_CROWD, "server", lab.address(Place.SERVER), str(port), str(size)]
    program = stack.enter_context(
        lab.program(Place.SERVER, "crowd-server", argv, asked=True, env=environment())
    )
    program.wait_listening([port])
    return program


def start_crowd_client(running: Running, stack: contextlib.ExitStack) -> Program:
    """Its receiving side, through `running`."""
    host, port = running.reach("hold")
    argv = [*_CROWD, "client", host, str(port)]
    return stack.enter_context(
        running.lab.program(Place.CLIENT, "crowd", argv, asked=True, env=environment())
    )


def open_all(client: Program, number: int) -> None:
    """
    Open `number` connections and wait for every greeting.

    :raises LabError: if one did not come through.
    """
    answer = client.ask(f"open {number}", 90).split()
    if answer[:2] != ["open", str(number)]:
        raise LabError(f"{answer[-1]} of {number} connections did not come through")


def each(before: Memory, after: Memory, number: int) -> dict[str, float]:
    """Differences of memory, in KiB a connection."""
    resident = (after.resident - before.resident) / number / 1024
    piped = (after.piped - before.piped) / number / 1024
    room = (after.pipe_room - before.pipe_room) / number / 1024
    return {
        "kib_each": resident + piped,
        "rss_kib_each": resident,
        "pipe_kib_each": piped,
        "pipe_room_kib_each": room,
    }


class Quiet(Load):
    """What idle and stopped have in common: a fresh forwarder, and none that takes a process for each."""

    fresh = True

    def takes(self, peer: Peer) -> bool:
        """Pages that processes share would be counted once for each."""
        return peer.starts and not peer.forks


class Idle(Quiet):
    """`number` connections that have been greeted and then say nothing."""

    def __init__(self, number: int) -> None:
        # A session takes two descriptors; where this machine does not allow enough, fewer say the same.
        possible = min(number, (descriptors() - _SPARE) // 2)
        said = f"{possible} idle connections"
        if possible < number:
            said += f" (not {number}: {descriptors()} descriptors allowed here)"
        super().__init__(f"idle-{number}", "idle", said)
        self._number = possible
        self.in_quick = number == 1000

    def servers(self, lab: Lab, stack: contextlib.ExitStack) -> None:
        """A crowd that is sent nothing."""
        start_crowd_server(lab, stack, 0)

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """Memory with one, then with all."""
        with contextlib.ExitStack() as stack:
            client = start_crowd_client(running, stack)
            open_all(client, 1)
            before = running.memory()
            open_all(client, self._number)
            return each(before, running.memory(), self._number)


class Stopped(Quiet):
    """Readers that stop before they have read anything, and later read all."""

    def __init__(self) -> None:
        super().__init__("stopped", "stopped", "Stopped readers")

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """Memory while they are stopped; then all is read and compared."""
        with contextlib.ExitStack() as stack:
            server = start_crowd_server(running.lab, stack, scale.stopped_bytes)
            client = start_crowd_client(running, stack)
            open_all(client, 1)
            server.ask("sent", 60)
            before = running.memory()
            open_all(client, scale.stopped)
            taken = int(server.ask("sent", 60).split()[1])
            total = (scale.stopped + 1) * scale.stopped_bytes
            if taken >= total:
                raise LabError("nothing was held back: the buffers took all of it")
            figures = each(before, running.memory(), scale.stopped)
            _, arrived, wrong = client.ask("read", 120).split()
            if int(wrong) and int(arrived) >= total:
                raise LabError(f"{wrong} connections got bytes that are not theirs")
        lost = float(total - int(arrived))
        return {**figures, "held_mib_each": taken / (scale.stopped + 1) / 2**20, "lost_bytes": lost}


def rows() -> list[Load]:
    """1 000 and 10 000 idle ones, then stopped ones."""
    return [Idle(1000), Idle(10000), Stopped()]
