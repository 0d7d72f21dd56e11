# -*- test-case-name: tests.bench.test_loads -*-
"""
Fairness: bulk TCP beside a flood of UDP, spliced bulk beside bulk that is copied and filtered, and requests
while many sessions expire.

Each sample measures the same streams alone first. What counts is the share that they keep beside the others:
who always has more to do must not take the turns of those who wait.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from typing import Final

from bench.lab import Lab, Place
from bench.loads.api import TARGETS, Load, Running, Scale
from bench.loads.bulk import client_command, parse_iperf, server_command
from bench.loads.reload import parse_worst
from bench.peers.api import Peer
from bench.peers.checkout import environment
from bench.peers.portfwd import HALF_CLOSE
from bench.processes import Program, descriptors, until

GROUP: Final = "fairness"
#: Streams that are measured, and those of each rule beside them.
_STREAMS: Final = 4
_OTHERS: Final = 2
#: Seconds by which those beside begin before what is measured, and end after it.
_LEAD: Final = 1.0
#: Descriptors that contestants keep for themselves: listeners, pipes, logs, a reserve.
_SPARE: Final = 1000


def _iperf(running: Running, target: str, streams: int, seconds: float) -> list[str]:
    host, port = running.reach(target)
    argv = client_command(running, streams, True, seconds)
    argv[argv.index("-c") + 1], argv[argv.index("-p") + 1] = host, str(port)
    return argv


def _server(running: Running, target: str, stack: contextlib.ExitStack) -> None:
    argv = server_command(running.lab.address(Place.SERVER))
    argv[argv.index("-p") + 1] = str(TARGETS[target])
    program = running.lab.program(Place.SERVER, f"iperf3-{target}", argv)
    stack.enter_context(program).wait_listening([TARGETS[target]])


def _bulk(running: Running, seconds: float) -> float:
    """Gbit/s of the streams that are measured."""
    with contextlib.ExitStack() as stack:
        _server(running, "bulk", stack)
        argv = _iperf(running, "bulk", _STREAMS, seconds)
        return parse_iperf(running.lab.run(Place.CLIENT, argv, seconds + 20)).bits_a_second / 1e9


def figures(alone: float, beside: float) -> dict[str, float]:
    """Of Gbit/s without the others, and beside them."""
    return {"gbit_s": beside, "alone_gbit_s": alone, "kept_share": beside / alone}


class BesideFlood(Load):
    """Bulk TCP while a client floods a UDP rule."""

    datagrams = True

    def __init__(self) -> None:
        super().__init__("flooded", GROUP, f"Bulk beside a UDP flood, {_STREAMS} streams, to-client")

    def takes(self, peer: Peer) -> bool:
        """Those who forward both."""
        return peer.takes_datagrams and not peer.only_group

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """Alone, then beside."""
        lab = running.lab
        alone = _bulk(running, scale.seconds)
        program = [sys.executable, "-m", "bench.loads.flood"]
        sink = [*program, "server", lab.address(Place.SERVER), str(TARGETS["hold"])]
        host, port = running.reach("hold")
        flood = [*program, "client", host, str(port)]
        with (
            lab.program(Place.SERVER, "flood-sink", sink, env=environment()),
            lab.program(Place.CLIENT, "flood", flood, env=environment()),
        ):
            return figures(alone, _bulk(running, scale.seconds))


class SplicedBeside(Load):
    """Spliced bulk while other rules copy bulk, and show it to a filter."""

    def __init__(self) -> None:
        title = f"Spliced bulk beside copied and filtered, {_STREAMS} streams beside 2 × {_OTHERS}, to-client"
        super().__init__("mixed", GROUP, title)

    def takes(self, peer: Peer) -> bool:
        """Those with such rules, and those that treat them all alike."""
        return peer.only_group == GROUP or peer.name in ("haproxy-splice", "nginx-64k")

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """Alone, then beside."""
        lab, seconds = running.lab, scale.seconds
        alone = _bulk(running, seconds)
        with contextlib.ExitStack() as stack:
            for target in ("ping", "web"):
                _server(running, target, stack)
                argv = _iperf(running, target, _OTHERS, seconds + 2 * _LEAD)
                stack.enter_context(lab.program(Place.CLIENT, f"iperf3-to-{target}", argv))
            return figures(alone, _bulk(running, seconds))


class Expiry(Load):
    """Many half-closed sessions that have been silent for `HALF_CLOSE` seconds, all at once."""

    fresh = True

    def __init__(self, number: int) -> None:
        # A session takes two descriptors, and a rule that has others beside it gets two thirds of them at
        # most. Where this machine does not allow enough, fewer say the same.
        self._number = min(number, (descriptors() - _SPARE) // 3)
        super().__init__(
            f"expiry-{number}", GROUP, f"{self._number} half-closed sessions that expire together"
        )

    def takes(self, peer: Peer) -> bool:
        """Those that have such a limit on this rule."""
        return peer.only_group == GROUP

    def servers(self, lab: Lab, stack: contextlib.ExitStack) -> None:
        """Somebody who answers every byte, and somebody who never ends."""
        for target, name in (("ping", "ticking"), ("hold", "leaving")):
            argv = [sys.executable, "-m", f"bench.loads.{name}", "server", lab.address(Place.SERVER)]
            program = lab.program(
                Place.SERVER, f"{name}-server", [*argv, str(TARGETS[target])], asked=True, env=environment()
            )
            stack.enter_context(program).wait_listening([TARGETS[target]])

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """The longest stall without, then while they expire."""
        clients = []
        with contextlib.ExitStack() as stack:
            for target, name in (("ping", "ticking"), ("hold", "leaving")):
                host, port = running.reach(target)
                argv = [sys.executable, "-m", f"bench.loads.{name}", "client", host, str(port)]
                program = running.lab.program(Place.CLIENT, name, argv, asked=True, env=environment())
                clients.append(stack.enter_context(program))
            ticking, leaving = clients
            ticking.ask("begin", 10)
            time.sleep(scale.seconds)
            alone, _ = parse_worst(ticking.ask("worst", 30))
            begun = time.monotonic()
            leaving.ask(f"open {self._number}", 60)
            # Those that have expired before the last one came are few, or none.
            time.sleep(max(0.0, begun + HALF_CLOSE - time.monotonic() - _LEAD))
            ticking.ask("begin", 10)
            until(lambda: self._gone(leaving), 60, "the end of the last session")
            stall, failures = parse_worst(ticking.ask("worst", 30))
        return {"stall_ms": stall, "stall_alone_ms": alone, "failures": float(failures)}

    def _gone(self, leaving: Program) -> bool:
        return int(leaving.ask("closed", 30).split()[1]) >= self._number


def rows() -> list[Load]:
    """Beside a flood, beside others' bulk, and while many sessions expire."""
    return [BesideFlood(), SplicedBeside(), Expiry(10_000)]
