# -*- test-case-name: tests.bench.test_loads -*-
"""A new connection for each request: ab against nginx, 50 at a time, nothing kept alive."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping

from attrs import frozen

from bench.lab import Lab, Place
from bench.loads.api import TARGETS, Load, Running, Scale
from bench.peers.api import Logs, Peer
from bench.processes import LabError, descriptors


@frozen
class Visits:
    """What ab says: connections completed, a second, and failed."""

    completed: int
    a_second: float
    failed: int


def parse_ab(text: str) -> Visits:
    """
    Read ab's report. A response that is not 2xx counts as failed: it did not come from the server asked.

    :raises LabError: if it is no report.
    """

    def number(label: str) -> float | None:
        match = re.search(rf"^{label}:\s+([\d.]+)", text, re.MULTILINE)
        return float(match[1]) if match else None

    completed, rate, failed = (
        number("Complete requests"),
        number("Requests per second"),
        number("Failed requests"),
    )
    if completed is None or rate is None or failed is None:
        raise LabError(f"ab said {text[-80:]!r}")
    return Visits(int(completed), rate, int(failed + (number("Non-2xx responses") or 0)))


def start_web(lab: Lab, stack: contextlib.ExitStack) -> None:
    """An nginx that answers two bytes."""
    folder = lab.folder("web")
    port = TARGETS["web"]
    (folder / "nginx.conf").write_text(
        f"daemon off;\nworker_processes 1;\nworker_rlimit_nofile {descriptors()};\npid {folder}/nginx.pid;\n"
        f"error_log {folder}/error.log warn;\nevents {{ worker_connections {descriptors()}; }}\n"
        f"http {{ access_log off;\n server {{ listen {lab.address(Place.SERVER)}:{port} backlog=4096;\n"
        f'  location / {{ return 200 "ok"; }} }} }}\n'
    )
    argv = ["nginx", "-e", f"{folder}/error.log", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    stack.enter_context(lab.program(Place.SERVER, "web", argv)).wait_listening([port])


class Connections(Load):
    """Connections that carry one small request."""

    def __init__(self, logs: Logs) -> None:
        super().__init__(
            f"connections-{logs.value}",
            "connections",
            f"A new connection each, 50 at a time, access {logs.value.replace('-', ' ')}",
        )
        self.logs = logs
        self.in_quick = logs is Logs.OFF

    def takes(self, peer: Peer) -> bool:
        """As for requests."""
        return peer.name != "portfwd-splice" and (self.logs is not Logs.ON or peer.logs_access)

    def servers(self, lab: Lab, stack: contextlib.ExitStack) -> None:
        """One nginx."""
        start_web(lab, stack)

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """One run of ab."""
        host, port = running.reach("web")
        before = running.cpu()
        argv = ["ab", "-q", "-r", "-s", "10", "-c", "50", "-n", str(scale.connections)]
        timeout = 20 + scale.connections / 500
        visits = parse_ab(running.lab.run(Place.CLIENT, [*argv, f"http://{host}:{port}/"], timeout))
        spent = running.cpu() - before
        figures = {"connections_s": visits.a_second, "failures": float(visits.failed)}
        if running.program is not None and visits.completed:
            figures["cpu_us"] = spent / visits.completed * 1e6
        return figures


def rows() -> list[Load]:
    """With access logs off and on."""
    return [Connections(Logs.OFF), Connections(Logs.ON)]
