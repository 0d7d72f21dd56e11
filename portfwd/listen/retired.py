# -*- test-case-name: tests.listen.test_datagram_listener -*-
"""
Datagram sockets of removed rules that still have associations.

An unconnected datagram socket cannot be drained like an accepting one, because it receives the datagrams of
both its associations and of new clients. It stays open until its last association ends. Meanwhile:

- A rule that listens on the same address takes the socket over, with its associations (`revivable`).
- If a new listener has the same port on all addresses, this socket serves new clients for that listener.
- If a new listener has one of its addresses, that one passes datagrams of old associations to them (`join`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from portfwd.listen.datagram_binding import WILDCARDS
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.values import InetAddress


class RetiredListeners:
    """The retired listeners of a process, by address."""

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
        Add `listener`, which still has associations.

        :param key: equal for listeners that can serve each other's rules.
        """
        self._listeners[listener] = key

    def revivable(self, key: Hashable) -> Sequence[DatagramClients]:
        """The listeners that a rule with the same address may take over."""
        self._forget_stopped()
        found = [one for one, theirs in self._listeners.items() if theirs == key and not one.is_reserved]
        # The file of a unix socket may belong to another socket by now.
        return [one for one in found if one.file is None or one.file.is_there]

    def at_port(self, port: int) -> Sequence[DatagramClients]:
        """The listeners with `port` on any address."""
        self._forget_stopped()
        return [
            one
            for one in self._listeners
            if isinstance(address := one.address, InetAddress) and address.port == port
        ]

    def at_path(self, path: str) -> Sequence[DatagramClients]:
        """The listeners whose file still has the name `path`."""
        self._forget_stopped()
        files = ((one, one.file) for one in self._listeners)
        return [one for one, file in files if file is not None and file.path == path and file.is_there]

    def join(self, fresh: DatagramClients) -> None:
        """Exchange datagrams between `fresh`, which serves new clients, and retired listeners on its port."""
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
        """The process stops: end silent associations."""
        self._forget_stopped()
        for one in tuple(self._listeners):
            one.stop()
