"""What must be as it was (memory, descriptors, gauges), and what must agree: lines, sessions and metrics."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from tests.integration.forwarder import Forwarder, wait_until
from tests.soak.operators import ask

#: Bytes by which the memory may grow.
MEMORY = 5 << 20
#: Seconds in which all sessions are over once their clients are gone: the rules have no longer limit.
REST = 120.0
_SAMPLE = re.compile(r"^portfwd_(\w+?)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_RULE = re.compile(r'rule="([^"]*)"')


@frozen
class Figures:
    """
    A forwarder without any session.

    :ivar memory: bytes that are resident.
    :ivar descriptors: that are open, without pipes.
    :ivar taken: descriptors, as the forwarder counts them.
    :ivar sessions: that there were, by rule.
    :ivar moved: bytes, by rule.
    """

    memory: int
    descriptors: int
    lent: float
    taken: float
    sessions: dict[str, float]
    moved: dict[str, float]

    @classmethod
    def of(cls, forwarder: Forwarder, metrics: int) -> Figures:
        """Wait until it rests, and look."""
        admin = forwarder.directory / "admin.sock"

        def rests() -> bool:
            return not ask(admin, "sessions limit=1")["result"]["sessions"]

        wait_until(rests, REST, lambda: str(ask(admin, "sessions limit=20")))
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics") as page:
            text = page.read().decode()
        samples = _SAMPLE.findall(text)
        values = {name: float(value) for name, labels, value in samples if not labels}
        active = sum(float(value) for name, _, value in samples if name == "sessions_active")
        assert not active, text
        return cls(
            _resident(forwarder.pid),
            _at_rest(forwarder),
            values["pipes_lent"],
            values["descriptors"],
            _by_rule(samples, "sessions_total"),
            _by_rule(samples, "bytes_total"),
        )

    def complaints(self, before: Figures) -> Iterator[str]:
        """What is not as it was."""
        if self.memory - before.memory > MEMORY:
            yield f"memory grew from {before.memory / 2**20:.1f} to {self.memory / 2**20:.1f} MiB"
        if self.descriptors != before.descriptors:
            yield f"{self.descriptors} descriptors are open, {before.descriptors} were"
        if self.taken != before.taken:
            yield f"{self.taken:g} descriptors are counted, {before.taken:g} were"
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


def _at_rest(forwarder: Forwarder) -> int:
    """The fewest descriptors of some looks: connections that questions share stay for a while."""
    pause = threading.Event()
    looks = []
    for _ in range(40):
        looks.append(forwarder.open_descriptors())
        pause.wait(0.5)
    return min(looks)


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
