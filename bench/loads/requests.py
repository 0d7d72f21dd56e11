# -*- test-case-name: tests.bench.test_loads -*-
"""Request/response: redis-benchmark PING; alone, and beside 8 bulk streams."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import signal
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from bench.lab import Lab, Place
from bench.loads.api import TARGETS, Load, Running, Scale
from bench.loads.bulk import client_command, parse_iperf, server_command
from bench.peers.api import Logs, Peer
from bench.processes import LabError, until

#: Beside bulk only the wait of one request counts, so few connections are enough.
_BESIDE_CONNECTIONS: Final = 10
#: The bulk streams are ended when the requests are done; they end by themselves after this.
_BESIDE_SECONDS: Final = 60


@frozen
class Answered:
    """What redis-benchmark says: requests a second, and milliseconds."""

    requests_s: float
    p50_ms: float
    p99_ms: float


def parse_redis(text: str) -> Answered:
    """
    Read ``redis-benchmark --csv``.

    :raises LabError: if the answer has no such line.
    """
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    for heading, values in itertools.pairwise(rows):
        if heading[0] == "test" and len(values) == len(heading):
            by_name = dict(zip(heading, values, strict=True))
            return Answered(
                float(by_name["rps"]), float(by_name["p50_latency_ms"]), float(by_name["p99_latency_ms"])
            )
    raise LabError(f"redis-benchmark said {text[:80]!r}")


def _ask(running: Running, connections: int, requests: int) -> Answered:
    host, port = running.reach("ping")
    argv = ["redis-benchmark", "-h", host, "-p", str(port), "-c", str(connections), "-n", str(requests)]
    timeout = 20 + requests / 1000
    return parse_redis(running.lab.run(Place.CLIENT, [*argv, "-t", "ping_mbulk", "--csv"], timeout))


def start_redis(lab: Lab, stack: contextlib.ExitStack) -> None:
    """A redis-server that keeps nothing on disk."""
    port = TARGETS["ping"]
    address = lab.address(Place.SERVER)
    argv = ["redis-server", "--port", str(port), "--bind", address, "--protected-mode", "no", "--save", ""]
    stack.enter_context(
        lab.program(Place.SERVER, "redis", [*argv, "--appendonly", "no"], cwd=lab.scratch)
    ).wait_listening([port])


class Requests(Load):
    """`connections` clients, each with one request on its way."""

    def __init__(self, connections: int, logs: Logs) -> None:
        said = "connection" if connections == 1 else "connections"
        super().__init__(
            f"requests-{connections}-{logs.value}",
            "requests",
            f"Request/response, {connections} {said}, access {logs.value.replace('-', ' ')}",
        )
        self.logs = logs
        self.in_quick = connections == 50 and logs is Logs.OFF
        self._connections = connections

    def takes(self, peer: Peer) -> bool:
        """Nothing can be spliced here that ``auto`` would not copy."""
        return peer.name != "portfwd-splice" and (self.logs is not Logs.ON or peer.logs_access)

    def servers(self, lab: Lab, stack: contextlib.ExitStack) -> None:
        """One redis-server."""
        start_redis(lab, stack)

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """One run of redis-benchmark."""
        requests = scale.requests // (10 if self._connections == 1 else 1)
        before = running.cpu()
        answered = _ask(running, self._connections, requests)
        spent = running.cpu() - before
        figures = {
            "requests_s": answered.requests_s,
            "p50_ms": answered.p50_ms,
            "p99_ms": answered.p99_ms,
        }
        return figures if running.program is None else {**figures, "cpu_us": spent / requests * 1e6}


class Beside(Load):
    """Small requests, alone, then while 8 bulk streams go to the client through the same forwarder."""

    def __init__(self) -> None:
        super().__init__("beside", "beside", "Small requests beside 8 bulk streams, 10 connections")

    def takes(self, peer: Peer) -> bool:
        """As they would be set for either work; a process for each connection shares nothing."""
        return not peer.forks

    def servers(self, lab: Lab, stack: contextlib.ExitStack) -> None:
        """One redis-server; iperf3 comes with each sample."""
        start_redis(lab, stack)

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """Alone, then beside."""
        lab = running.lab
        requests = max(500, scale.requests // 20)
        alone = _ask(running, _BESIDE_CONNECTIONS, requests)
        with lab.program(Place.SERVER, "iperf3-server", server_command(lab.address(Place.SERVER))) as server:
            server.wait_listening([TARGETS["bulk"]])
            argv = client_command(running, 8, True, _BESIDE_SECONDS)
            with lab.program(Place.CLIENT, "iperf3", argv) as bulk:
                # All streams are up once the server's side has them; then they get a moment to fill.
                _until_flowing(running, bulk.pid)
                beside = _ask(running, _BESIDE_CONNECTIONS, requests)
                bulk.check_alive()
                bulk.stop(signal.SIGINT)
                transfer = parse_interrupted(bulk.output())
        return {
            "p50_ms": beside.p50_ms,
            "p99_ms": beside.p99_ms,
            "p99_alone_ms": alone.p99_ms,
            "bulk_gbit_s": transfer,
        }


def parse_interrupted(text: str) -> float:
    """Gbit/s of an iperf3 test ended by a signal: it then reports what it had, and an error."""
    start = text.find("{")
    said = text[start : text.rfind("}") + 1] if start >= 0 else text
    said = said.replace('"error":', '"interrupted":')
    return parse_iperf(said).bits_a_second / 1e9


def _until_flowing(running: Running, pid: int) -> None:
    """Wait until the iperf3 client has its 8 streams and its control connection, and half a second more."""
    _, port = running.reach("bulk")
    ending = f":{port:04X}"

    def are_up() -> bool:
        with open(f"/proc/{pid}/net/tcp") as table:
            lines = [line.split() for line in table][1:]
        return sum(fields[2].endswith(ending) and fields[3] == "01" for fields in lines) >= 9

    until(are_up, 10, "8 bulk streams")
    with contextlib.suppress(LabError):
        until(lambda: False, 0.5, "settling")


def rows() -> list[Load]:
    """1, 50 and 500 connections, with access logs off; 50 with logs on too; then beside bulk."""
    alone: list[Load] = [Requests(number, Logs.OFF) for number in (1, 50, 500)]
    return [*alone, Requests(50, Logs.ON), Beside()]
