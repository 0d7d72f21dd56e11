# -*- test-case-name: tests.bench.test_targets -*-
"""
What a thousand targets cost: a pick among them, and a check of each every two seconds.

A pick is measured in this process, without a forwarder: the time of one `Order.next`, with the session that
begins and an older one that ends, for the dearest ``balance=``. The checks are those of a forwarder at work:
its CPU while nothing else goes on, and how long a byte waits at most beside them.
"""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from bench.lab import Lab, Place
from bench.loads.api import TARGETS, Load, Running, Scale
from bench.loads.reload import parse_worst
from bench.peers.api import Peer
from bench.peers.checkout import environment
from bench.peers.portfwd import CHECKED_PORT, CHECKED_TARGETS
from portfwd.limits.occupancy import TargetOccupancy
from portfwd.rules.model import Balance, Options
from portfwd.upstreams.health import Health
from portfwd.upstreams.pool import Member, Order, Pool

GROUP: Final = "targets"
_TICKING: Final = (sys.executable, "-m", "bench.loads.ticking")
#: Accepts and closes, for ever.
_SINK: Final = (
    "import socket, sys\n"
    "with socket.create_server(('0.0.0.0', int(sys.argv[1])), backlog=4096) as server:\n"
    "    while True:\n"
    "        server.accept()[0].close()\n"
)
#: Sessions that are open while picks are measured, for each target.
_EACH: Final = 5


def pool_of(number: int, balance: Balance) -> Pool:
    """That many targets without sessions."""
    options = Options(balance=balance)
    members = []
    for index in range(number):
        label = f"10.0.{index // 250}.{index % 250}:80"
        members.append(Member(label, label, label, options, Health(label), TargetOccupancy()))
    return Pool(members, options, random.Random(1).random)


def pick_us(
    number: int, balance: Balance, picks: int, clock: Callable[[], float] = time.thread_time
) -> float:
    """Microseconds of one pick among `number` targets, with sessions that come and go."""
    pool = pool_of(number, balance)
    clients = [f"192.0.{index // 250}.{index % 250}" for index in range(5000)]
    busy: deque[TargetOccupancy] = deque()

    def visit(index: int) -> None:
        chosen = Order(pool, clients[index % len(clients)]).next(1.0)
        assert chosen is not None
        assert isinstance(chosen.load, TargetOccupancy)
        chosen.load.take()
        busy.append(chosen.load)

    for index in range(_EACH * number):
        visit(index)
    begun = clock()
    for index in range(picks):
        visit(index)
        busy.popleft().give_back()
    return (clock() - begun) / picks * 1e6


class Pick(Load):
    """A pick by each ``balance=``; the dearest counts."""

    def __init__(self, number: int) -> None:
        super().__init__(f"pick-{number}", GROUP, f"A pick among {number} targets, the dearest balance=")
        self._number = number

    def takes(self, peer: Peer) -> bool:
        """Only this process works; one contestant is enough."""
        return peer.name == "portfwd-auto"

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """The best of three for each, since disturbances only add time."""
        picks = max(2000, scale.requests // 6)
        return {"cpu_us": max(min(pick_us(self._number, one, picks) for _ in range(3)) for one in Balance)}


class Checked(Load):
    """Targets that are checked every two seconds."""

    fresh = True

    def __init__(self) -> None:
        super().__init__(
            "checked-1000", GROUP, f"{CHECKED_TARGETS} targets with check tcp inter=2s, beside small requests"
        )

    def takes(self, peer: Peer) -> bool:
        """The one that has such a rule."""
        return peer.only_group == GROUP

    def servers(self, lab: Lab, stack: contextlib.ExitStack) -> None:
        """A server that answers every byte; the targets are addresses of the forwarder's own loopback."""
        argv = [*_TICKING, "server", lab.address(Place.SERVER), str(TARGETS["ping"])]
        program = lab.program(Place.SERVER, "ticking-server", argv, asked=True, env=environment())
        stack.enter_context(program).wait_listening([TARGETS["ping"]])
        sink = lab.program(Place.FORWARDER, "sink", [sys.executable, "-c", _SINK, str(CHECKED_PORT)])
        stack.enter_context(sink).wait_listening([CHECKED_PORT])

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """Its CPU while nothing but checks goes on, then the longest wait of traffic beside them."""
        seconds = max(4.0, scale.seconds * 2)
        time.sleep(2.5)  # the first checks are spread over their interval
        before = running.cpu()
        time.sleep(seconds)
        share = (running.cpu() - before) / seconds
        host, port = running.reach("ping")
        argv = [*_TICKING, "client", host, str(port)]
        with running.lab.program(Place.CLIENT, "ticking", argv, asked=True, env=environment()) as client:
            client.ask("begin", 10)
            time.sleep(seconds)
            stall, failures = parse_worst(client.ask("worst", 30))
        return {"cpu_share": share, "stall_ms": stall, "failures": float(failures)}


def rows() -> list[Load]:
    """Both."""
    return [Pick(1000), Checked()]
