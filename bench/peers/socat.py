# -*- test-case-name: tests.bench.test_peers -*-
"""
socat: a process for each port, and a child for each connection.

It is here because many people forward with it; its blocks are 64 KiB.
"""

from __future__ import annotations

import shlex

from bench.peers.api import Peer, Setup, said_by


class Socat(Peer):
    """socat."""

    name = "socat"
    about = "fork, -b 65536"
    forks = True
    logs_access = False
    in_quick = False
    takes_read_size = True
    takes_datagrams = True

    def version(self) -> str:
        """As ``socat -V`` says."""
        said_by(["socat", "-V"])
        return said_by(["sh", "-c", "socat -V | sed -n 's/^socat version \\([^ ]*\\).*/\\1/p'"])

    def command(self, setup: Setup) -> list[str]:
        """One socat for each port beneath one shell, so that all are accounted for together."""
        size = setup.read_size or 65536
        starts = [
            shlex.join(
                [
                    "socat",
                    "-b",
                    str(size),
                    f"TCP-LISTEN:{forward.port},bind={setup.host},fork,reuseaddr,backlog=4096",
                    f"TCP:{forward.target_host}:{forward.target_port}",
                ]
            )
            for forward in setup.forwards
        ]
        if setup.datagrams:
            starts += [
                shlex.join(
                    [
                        "socat",
                        "-b",
                        str(size),
                        f"UDP-LISTEN:{forward.port},bind={setup.host},fork,reuseaddr",
                        f"UDP:{forward.target_host}:{forward.target_port}",
                    ]
                )
                for forward in setup.forwards
            ]
        return ["sh", "-c", " & ".join(starts) + " & wait"]
