# -*- test-case-name: tests.bench.test_loads -*-
"""
Rows that wait for portfwd: TLS, reload.

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


class Reload(Pending):
    """Reload with many rules: whether portfwd can is not something ``check`` is able to say."""

    def skipped(self, folder: Path) -> str:
        """That there is no load."""
        return "the lab has no load for reloads yet"


def rows() -> list[Load]:
    """TLS on either side, reload."""
    tls = [
        Pending("filters-tls-in", "filters", "TLS in", "t: tls:127.0.0.1:20000 -> 127.0.0.1:20001\n"),
        Pending("filters-tls-out", "filters", "TLS out", "t: 127.0.0.1:20000 -> tls:127.0.0.1:20001\n"),
    ]
    reload = Reload("reload-10000", "reload", "Reload with 10 000 rules", "")
    return [*tls, reload]
