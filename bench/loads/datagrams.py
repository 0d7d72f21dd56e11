# -*- test-case-name: tests.bench.test_loads -*-
"""
Datagrams: iperf3 sends as many as it can, of one size, from one client.

The figure is how many of them the server got in a second: what a forwarder cannot keep up with is lost on the
way, as datagrams are. How much was lost says how far the sender was ahead, and is no goal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen

from bench.lab import Place
from bench.loads.api import TARGETS, Load, Running, Scale
from bench.loads.bulk import read_end, server_command
from bench.peers.api import Peer
from bench.processes import LabError

SIZES: Final = (64, 1200, 1472)


@frozen
class Shower:
    """What iperf3's server got: datagrams, those that did not come, and seconds."""

    received: int
    lost: int
    seconds: float


def parse_datagrams(text: str) -> Shower:
    """
    Read ``iperf3 -u -J``.

    :raises LabError: with iperf3's own words if it failed.
    """
    end = read_end(text)
    sent, got = end["sum_sent"], end["sum_received"]
    # By bytes: packets of what was received are counted by their numbers, lost ones among them.
    received = int(sent["packets"]) * int(got["bytes"]) // max(1, int(sent["bytes"]))
    if not received:
        raise LabError("iperf3: no datagram arrived")
    return Shower(received, int(sent["packets"]) - received, float(got["seconds"]))


class Datagrams(Load):
    """One iperf3 test a sample."""

    datagrams = True

    def __init__(self, size: int) -> None:
        super().__init__(f"udp-{size}", "udp", f"UDP, datagrams of {size} B")
        self._size = size
        self.in_quick = size == 1200

    def takes(self, peer: Peer) -> bool:
        """Those who forward them; portfwd's kinds of relay are all the same here."""
        return peer.takes_datagrams

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """One iperf3 test; its own connection is TCP, to the same port."""
        lab = running.lab
        with lab.program(Place.SERVER, "iperf3-server", server_command(lab.address(Place.SERVER))) as server:
            server.wait_listening([TARGETS["bulk"]])
            before = running.cpu()
            host, port = running.reach("bulk")
            argv = ["iperf3", "-c", host, "-p", str(port), "-J", "-u", "-b", "0", "-l", str(self._size)]
            argv += ["-t", f"{scale.seconds:g}", "--connect-timeout", "3000"]
            shower = parse_datagrams(lab.run(Place.CLIENT, argv, scale.seconds + 20))
            spent = running.cpu() - before
        figures = {
            "datagrams_s": shower.received / shower.seconds,
            "lost_share": shower.lost / (shower.received + shower.lost),
        }
        if running.program is not None:
            figures["cpu_us"] = spent / shower.received * 1e6
        return figures


def rows() -> list[Load]:
    """Three sizes: a small one, what QUIC sends, and the most that Ethernet carries whole."""
    return [Datagrams(size) for size in SIZES]
