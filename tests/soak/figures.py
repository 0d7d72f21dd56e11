"""
What must be as it was (memory, objects, descriptors, pipes, timers, gauges), and what must agree: lines,
sessions and metrics.

Nothing is compared by time: figures are taken again until they are as they were, or until nothing that may
outlive a session can still be there.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from tests.integration.forwarder import Forwarder, wait_until
from tests.soak.operators import ask

#: Bytes by which the resident memory may grow. Holes of the heap vary by 1 to 2 MiB.
MEMORY = 5 << 20
#: Bytes by which the C library's heap may grow that are in use: holes do not count, so it varies far less.
HEAP = 2 << 20
#: Seconds in which all sessions are over once their clients are gone: the rules have no longer limit.
REST = 120.0
#: Seconds until the first figures are taken. By then all is gone that outlives sessions in order: connections
#: that questions share (5 s), rules that are drained (2 s), idle pipes and refused addresses.
SETTLE = 20.0
#: Seconds after which the last figures count as they are; a machine with much to do takes so long at worst.
TIMEOUT = 120.0
#: Seconds for one answer.
ANSWER = 60.0
#: Objects by which a type may grow: answers of names and the like come and go by themselves.
SPARE = 20
#: Names of differences in one complaint.
NAMED = 12

_SAMPLE = re.compile(r"^portfwd_(\w+?)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_RULE = re.compile(r'rule="([^"]*)"')


@frozen
class Figures:
    """
    A forwarder without any session.

    :ivar memory: bytes that are resident.
    :ivar descriptors: that are open, by what they are.
    :ivar lent: pipes that flows have.
    :ivar taken: descriptors, as the forwarder counts them.
    :ivar objects: of the package, by type.
    :ivar timers: delayed calls of the reactor, by function.
    :ivar blocks: of Python's memory.
    :ivar heap: bytes in use of the C library's heap.
    :ivar sessions: that there were, by rule.
    :ivar moved: bytes, by rule.
    """

    memory: int
    descriptors: Counter[str]
    lent: float
    taken: float
    objects: Counter[str]
    timers: Counter[str]
    blocks: int
    heap: int
    sessions: dict[str, float]
    moved: dict[str, float]

    @classmethod
    def before(cls, forwarder: Forwarder, ports: dict[str, int]) -> Figures:
        """Wait until it rests, and look."""
        threading.Event().wait(SETTLE)
        return cls.of(forwarder, ports)

    @classmethod
    def after(cls, forwarder: Forwarder, ports: dict[str, int], before: Figures) -> Figures:
        """Look until all is as it was `before`, or `TIMEOUT` is over."""
        until = time.monotonic() + TIMEOUT
        pause = threading.Event()
        while True:
            found = cls.of(forwarder, ports)
            if not list(found.complaints(before)) or time.monotonic() > until:
                return found
            pause.wait(1.0)

    @classmethod
    def of(cls, forwarder: Forwarder, ports: dict[str, int]) -> Figures:
        """What there is once no session is."""
        admin = forwarder.directory / "admin.sock"

        def rests() -> bool:
            return not ask(admin, "sessions limit=1")["result"]["sessions"]

        def active() -> str:
            return str(ask(admin, "sessions limit=20"))

        wait_until(rests, REST, active)
        inside = _inside(ports["inside"])
        wait_until(rests, REST, active)
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['metrics']}/metrics", timeout=ANSWER) as page:
            text = page.read().decode()
        samples = _SAMPLE.findall(text)
        values = {name: float(value) for name, labels, value in samples if not labels}
        busy = sum(float(value) for name, _, value in samples if name == "sessions_active")
        assert not busy, text
        return cls(
            memory=_resident(forwarder.pid),
            descriptors=_descriptors(forwarder),
            lent=values["pipes_lent"],
            taken=values["descriptors"],
            objects=Counter(inside["objects"]),
            timers=Counter(inside["timers"]),
            blocks=inside["blocks"],
            heap=inside["heap"],
            sessions=_by_rule(samples, "sessions_total"),
            moved=_by_rule(samples, "bytes_total"),
        )

    def __str__(self) -> str:
        """What is compared, in short."""
        return (
            f"{self.memory / 2**20:.1f} MiB resident, {self.heap / 2**20:.1f} MiB of the heap in use, "
            f"{self.blocks} blocks of Python, {sum(self.objects.values())} objects of the package, "
            f"{self.descriptors.total()} descriptors, {self.taken:g} counted, "
            f"{self.timers.total()} timers, {sum(self.sessions.values()):g} sessions, "
            f"{sum(self.moved.values()) / 2**20:.0f} MiB moved"
        )

    def complaints(self, before: Figures) -> Iterator[str]:
        """What is not as it was, and in what it differs."""
        more = {name: count for name, count in (self.objects - before.objects).items() if count > SPARE}
        if self.memory - before.memory > MEMORY:
            grown = (self.objects - before.objects).most_common(NAMED)
            yield (
                f"memory grew from {before.memory / 2**20:.1f} to {self.memory / 2**20:.1f} MiB; "
                f"of the heap {(self.heap - before.heap) / 2**20:+.1f} MiB are in use, "
                f"Python has {self.blocks - before.blocks:+d} blocks; objects: {_named(dict(grown))}"
            )
        if self.heap - before.heap > HEAP:
            yield f"of the heap {(self.heap - before.heap) / 2**20:+.1f} MiB more are in use"
        if more:
            yield f"more objects than there were: {_named(more)}"
        if self.descriptors != before.descriptors:
            yield (
                f"descriptors that were not open: {_named(self.descriptors - before.descriptors)}; "
                f"that were: {_named(before.descriptors - self.descriptors)}"
            )
        if self.taken != before.taken:
            yield f"{self.taken:g} descriptors are counted, {before.taken:g} were"
        if late := self.timers - before.timers:
            yield f"timers that were not there: {_named(late)}"
        if self.lent:
            yield f"{self.lent:g} pipes are lent"

    def disagreements(self, log: Path) -> Iterator[str]:
        """Where the log does not say the same."""
        lines: Counter[str] = Counter()
        moved: Counter[str] = Counter()
        with log.open() as file:
            for line in file:
                entry = json.loads(line)
                lines[entry["rule"]] += entry.get("repeated", 1)
                moved[entry["rule"]] += entry["to_upstream"]["bytes"] + entry["to_client"]["bytes"]
        for name, count in self.sessions.items():
            if lines[name] != count:
                yield f"{name}: {count:g} sessions, {lines[name]} lines"
            if moved[name] != self.moved[name]:
                yield f"{name}: {self.moved[name]:g} bytes by the metrics, {moved[name]} by the log"


def _named(counts: dict[str, int]) -> str:
    """Some of them, in words."""
    rows = sorted(counts.items(), key=lambda row: -row[1])[:NAMED]
    return ", ".join(f"{count} {name}" for name, count in rows) or "none"


def _inside(port: int) -> dict[str, Any]:
    """What the forwarder says of itself."""
    with socket.create_connection(("127.0.0.1", port), ANSWER) as sock:
        text = b""
        while data := sock.recv(65536):
            text += data
    told: dict[str, Any] = json.loads(text)
    return told


def _descriptors(forwarder: Forwarder) -> Counter[str]:
    """What is open; sockets by their addresses and states, as the kernel tells them."""
    tables = Path(f"/proc/{forwarder.pid}/net")
    sockets: dict[str, str] = {}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        if (tables / table).exists():
            for line in (tables / table).read_text().splitlines()[1:]:
                row = line.split()
                sockets[row[9]] = f"{table} {row[1]} to {row[2]} in state {row[3]}"
    for line in (tables / "unix").read_text().splitlines()[1:]:
        row = line.split()
        sockets[row[6]] = f"unix {' '.join(row[7:]) or 'without a name'}"
    found: Counter[str] = Counter()
    for target in forwarder.descriptors():
        kind, _, number = target.partition(":[")
        if kind == "socket":
            found[sockets.get(number.rstrip("]"), "socket that is closed")] += 1
        else:
            found[kind] += 1
    return found


def _by_rule(samples: list[tuple[str, str, str]], wanted: str) -> dict[str, float]:
    found: Counter[str] = Counter()
    for name, labels, value in samples:
        rule = _RULE.search(labels)
        if name == wanted and rule is not None:
            found[rule[1]] += float(value)  # type: ignore[assignment]
    return dict(found)


def _resident(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert match is not None
    return int(match[1]) * 1024
