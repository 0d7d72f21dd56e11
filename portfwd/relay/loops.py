# -*- test-case-name: tests.relay.test_loops -*-
"""
Detects loops: connections of this process to its own listeners that return to the same rule.

Rules may be chained: the target of one may be the listener of another. A connection that returns to a rule
that it has passed would continue for ever and use all descriptors within a second. Each connection to a
listener of this process is therefore stored under its local address. A client with that address is the same
connection; it has passed the rule of the session that dialled, and the rules that this session had passed.

The decision depends only on this evidence, not on the text of the rules or on DNS: a session is refused only
if its connection has passed the same rule before.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from portfwd.kernel.socket_addresses import is_own_address, local_address
from portfwd.values import Address, CloseReason, UnixAddress, as_inet, as_unix, unmapped

#: Number of times that a connection may pass one rule if clients chose the destination. A client of a proxy
#: may name the proxy itself as its destination.
MAX_PASSES: Final = 8

#: Most hosts for which the table stores whether they are addresses of this machine.
MAX_HOSTS: Final = 1024

#: Seconds for which such an entry is valid.
HOST_HOLDS: Final = 30.0

_EVERY: Final = "*"


class Passing(Protocol):
    """A session. :ivar passages: the sessions that its client's connection has passed before."""

    passages: Sequence[PassedSession]

    def kill(self, reason: CloseReason) -> None:
        """End the session now."""


class PassedSession(NamedTuple):
    """
    A session that a connection has passed.

    :ivar rule: rule of the session.
    :ivar is_chosen: whether the client chose the destination there.
    :ivar is_copy: whether it is a shadow of a session (`portfwd.relay.shadows`).
    """

    session: Passing
    rule: str
    is_chosen: bool
    is_copy: bool = False


def is_loop(passages: Sequence[PassedSession], rule: str) -> bool:
    """Whether a connection that has passed `passages` must not enter `rule`."""
    before = [passage.is_copy for passage in passages if passage.rule == rule]
    return bool(before) and (
        len(before) >= MAX_PASSES or any(before) or not any(passage.is_chosen for passage in passages)
    )


class Loops:
    """
    The connections of this process to its own listeners.

    :ivar open: whether there are any.
    """

    def __init__(
        self,
        now: Callable[[], float],
        is_own: Callable[[str], bool] = is_own_address,
        real: Callable[[str], str] = os.path.realpath,
    ) -> None:
        """
        :param now: returns seconds of a monotonic clock.
        :param is_own: returns whether a literal is an address of this machine.
        :param real: resolves the symbolic links of a path.
        """
        self._now = now
        self._real = real
        self._is_own = is_own
        self._ports: dict[int, set[str]] = {}
        self._paths: set[str] = set()
        self.hosts: dict[str, tuple[bool, float]] = {}
        self._passages: dict[tuple[Address, int], PassedSession] = {}
        self.open = False  # not a property: each session asks twice
        self.keys: dict[Passing, list[tuple[Address, int]]] = {}

    def __repr__(self) -> str:
        return f"<Loops {len(self._passages)} connections to ourselves>"

    def listens(self, address: Address) -> None:
        """
        Add an address on which this process listens.

        It need not be removed: entries for an address without a listener have no effect.
        """
        unix, inet = as_unix(address), as_inet(address)
        if unix is not None:
            self._paths.add(self._path(unix))
        elif inet is not None:
            literal = _literal(inet.host)
            every = literal is not None and literal.is_unspecified
            self._ports.setdefault(inet.port, set()).add(_EVERY if every or literal is None else literal.text)

    def may_reach(self, address: Address) -> bool:
        """Whether a connection to `address` may reach a listener of this process."""
        inet = as_inet(address)  # of most sessions
        if inet is not None:
            hosts = self._ports.get(inet.port)
            return hosts is not None and self._is_among(inet.host, hosts)
        unix = as_unix(address)
        return unix is not None and bool(self._paths) and self._path(unix) in self._paths

    def _path(self, address: UnixAddress) -> str:
        return address.path if address.path.startswith("@") else self._real(address.path)

    def _is_among(self, host: str, hosts: set[str]) -> bool:
        literal = _literal(host)
        if literal is None:
            return False
        if literal.text in hosts or literal.is_unspecified:
            return True
        return _EVERY in hosts and (literal.is_loopback or self._is_ours(host))

    def _is_ours(self, host: str) -> bool:
        now = self._now()
        known = self.hosts.get(host)
        if known is None or known[1] <= now:
            if len(self.hosts) >= MAX_HOSTS:
                self.hosts.clear()
            self.hosts[host] = known = (self._is_own(host), now + HOST_HOLDS)
        return known[0]

    def begun(self, passage: PassedSession, address: Address, sock: socket.socket) -> None:
        """Store the local address of `sock`, which `passage.session` connects to `address`."""
        local = local_address(sock)
        if local is not None:
            self.connected(passage, address, local)

    def connected(self, passage: PassedSession, address: Address, local: Address) -> None:
        """Store that the session of `passage` connects from `local` to `address`."""
        key = (local, _port(address))
        self._passages[key] = passage
        self.open = True
        self.keys.setdefault(passage.session, []).append(key)

    def passages_of(self, client: Address | None, local: Address | None) -> Sequence[PassedSession]:
        """The sessions that a connection from `client` to `local` has passed; empty for other clients."""
        if client is None or local is None:
            return ()
        passage = self._passages.get((client, _port(local)))
        return () if passage is None else (*passage.session.passages, passage)

    def left(self, session: Passing) -> None:
        """Remove the entries of `session`, which has ended."""
        for key in self.keys.pop(session, ()):
            passage = self._passages.get(key)
            if passage is not None and passage.session is session:
                del self._passages[key]
        self.open = bool(self._passages)


def _port(address: Address) -> int:
    inet = as_inet(address)
    return 0 if inet is None else inet.port


class _Literal(NamedTuple):
    """An address in the form used for comparison. :ivar text: canonical text; IPv4-mapped ones as IPv4."""

    text: str
    is_unspecified: bool
    is_loopback: bool


def _read_literal(host: str) -> _Literal | None:
    try:
        address = ipaddress.ip_address(unmapped(host))
    except ValueError:
        return None
    return _Literal(str(address), address.is_unspecified, address.is_loopback)


# Called for each session of a rule whose target port is also listened on here, as in :80 -> 10.0.0.5:80.
_literal: Final = lru_cache(maxsize=MAX_HOSTS)(_read_literal)
