# -*- test-case-name: tests.bench.test_loads -*-
"""
Rows that wait for portfwd: datagrams and TLS.

They stand in the list with their goals, and ``portfwd check`` is asked each
time whether their hour has come. Until it has, the table gives its answer as
the reason; afterwards it says that the lab has no load for them, so that they
are not forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.loads.api import Load, Running, Scale
from bench.peers.portfwd import refusal
from bench.processes import LabError


class Pending(Load):
    """A declared row; `rules` is a rules file that portfwd must accept before it can be measured."""

    def __init__(self, name: str, group: str, title: str, probe: str) -> None:
        super().__init__(name, group, title)
        self._probe = probe

    def skipped(self, folder: Path) -> str:
        """What portfwd has against it, or that there is no load yet."""
        return refusal(self._probe, folder) or "portfwd accepts it; the lab has no load for it yet"

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """Never reached: such a row is skipped."""
        raise LabError("no load")


def rows() -> list[Load]:
    """Datagrams of three sizes, TLS on either side."""
    datagrams = [
        Pending(
            f"udp-{size}",
            "udp",
            f"UDP, datagrams of {size} B",
            "udp: 127.0.0.1:20000/udp -> 127.0.0.1:20001/udp\n",
        )
        for size in (64, 1200, 1472)
    ]
    tls = [
        Pending("filters-tls-in", "filters", "TLS in", "t: tls:127.0.0.1:20000 -> 127.0.0.1:20001\n"),
        Pending("filters-tls-out", "filters", "TLS out", "t: 127.0.0.1:20000 -> tls:127.0.0.1:20001\n"),
    ]
    return [*datagrams, *tls]
