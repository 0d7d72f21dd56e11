# -*- test-case-name: tests.bench.test_goals -*-
"""
The goals as data, and whether samples meet them.

Each goal compares portfwd with the best of some peers in the same round, or,
where no peer makes sense, with a plain number. ``must`` is the least that
counts as done, ``goal`` is what the project is for. A missed goal is shown as
missed; a goal without samples is shown as not measured. Nothing is rounded in
anybody's favour: the comparison is made on the unrounded median.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from bench.figures import FIGURES
from bench.rounds import Sample, Spread, of_figure, ratio

HAPROXY: Final = ("haproxy-splice", "haproxy-copy")


@frozen
class Goal:
    """
    One line of the goals table.

    :ivar text: what a reader calls it.
    :ivar row: name of the row that measures it.
    :ivar figure: the figure compared.
    :ivar peers: the best of these is the measure; empty: `must` and `goal` are plain numbers.
    :ivar must: bound for the ratio (or number); at least it if more is better, at most it if less is.
        None where there is no such bound.
    :ivar goal: the same, for what is hoped for.
    :ivar subject: who is judged.
    """

    text: str
    row: str
    figure: str
    peers: tuple[str, ...]
    must: float | None
    goal: float | None
    subject: str = "portfwd-auto"


def _bulk(direction: str) -> tuple[Goal, ...]:
    row = f"bulk-8-{direction}"
    return (
        Goal(f"bulk, 8 streams, {direction}", row, "gbit_s", ("nginx-64k",), 1.2, None),
        Goal(f"bulk, 8 streams, {direction}", row, "gbit_s", ("haproxy-splice",), 0.9, 1.05),
        Goal(f"its CPU s/GiB, {direction}", row, "cpu_s_gib", ("haproxy-splice",), 1.3, 1.0),
        Goal(f"Protocol pair, {direction}", row, "gbit_s", ("stock",), 1.0, 1.5, "portfwd-pair"),
        Goal(f"bulk against stock portforward, {direction}", row, "gbit_s", ("stock",), 2.0, 2.5),
    )


def _filters(direction: str) -> tuple[Goal, ...]:
    row, said = f"filters-8-{direction}", f"8 streams, {direction}"
    return (
        Goal(
            f"bulk with one Python filter that sees every byte, {said}",
            row,
            "gbit_s",
            ("nginx-64k",),
            0.7,
            1.0,
            "portfwd-1-filter",
        ),
        # What it costs not to be asked any more is nothing: the first bytes of a connection, and noise.
        Goal(
            f"bulk with one that is done at once, against none, {said}",
            row,
            "gbit_s",
            ("portfwd-auto",),
            None,
            0.95,
            "portfwd-done-filter",
        ),
    )


def _beside_stock(row: str, figure: str, said: str) -> tuple[Goal, ...]:
    """
    What the ratio to a slow peer is worth: client and server share the machine with the forwarder.

    They narrow it. So it stands beside the ratio that HAProxy reaches, and that of processor times.
    """
    return (
        Goal(f"what HAProxy reaches there, {said}", row, figure, ("stock",), None, None, "haproxy-copy"),
        Goal(f"portfwd's CPU there, {said}", row, "cpu_us", ("stock",), None, None),
    )


def _logged(logs: str) -> tuple[Goal, ...]:
    asks, connects = f"requests-50-{logs}", f"connections-{logs}"
    said = f"access logs {logs.removeprefix('logs-')}"
    return (
        Goal(f"request/response, 50 connections, {said}", asks, "requests_s", HAPROXY, 0.85, 1.0),
        Goal(f"its p99, {said}", asks, "p99_ms", HAPROXY, None, 1.0),
        Goal(f"request/response against stock portforward, {said}", asks, "requests_s", ("stock",), 2.0, 2.5),
        *_beside_stock(asks, "requests_s", said),
        Goal(f"new connections, {said}", connects, "connections_s", HAPROXY, 0.8, 1.0),
        Goal(
            f"new connections against stock portforward, {said}",
            connects,
            "connections_s",
            ("stock",),
            2.0,
            2.5,
        ),
        *_beside_stock(connects, "connections_s", said),
    )


GOALS: Final = (
    *_bulk("to-upstream"),
    *_bulk("to-client"),
    *_filters("to-upstream"),
    *_filters("to-client"),
    *_logged("logs-off"),
    *_logged("logs-on"),
    Goal("idle connection, 1 000", "idle-1000", "kib_each", HAPROXY, 1.0, 0.5),
    Goal("idle connection, 10 000", "idle-10000", "kib_each", HAPROXY, 1.0, 0.5),
    Goal("stopped readers: bytes lost", "stopped", "lost_bytes", (), 0.0, 0.0),
    Goal("p99 of small requests beside 8 bulk streams", "beside", "p99_ms", HAPROXY, 1.0, 0.5),
    Goal("TLS terminated, bulk", "filters-tls-in", "gbit_s", ("nginx-tls-in",), 0.4, 0.8, "portfwd-tls-in"),
    Goal(
        "full handshakes", "handshakes-tls-in", "connections_s", ("nginx-tls-in",), 0.4, 0.8, "portfwd-tls-in"
    ),
    Goal("TLS session after bulk", "kept-tls-in", "kib_each", (), 100, 64, "portfwd-tls-in"),
    Goal(
        "TLS originated, bulk", "filters-tls-out", "gbit_s", ("nginx-tls-out",), 0.4, 0.8, "portfwd-tls-out"
    ),
    Goal("UDP 1200 B", "udp-1200", "datagrams_s", ("nginx-64k",), 0.5, 1.0),
    Goal("bulk beside a UDP flood: share kept", "flooded", "kept_share", ("nginx-64k",), 0.5, 1.0),
    Goal(
        "spliced beside copied and filtered: share kept", "mixed", "kept_share", (), 0.2, 0.4, "portfwd-mixed"
    ),
    Goal(
        "stalls while 10 000 sessions expire, milliseconds",
        "expiry-10000",
        "stall_ms",
        (),
        10.0,
        None,
        "portfwd-mixed",
    ),
    Goal("start with 10 000 rules, seconds", "start-10000", "ready_s", (), 3.0, 1.0),
    Goal("reload with 10 000 rules, seconds", "reload-10000", "ready_s", (), 3.0, 1.0),
    Goal("a pick among 1 000 targets, µs", "pick-1000", "cpu_us", (), 5.0, None),
    Goal(
        "1 000 targets checked every 2 s, cores",
        "checked-1000",
        "cpu_share",
        (),
        0.02,
        None,
        "portfwd-checked",
    ),
    Goal("traffic stalls in that reload, milliseconds", "reload-10000", "stall_ms", (), 50.0, None),
)


@frozen
class Verdict:
    """
    How one goal came out.

    :ivar value: the ratio, or the number itself where the goal has no peers; None: not measured.
    :ivar must_met: None when not measured or when there is no such bound.
    :ivar goal_met: likewise.
    """

    goal: Goal
    value: Spread | None
    must_met: bool | None
    goal_met: bool | None


def higher_is_better(figure: str) -> bool:
    """Which way `figure` is better; one without a way cannot be a goal."""
    better = FIGURES[figure].higher_is_better
    if better is None:
        raise ValueError(f"{figure} has no better or worse")
    return better


def judge(goal: Goal, samples: Sequence[Sample]) -> Verdict:
    """Compare `samples` with one goal."""
    up = higher_is_better(goal.figure)
    if goal.peers:
        value = ratio(samples, goal.row, goal.figure, goal.subject, goal.peers, up)
    else:
        value = of_figure(samples, goal.row, goal.subject, goal.figure)

    def met(bound: float | None) -> bool | None:
        if value is None or bound is None:
            return None
        return value.median >= bound if up else value.median <= bound

    return Verdict(goal, value, met(goal.must), met(goal.goal))
