# -*- test-case-name: tests.bench.test_peers -*-
"""
HAProxy in TCP mode, one thread: splicing at its best known setting, and copying.

That bytes were really spliced is read from ``TotalSplicdedBytesOut`` (its
spelling) on the statistics socket, not believed.
"""

from __future__ import annotations

import re
import socket
from typing import ClassVar, Final

from bench.peers.api import Counters, Logs, Peer, Setup, said_by
from bench.processes import Program, descriptors

_PIPES: Final = 128
_TIMEOUTS: Final = "    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n"


class HAProxy(Peer):
    """HAProxy, copying."""

    name = "haproxy-copy"
    about = "nbthread 1, no splicing"
    takes_read_size = True
    _splices: ClassVar[bool] = False

    def version(self) -> str:
        """As ``haproxy -v`` says."""
        return said_by(["haproxy", "-v"]).split(" 20")[0].removeprefix("HAProxy version ")

    def configuration(self, setup: Setup) -> str:
        """Its configuration file."""
        tuning = ""
        if self._splices:
            tuning += f"    tune.pipesize {setup.read_size or 1048576}\n"
        elif setup.read_size:
            tuning += f"    tune.bufsize {setup.read_size}\n"
        # It refuses to start with a limit that its descriptors do not cover: two a session, two a pipe,
        # one a listener. The pipes are enough for 64 streams in both directions.
        maximum = (descriptors() - 2 * _PIPES - len(setup.forwards) - 200) // 2
        parts = [
            "global\n    nbthread 1\n"
            f"    maxconn {maximum}\n    maxpipes {_PIPES}\n"
            f"    stats socket {setup.folder}/stats.sock mode 600 level admin\n{tuning}",
            f"defaults\n    mode tcp\n    maxconn {maximum}\n{_TIMEOUTS}",
        ]
        if self._splices:
            # Not splice-auto: 2.6 then judged iperf3's streams unworthy and spliced none of their bytes.
            parts.append("    option splice-request\n    option splice-response\n")
        if setup.logs is Logs.ON:
            parts.append("    log stdout format raw local0\n    option tcplog\n")
        parts += [
            f"listen {forward.name}\n    bind {setup.host}:{forward.port}\n"
            f"    server s {forward.target_host}:{forward.target_port}\n"
            for forward in setup.forwards
        ]
        return "".join(parts)

    def command(self, setup: Setup) -> list[str]:
        """Master-less, in the foreground."""
        path = setup.folder / "haproxy.cfg"
        path.write_text(self.configuration(setup))
        return ["haproxy", "-db", "-f", str(path)]

    def counters(self, setup: Setup, program: Program) -> Counters:
        """Ask the statistics socket."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            asking.connect(f"{setup.folder}/stats.sock")
            asking.sendall(b"show info\n")
            said = b""
            while piece := asking.recv(65536):
                said += piece
        return parse_info(said.decode())


class HAProxySplice(HAProxy):
    """HAProxy, splicing."""

    name = "haproxy-splice"
    about = "nbthread 1, splice-request, splice-response, tune.pipesize 1048576"
    _splices = True


def parse_info(text: str) -> Counters:
    """The counters in the answer to ``show info``."""

    def number(pattern: str) -> int | None:
        match = re.search(rf"^{pattern}: (\d+)$", text, re.MULTILINE)
        return int(match[1]) if match else None

    return Counters(number("TotalBytesOut"), None, number(r"TotalSplic\w*BytesOut"))
