# -*- test-case-name: tests.bench.test_loads -*-
"""
How long a start takes with 1, 1 000 and 10 000 rules.

From the start of the process until it says that it is ready, or, where it says
nothing, until all its ports are listened on; then the last rule must answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from bench.lab import Lab
from bench.loads.api import Load, Running, Scale
from bench.loads.quiet import open_all, start_crowd_client, start_crowd_server
from bench.peers.api import Peer
from bench.processes import LabError


class Startup(Load):
    """A start with `number` rules."""

    fresh = True

    def __init__(self, number: int) -> None:
        super().__init__(f"start-{number}", "start", f"Start with {number} rule{'s' * (number > 1)}")
        self.rules = number
        self.in_quick = number == 10000

    def takes(self, peer: Peer) -> bool:
        """One of ours is enough; a process for each rule is none of this."""
        return peer.starts and not peer.forks and peer.name not in ("portfwd-splice", "portfwd-copy")

    def servers(self, lab: Lab, stack: contextlib.ExitStack) -> None:
        """Somebody to be forwarded to."""
        start_crowd_server(lab, stack, 0)

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """The time has been taken when it was started; here it must forward."""
        if running.program is None or running.ready_s is None:
            raise LabError("nothing was started")
        with contextlib.ExitStack() as stack:
            open_all(start_crowd_client(running, stack), 1)
        return {"ready_s": running.ready_s}


def rows() -> list[Load]:
    """Three sizes."""
    return [Startup(number) for number in (1, 1000, 10000)]
