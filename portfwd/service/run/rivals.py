# -*- test-case-name: tests.service.run.test_transition -*-
"""
Old listeners whose address a new listener needs.

For a moment both have it: ports are shared (``SO_REUSEPORT``), and the file of the old unix socket gets
another name. Both can be undone.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from portfwd.listen.binding import share_port
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.listen.listener import Listener
from portfwd.listen.retired import RetiredListeners
from portfwd.rules.model import DATAGRAM_KINDS, UNIX_KINDS
from portfwd.service.build.bound import Bound
from portfwd.service.build.build import Binder, Planned
from portfwd.service.build.datagrams import socket_key
from portfwd.service.build.endpoints import address_of, endpoint_beside
from portfwd.service.build.unix_port import UnixPort
from portfwd.values import Address, InetAddress

#: The place of a listener: a port on any address, or a path.
Place = int | str


class Rivals:
    """The rivals of one reload."""

    def __init__(self, retired: RetiredListeners) -> None:
        """:param retired: datagram sockets that still have associations."""
        self._retired = retired
        self._at: dict[Place, list[Bound]] = {}
        self._shared: list[socket.socket] = []
        self._aside: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Rivals at {list(self._at)}>"

    def add(self, bound: Bound) -> None:
        """Add `bound`, which is closed if the reload is applied."""
        if bound.closed:
            return
        place = _place(Planned(bound.live, bound.offset, bound.endpoint))
        # A rule may have any free port; then the kernel has chosen one for each of its addresses.
        for one in _chosen_ports(bound) if place is None else {place}:
            self._at.setdefault(one, []).append(bound)

    def bound_at(self, planned: Planned) -> Sequence[Bound]:
        """The listeners at the place of `planned`."""
        place = _place(planned)
        return () if place is None else self._at.get(place, ())

    def of(self, planned: Planned) -> list[Listener | DatagramClients]:
        """The sockets of portfwd at the place of `planned`."""
        found = [listener for bound in self.bound_at(planned) for listener in bound.listeners]
        place = _place(planned)
        if isinstance(place, str):
            found += self._retired.at_path(place)
        elif place is not None and planned.live.rule.listen.kind in DATAGRAM_KINDS:
            found += self._retired.at_port(place)
        return found

    def of_datagrams(self, planned: Planned) -> list[DatagramClients]:
        """The listeners whose datagrams a socket for `planned` receives as soon as it is bound."""
        if planned.live.rule.listen.kind not in DATAGRAM_KINDS:
            return []
        return [one for one in self.of(planned) if isinstance(one, DatagramClients)]

    def bind(
        self, binder: Binder, planned: Planned, resolve: Callable[[str], Sequence[str]] | None = None
    ) -> Bound:
        """
        Bind the sockets of `planned` beside the listeners at its place.

        :raises OSError, ValueError: it cannot be bound. The changes to others must be undone.
        """
        listen = planned.live.rule.listen
        if planned.endpoint is not None:
            made = binder.bind(planned, resolve)
            self.step_aside(planned)
            # An endpoint object of an embedding program binds its port itself.
            if listen.given is None and self.share_port(planned):
                made.endpoints = [endpoint_beside(binder.reactor, listen.path)]
            return made
        if listen.kind in UNIX_KINDS and not self._has_revivable(planned):
            self.step_aside(planned)
        try:
            return binder.bind(planned, resolve)
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE or not self.share_port(planned):
                raise
            return binder.bind(planned, resolve, share=True)

    def _has_revivable(self, planned: Planned) -> bool:
        """Whether there is a socket that can be given to `planned`."""
        key = socket_key(planned.live.rule.listen, planned.offset)
        return bool(self._retired.revivable(key))

    def can_be_had(self, planned: Planned) -> bool:
        """Whether a listener of this process has the place of `planned` and will leave it."""
        return bool(self.bound_at(planned) or self.of(planned))

    def share_port(self, planned: Planned) -> bool:
        """
        Allow binding a socket for `planned` beside the others; return whether there are any.

        :raises OSError: the kernel refused.
        """
        found = [one.sock for one in self.of(planned)]
        found += [sock for bound in self.bound_at(planned) for sock in _of_twisted(bound)]
        found = [sock for sock in found if _has_port(sock)]
        for sock in found:
            share_port(sock, True)
            self._shared.append(sock)
        return bool(found)

    def stop_sharing(self, fresh: Iterable[Bound]) -> None:
        """
        Forbid further binding to shared ports.

        :param fresh: the new sockets.
        """
        shared, self._shared = self._shared, []
        if not shared:
            return
        for bound in fresh:
            shared += [listener.sock for listener in bound.listeners]
            shared += _of_twisted(bound)
        for sock in shared:
            if _has_port(sock):
                share_port(sock, False)

    def step_aside(self, planned: Planned) -> None:
        """
        Free the name for a unix socket of `planned`.

        :raises OSError: the file cannot be renamed.
        """
        if not isinstance(_place(planned), str):
            return
        for one in self.of(planned):
            if one.file is not None:
                self._aside.append(partial(one.file.step_back, one.sock))
                one.file.step_aside(one.sock)
        for port in (port for bound in self.bound_at(planned) for port in bound.ports):
            if isinstance(port, UnixPort):
                self._aside.append(port.step_back)
                port.step_aside()

    def taking_back(self) -> Iterator[Callable[[], None]]:
        """Functions that restore these names. They may raise `OSError`."""
        while self._aside:
            yield self._aside.pop()


def _of_twisted(bound: Bound) -> list[socket.socket]:
    ports: list[Any] = list(bound.ports)
    return [port.socket for port in ports if hasattr(port, "socket")]


def _has_port(sock: socket.socket) -> bool:
    return sock.fileno() >= 0 and sock.family != getattr(socket, "AF_UNIX", None)


def _chosen_ports(bound: Bound) -> set[Place]:
    """The ports of the listeners of a rule that has any free port."""
    addresses = [one.address for one in bound.listeners]
    return {one.port for one in addresses if isinstance(one, InetAddress)}


def _place(planned: Planned) -> Place | None:
    """The place of `planned`; None if unknown, or for any free port."""
    listen = planned.live.rule.listen
    if listen.ports is not None:
        return (listen.ports.first + planned.offset) or None
    if listen.kind in UNIX_KINDS:
        return listen.path
    if planned.endpoint is not None:
        try:
            return _place_of(address_of(listen.path))
        except Exception:  # whatever Twisted's parsers and plug-ins raise
            return None
    return None


def _place_of(address: Address | None) -> Place | None:
    if isinstance(address, InetAddress):
        return address.port or None
    return None if address is None else address.path
