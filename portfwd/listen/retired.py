# -*- test-case-name: tests.listen.test_datagram_listener -*-
"""
Datagram sockets whose rule is gone while associations still use them.

An unconnected datagram socket cannot be drained as an accepting one: what the clients of its associations
send comes to it, and so does what new clients send. So it stays open until the last association is over, and
meanwhile

- a rule that wants to listen on the same address takes the socket over, with its associations (`revivable`);
- where a new listener has its port on every address, it serves new clients on behalf of that listener;
- where a new listener has one of its addresses, that one passes the datagrams of its associations to them
  (`join`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from portfwd.listen.datagram_binding import WILDCARDS
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.values import InetAddress


class RetiredListeners:
    """Those of one process, by what they listened on."""

    def __init__(self) -> None:
        self._listeners: dict[DatagramClients, Hashable] = {}

    def __repr__(self) -> str:
        return f"<RetiredListeners {list(self._listeners)}>"

    def __len__(self) -> int:
        self._forget_stopped()
        return len(self._listeners)

    def _forget_stopped(self) -> None:
        for one in tuple(self._listeners):
            if one.state != "stopping":
                del self._listeners[one]

    def add(self, listener: DatagramClients, key: Hashable) -> None:
        """
        `listener` has associations still.

        :param key: equal for listeners of which one socket can serve the other's rule.
        """
        self._listeners[listener] = key

    def revivable(self, key: Hashable) -> Sequence[DatagramClients]:
        """Those that a rule may have which listens on the same."""
        self._forget_stopped()
        found = [one for one, theirs in self._listeners.items() if theirs == key and not one.is_reserved]
        # The file of a unix socket may be another one's by now.
        return [one for one in found if one.file is None or one.file.is_there]

    def at_port(self, port: int) -> Sequence[DatagramClients]:
        """Those that have `port` on some address."""
        self._forget_stopped()
        return [
            one
            for one in self._listeners
            if isinstance(address := one.address, InetAddress) and address.port == port
        ]

    def at_path(self, path: str) -> Sequence[DatagramClients]:
        """Those whose file clients find under the name `path`."""
        self._forget_stopped()
        files = ((one, one.file) for one in self._listeners)
        return [one for one, file in files if file is not None and file.path == path and file.is_there]

    def join(self, fresh: DatagramClients) -> None:
        """Let each get its datagrams: `fresh`, which takes clients from now on, and those on its port."""
        address = fresh.address
        if not isinstance(address, InetAddress):
            return
        for one in self.at_port(address.port):
            theirs = one.address
            if one is fresh or not isinstance(theirs, InetAddress):
                continue
            if theirs.host in WILDCARDS:
                fresh.adopt(one)
            elif address.host in WILDCARDS:
                one.serve_for(fresh)

    def stop(self) -> None:
        """The process stops: end the associations that are silent."""
        self._forget_stopped()
        for one in tuple(self._listeners):
            one.stop()
