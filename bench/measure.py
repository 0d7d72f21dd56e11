# -*- test-case-name: tests.bench.test_measure -*-
"""
Running rows: contestants started, given work in turn, and what came of it.

A contestant that cannot do the work fails its sample, with the reason; one that
fails twice in a row is out of that row. Nothing that one contestant does ends
the measurement of the others.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from attrs import frozen

from bench.lab import Lab, Place
from bench.loads.api import FIRST_PORT, TARGETS, Load, Running, Scale
from bench.peers.api import Forward, Peer, Setup
from bench.processes import LabError
from bench.results import Row
from bench.rounds import Sample, interleaved

#: Failures in a row after which a contestant is out: once may be chance, and each may cost a minute.
_MOST_FAILURES: Final = 2
#: A row with as many rules as these starts below the contestants' usual ports.
_MANY_RULES_PORT: Final = 10000


@frozen
class Plan:
    """
    How to measure.

    :ivar deadline: by `time.monotonic`; what is not done then is left out, with that reason.
    """

    rounds: int
    scale: Scale
    deadline: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline


def forwards(lab: Lab, load: Load, index: int) -> tuple[Forward, ...]:
    """The rules of the contestant with that `index`."""
    server = lab.address(Place.SERVER)
    if load.rules:
        target = TARGETS["hold"]
        return tuple(Forward(f"r{n}", _MANY_RULES_PORT + n, server, target) for n in range(load.rules))
    first = FIRST_PORT + 50 * index
    return tuple(Forward(name, first + n, server, target) for n, (name, target) in enumerate(TARGETS.items()))


@contextlib.contextmanager
def running(lab: Lab, load: Load, peer: Peer, index: int) -> Iterator[Running]:
    """
    A contestant, ready, for the length of a ``with`` block.

    :raises LabError: if it does not become ready.
    """
    setup = Setup(
        lab.address(Place.FORWARDER),
        forwards(lab, load, index),
        lab.folder(peer.name),
        load.logs,
        load.read_size,
        load.datagrams,
    )
    if not peer.starts:
        yield Running(peer, setup, None, lab)
        return
    argv = peer.command(setup)
    with lab.program(Place.FORWARDER, peer.name, argv, env=peer.environment(), cwd=setup.folder) as program:
        ports = [forward.port for forward in setup.forwards]
        timeout = 20 + len(ports) / 200
        if peer.ready_line:
            program.wait_output(peer.ready_line, timeout)
            ready = time.monotonic() - program.started
            program.wait_listening(ports, 1.0)
        else:
            program.wait_listening(ports, timeout)
            ready = time.monotonic() - program.started
        yield Running(peer, setup, program, lab, ready)


class Failures:
    """Who failed how often in a row, and who is therefore out."""

    def __init__(self) -> None:
        self._in_a_row: dict[str, int] = {}

    def note(self, sample: Sample) -> None:
        """Count a sample."""
        self._in_a_row[sample.peer] = self._in_a_row.get(sample.peer, 0) + 1 if sample.failed else 0

    def is_out(self, name: str) -> bool:
        """Whether this contestant is not asked again."""
        return self._in_a_row.get(name, 0) >= _MOST_FAILURES


def participants(load: Load, peers: Sequence[Peer]) -> list[Peer]:
    """Those of `peers` that are asked in this row."""
    return [peer for peer in peers if peer.only_group in ("", load.group) and load.takes(peer)]


def run_row(
    lab: Lab, load: Load, peers: Sequence[Peer], plan: Plan, tell: Callable[[str], None]
) -> tuple[Row, list[Sample]]:
    """
    Measure one row.

    :param peers: those that are there.
    :param tell: takes a line about each sample.
    """
    skipped = load.skipped(lab.scratch)
    asked = participants(load, peers)
    taking = {peer.name: (index, peer) for index, peer in enumerate(peers) if peer in asked}
    if plan.is_over:
        skipped = skipped or "left out: the time was up"
    if skipped or not taking:
        return Row(load.name, load.group, load.title, skipped or "nobody takes part"), []
    samples: list[Sample] = []
    failures = Failures()

    def took(sample: Sample) -> None:
        samples.append(sample)
        failures.note(sample)
        said = "  ".join(f"{name}={value:.4g}" for name, value in sample.figures.items())
        tell(f"{load.name} round {sample.round + 1} {sample.peer}: {sample.failed or said}")

    with contextlib.ExitStack() as stack:
        try:
            load.servers(lab, stack)
        except LabError as error:
            return Row(load.name, load.group, load.title, f"no server: {error}"), []
        started: dict[str, Running] = {}
        if not load.fresh:
            for name, (index, peer) in list(taking.items()):
                try:
                    started[name] = stack.enter_context(running(lab, load, peer, index))
                except LabError as error:
                    del taking[name]
                    took(Sample(load.name, name, 0, {}, str(error)))
        for number, name in interleaved(list(taking), plan.rounds):
            if plan.is_over:
                break
            if failures.is_out(name):
                continue
            index, peer = taking[name]
            try:
                if load.fresh:
                    with running(lab, load, peer, index) as fresh:
                        figures = load.measure(fresh, plan.scale)
                else:
                    figures = load.measure(started[name], plan.scale)
            except LabError as error:
                took(Sample(load.name, name, number, {}, str(error)))
            else:
                took(Sample(load.name, name, number, figures))
    return Row(load.name, load.group, load.title), samples
