# -*- test-case-name: tests.bench.test_loads -*-
"""
A reload with 10 000 rules that are all different afterwards, under traffic.

From the signal until the forwarder says that it is done; meanwhile one connection exchanges a byte
every millisecond, and new ones come. The longest that any of them waits is the stall; the same is
measured without a reload, because a machine has stalls of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.lab import Lab, Place
from bench.loads.api import TARGETS, Load, Running, Scale
from bench.peers.api import Peer
from bench.peers.checkout import environment
from bench.processes import LabError, Program, until

_TICKING: Final = (sys.executable, "-m", "bench.loads.ticking")
#: Seconds that the same is measured without a reload: as long as a reload may take.
_ALONE: Final = 3.0


def said_since(log: Path, offset: int) -> str:
    """What was written to `log` behind its first `offset` bytes: it may be large, and is looked at often."""
    with log.open("rb") as file:
        file.seek(offset)
        return file.read().decode(errors="replace")


def parse_worst(answer: str) -> tuple[float, int]:
    """
    Milliseconds of the longest wait, and how many connections failed.

    :raises LabError: if there was no traffic.
    """
    word, worst, connections, failures = (*answer.split(), "", "", "", "")[:4]
    if word != "worst" or not int(connections):
        raise LabError(f"no traffic went through: {answer}")
    return float(worst), int(failures)


class Reload(Load):
    """SIGHUP after each rule got another option."""

    fresh = True
    rules = 10000

    def __init__(self) -> None:
        super().__init__("reload-10000", "reload", "Reload with 10 000 rules that all change")

    def takes(self, peer: Peer) -> bool:
        """The others are restarted, or start a second process."""
        return peer.name == "portfwd-auto"

    def servers(self, lab: Lab, stack: contextlib.ExitStack) -> None:
        """Somebody who answers every byte."""
        port = TARGETS["hold"]
        argv = [*_TICKING, "server", lab.address(Place.SERVER), str(port)]
        program = stack.enter_context(
            lab.program(Place.SERVER, "ticking-server", argv, asked=True, env=environment())
        )
        program.wait_listening([port])

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """First without, then with a reload."""
        program = running.program
        if program is None or program.log is None:
            raise LabError("nothing was started")
        host, port = running.reach("hold")
        argv = [*_TICKING, "client", host, str(port)]
        with running.lab.program(Place.CLIENT, "ticking", argv, asked=True, env=environment()) as client:
            client.ask("begin", 10)
            time.sleep(_ALONE)
            alone, _ = parse_worst(client.ask("worst", 30))
            client.ask("begin", 10)
            took = self._reload(program, program.log, running.setup.folder / "rules.conf")
            stall, failures = parse_worst(client.ask("worst", 30))
        return {"ready_s": took, "stall_ms": stall, "stall_alone_ms": alone, "failures": float(failures)}

    def _reload(self, program: Program, log: Path, file: Path) -> float:
        fresh = file.with_suffix(".new")
        fresh.write_text(file.read_text().replace("relay=", "idle=1h relay="))
        os.replace(fresh, file)
        offset = log.stat().st_size

        def is_done() -> bool:
            program.check_alive()
            said = said_since(log, offset)
            if "reload: refused" in said:
                raise LabError(said.splitlines()[0])
            return "reload: done" in said

        begun = time.monotonic()
        os.kill(program.pid, signal.SIGHUP)
        until(is_done, 60, "the reload")
        return time.monotonic() - begun


def rows() -> list[Load]:
    """One size."""
    return [Reload()]
