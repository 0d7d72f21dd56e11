# -*- test-case-name: tests.bench.test_loads -*-
"""
Bulk: iperf3 with 1, 8 and 64 streams, in each direction; and the same over the read size.

Throughput is what the receiver got. CPU is the forwarder's own, by the
kernel. Bytes a system call and the share spliced are what the forwarder
counted itself, where it does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from bench.lab import Place
from bench.loads.api import GIB, TARGETS, Load, Running, Scale
from bench.peers.api import Counters, Logs, Peer
from bench.processes import LabError

SIZES: Final = tuple(4096 * 2**n for n in range(9))
_QUICK_SIZES: Final = (4096, 65536, 1048576)
#: Closing lines are written in batches; this is how long they are waited for.
_COUNTERS_LATE: Final = 1.0


@frozen
class Transfer:
    """What iperf3's receiver got: bytes, and bits a second."""

    bytes: int
    bits_a_second: float


def read_end(text: str) -> dict[str, Any]:
    """
    The sums at the end of what ``iperf3 -J`` wrote.

    :raises LabError: with iperf3's own words if it failed.
    """
    try:
        said = json.loads(text)
    except ValueError:
        raise LabError(f"iperf3 wrote no JSON: {text[:80]!r}") from None
    if "error" in said:
        raise LabError(f"iperf3: {said['error']}")
    end: dict[str, Any] = said["end"]
    return end


def parse_iperf(text: str) -> Transfer:
    """
    Read ``iperf3 -J``.

    :raises LabError: with iperf3's own words if it failed.
    """
    got = read_end(text)["sum_received"]
    if not got["bytes"]:
        raise LabError("iperf3: no byte arrived")
    return Transfer(int(got["bytes"]), float(got["bits_per_second"]))


def server_command(host: str) -> list[str]:
    """An iperf3 server for one test; a fresh one each time cannot be busy with a test that was broken off."""
    return ["iperf3", "-s", "-1", "-B", host, "-p", str(TARGETS["bulk"])]


def client_command(running: Running, streams: int, to_client: bool, seconds: float) -> list[str]:
    """The iperf3 client for one test through `running`."""
    host, port = running.reach("bulk")
    argv = ["iperf3", "-c", host, "-p", str(port), "-J", "-t", f"{seconds:g}", "-P", str(streams)]
    return [*argv, "--connect-timeout", "3000", *(["-R"] if to_client else [])]


def settled_counters(running: Running, at_least: int) -> Counters:
    """The counters, once they cover `at_least` bytes, or as they are after a while."""
    deadline = time.monotonic() + _COUNTERS_LATE
    while True:
        now = running.counters()
        if now.bytes is None or now.bytes >= at_least or time.monotonic() > deadline:
            return now
        time.sleep(0.05)


class Transfers(Load):
    """One iperf3 test a sample, with `streams` parallel streams in one direction."""

    logs = Logs.COUNTERS

    def __init__(self, name: str, group: str, title: str, streams: int, to_client: bool) -> None:
        super().__init__(name, group, title)
        self._streams = streams
        self._to_client = to_client

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """One iperf3 test."""
        lab = running.lab
        address = lab.address(Place.SERVER)
        with lab.program(Place.SERVER, "iperf3-server", server_command(address)) as server:
            server.wait_listening([TARGETS["bulk"]])
            before, counted = running.cpu(), running.counters()
            argv = client_command(running, self._streams, self._to_client, scale.seconds)
            transfer = parse_iperf(lab.run(Place.CLIENT, argv, scale.seconds + 20))
            spent = running.cpu() - before
        figures = {"gbit_s": transfer.bits_a_second / 1e9}
        if running.program is not None:
            figures["cpu_s_gib"] = spent / (transfer.bytes / GIB)
            figures |= _counted(
                counted, settled_counters(running, (counted.bytes or 0) + transfer.bytes), transfer.bytes
            )
        return figures


class Bulk(Transfers):
    """Bulk as it is, or with another read size."""

    def __init__(self, streams: int, to_client: bool, read_size: int | None = None) -> None:
        towards = direction(to_client)
        said = f"{streams} stream{'s' * (streams > 1)}, {towards}"
        name, group, title = f"bulk-{streams}-{towards}", "bulk", f"Bulk, {said}"
        in_quick = streams == 8
        if read_size is not None:
            kib = read_size // 1024
            name, group, title = f"sweep-{kib}", "sweep", f"Bulk, read size {kib} KiB, {said}"
            in_quick = read_size in _QUICK_SIZES
        super().__init__(name, group, title, streams, to_client)
        self.in_quick = in_quick
        self.read_size = read_size

    def takes(self, peer: Peer) -> bool:
        """In the sweep, those whose read size can be set."""
        return self.read_size is None or peer.takes_read_size


def direction(to_client: bool) -> str:
    """How rows call a direction."""
    return "to-client" if to_client else "to-upstream"


def _counted(before: Counters, after: Counters, moved: int) -> dict[str, float]:
    """Bytes a system call and the share spliced, from two readings; `moved` bytes lie between them."""
    figures = {}
    if after.calls is not None and after.bytes is not None:
        calls = after.calls - (before.calls or 0)
        if calls > 0:
            figures["bytes_call"] = (after.bytes - (before.bytes or 0)) / calls
    if after.spliced is not None:
        figures["spliced_share"] = min(1.0, (after.spliced - (before.spliced or 0)) / moved)
    return figures


def rows() -> list[Load]:
    """Streams and directions, then the sweep with 8 streams to the client."""
    bulk = [Bulk(streams, to_client) for streams in (1, 8, 64) for to_client in (False, True)]
    return [*bulk, *(Bulk(8, True, size) for size in SIZES)]
