# -*- test-case-name: tests.bench.test_peers -*-
"""
No forwarder at all: the client goes straight to the server, through a router in the namespaces.

It bounds what any forwarder can reach here. It is no contestant: no goal refers to it.
"""

from __future__ import annotations

from bench.peers.api import Peer, Setup


class Direct(Peer):
    """Client to server."""

    name = "none"
    about = "client straight to server"
    starts = False
    takes_datagrams = True

    def version(self) -> str:
        """Nothing has no version."""
        return "-"

    def command(self, setup: Setup) -> list[str]:
        """There is nothing to start."""
        raise NotImplementedError
